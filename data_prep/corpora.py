"""Readers: a folder of audio → utterances with labels. One small function a corpus.

To add a corpus, write `read_<name>(root, tables_dir)` and enter it in READERS; or describe it in a
table and use the `csv` reader.
"""

import csv
import dataclasses
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from ser_jax import audio
from ser_jax.errors import UserError

SYNTHETIC_MARKER = "SYNTHETIC.txt"  # present in every made corpus, so that none passes for speech


@dataclasses.dataclass(frozen=True)
class Utterance:
    """One labelled clip.

    Attributes:
      id: unique in its corpus, and stable: splits and augmentation hang on it.
      path: the audio file.
      emotion: one of Corpus.labels.
      speaker: who speaks.
      attributes: whatever else the corpus knows (sentence, level, sex, age, …), as text; the same
        keys for each utterance of a corpus.
      votes: listeners' votes for each of Corpus.labels, or () where nobody was asked.
    """

    id: str
    path: Path
    emotion: str
    speaker: str
    attributes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    votes: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Utterances sorted by id, and the label set they are drawn from.

    Attributes:
      name: the reader's name.
      title: what results call it.
      labels: class names; a label is an index into them.
      utterances: sorted by id.
      ignored: audio files that the reader did not take for utterances.
    """

    name: str
    title: str
    labels: tuple[str, ...]
    utterances: tuple[Utterance, ...]
    ignored: tuple[Path, ...] = ()


def read(
    name: str,
    root: Path,
    *,
    emotions: Sequence[str] = (),
    tables_dir: Path | None = None,
    drop_defects: bool = False,
) -> Corpus:
    """Reads a corpus.

    Args:
      name: a key of READERS.
      root: the folder with the audio, at any depth (for `csv`: the table).
      emotions: keep only these classes; () keeps all that the corpus has.
      tables_dir: where the corpus's own tables are (CREMA-D: votes, actors); None means `root`.
      drop_defects: leave out the clips that are known to be silent or labelled twice.

    Raises:
      UserError: nothing usable is there, or it belongs to another reader.
    """
    if name not in READERS:
        raise UserError(f"corpus.name={name!r} is unknown; use one of {', '.join(READERS)}.")
    if not root.exists():
        raise UserError(f"corpus.root={root} does not exist; set --config.corpus.root.")
    made = (root / SYNTHETIC_MARKER).exists()
    if made and name != "synthetic":
        raise UserError(f"{root} holds a made corpus; read it with --config.corpus.name=synthetic.")
    if not made and name == "synthetic":
        raise UserError(f"{root} holds no made corpus; choose an empty folder as corpus.root.")
    corpus = READERS[name](root, tables_dir or root)
    if emotions:
        corpus = _keep_emotions(corpus, emotions)
    if drop_defects:
        kept = tuple(u for u in corpus.utterances if u.id not in CREMA_D_DEFECTS)
        corpus = dataclasses.replace(corpus, utterances=kept)
    return corpus


def find_audio(root: Path) -> list[Path]:
    """All audio files below `root`, sorted; hidden files and folders are passed over.

    Raises:
      UserError: there is none.
    """
    if root.is_file():
        raise UserError(f"{root} is a file; this reader wants the folder that holds the audio.")
    found = []
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        found += [
            Path(folder, n)
            for n in sorted(names)
            if not n.startswith(".") and Path(n).suffix.lower() in audio.SUFFIXES
        ]
    if not found:
        raise UserError(f"no audio file was found below {root}; check --config.corpus.root.")
    return found


# ── CREMA-D ───────────────────────────────────────────────────────────────────────────────────
# Names and codes: github.com/CheyneyComputerScience/CREMA-D, README.
CREMA_D_NAME = re.compile(
    r"(?P<actor>\d{4})_(?P<sentence>[A-Z]{3})_(?P<code>[A-Z]{3})_(?P<level>[A-Z]{1,2})"
)
CREMA_D_EMOTIONS = {
    "ANG": "anger",
    "DIS": "disgust",
    "FEA": "fear",
    "HAP": "happiness",
    "NEU": "neutral",
    "SAD": "sadness",
}
# The silent clip, and the three byte-identical pairs that carry two labels each.
CREMA_D_DEFECTS = frozenset(
    """1076_MTI_SAD_XX 1006_TIE_HAP_XX 1006_TIE_NEU_XX 1013_WSI_DIS_XX 1013_WSI_SAD_XX
    1017_IWW_ANG_XX 1017_IWW_FEA_XX""".split()
)


def crema_d_id(stem: str) -> str:
    """The id of a clip; old copies of the corpus end 1040_ITH_SAD_XX with a single X."""
    return stem + "X" if stem.endswith("_X") else stem


def read_crema_d(root: Path, tables_dir: Path) -> Corpus:
    """CREMA-D by its file names, `<actor>_<sentence>_<emotion>_<level>`."""
    actors, votes = _crema_d_actors(tables_dir), _crema_d_votes(tables_dir)

    def utterance(path: Path) -> Utterance | None:
        name = crema_d_id(path.stem)
        match = CREMA_D_NAME.fullmatch(name)
        if not match:
            return None
        emotion = _look_up(CREMA_D_EMOTIONS, match["code"], path)
        actor = actors.get(match["actor"], {})
        return Utterance(
            id=name,
            path=path,
            emotion=emotion,
            speaker=match["actor"],
            attributes={
                "sentence": match["sentence"],
                "level": match["level"],
                "sex": actor.get("Sex", "").lower(),
                "age": actor.get("Age", ""),
            },
            votes=votes.get(name, ()),
        )

    return _by_name("crema_d", "CREMA-D", CREMA_D_EMOTIONS.values(), root, utterance)


def _crema_d_actors(tables_dir: Path) -> dict[str, dict[str, str]]:
    table = _find_table(tables_dir, "VideoDemographics.csv")
    return {row["ActorID"]: row for row in _rows(table)} if table else {}


def _crema_d_votes(tables_dir: Path) -> dict[str, tuple[int, ...]]:
    """Voice-only votes of each clip, in the order of CREMA_D_EMOTIONS (columns A D F H N S)."""
    table = _find_table(tables_dir, "tabulatedVotes.csv")
    if not table:
        return {}
    return {
        crema_d_id(row["fileName"]): tuple(int(row[code[0]]) for code in CREMA_D_EMOTIONS)
        for row in _rows(table)
        if int(row[""]) // 100_000 == 1  # 1 voice, 2 face, 3 both
    }


def _find_table(folder: Path, name: str) -> Path | None:
    """Upstream keeps some tables in processedResults/; a downloaded copy may be flat."""
    return next(
        (p for p in (folder / name, folder / "processedResults" / name) if p.is_file()), None
    )


# ── The made corpus ───────────────────────────────────────────────────────────────────────────
def read_synthetic(root: Path, tables_dir: Path) -> Corpus:
    """The corpus that data_prep.synthetic writes: CREMA-D names, no human voice."""
    corpus = read_crema_d(root, tables_dir)
    return dataclasses.replace(corpus, name="synthetic", title="synthetic voices (not speech)")


# ── RAVDESS ───────────────────────────────────────────────────────────────────────────────────
# Livingstone & Russo, PLoS ONE 13(5): e0196391, 2018: modality-channel-emotion-level-statement-…
RAVDESS_NAME = re.compile(
    r"\d\d-(?P<channel>\d\d)-(?P<code>\d\d)-(?P<level>\d\d)-(?P<statement>\d\d)-\d\d-(?P<actor>\d\d)"
)
RAVDESS_EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happiness",
    "04": "sadness",
    "05": "anger",
    "06": "fear",
    "07": "disgust",
    "08": "surprise",
}


def read_ravdess(root: Path, tables_dir: Path) -> Corpus:
    """The spoken clips of RAVDESS by their file names; sung ones are ignored."""
    del tables_dir

    def utterance(path: Path) -> Utterance | None:
        match = RAVDESS_NAME.fullmatch(path.stem)
        if not match or match["channel"] != "01":
            return None
        return Utterance(
            id=path.stem,
            path=path,
            emotion=_look_up(RAVDESS_EMOTIONS, match["code"], path),
            speaker=match["actor"],
            attributes={
                "sentence": match["statement"],
                "level": {"01": "normal", "02": "strong"}.get(match["level"], match["level"]),
                "sex": "male" if int(match["actor"]) % 2 else "female",
            },
        )

    return _by_name("ravdess", "RAVDESS", RAVDESS_EMOTIONS.values(), root, utterance)


# ── A user's own corpus ───────────────────────────────────────────────────────────────────────
def read_csv(root: Path, tables_dir: Path) -> Corpus:
    """A table with the columns path, emotion, speaker and any others (kept as attributes).

    `root` is the table, or a folder with corpus.csv. Paths are relative to the table's folder and
    stay inside it; a path without its ending serves as the id.
    """
    del tables_dir
    table = root / "corpus.csv" if root.is_dir() else root
    if not table.is_file():
        raise UserError(f"{table} does not exist; the csv reader wants a table there.")
    rows = _rows(table)
    needed = {"path", "emotion", "speaker"}
    if not rows or not needed <= rows[0].keys():
        raise UserError(
            f"{table} needs a header with path, emotion, speaker, and at least one row."
        )
    utterances = []
    for line, row in enumerate(rows, start=2):
        missing = sorted(k for k in needed if not row[k])
        if missing or None in row or None in row.values():
            raise UserError(
                f"{table}, line {line}: {', '.join(missing) or 'a column'} is wrong or empty."
            )
        path = Path(os.path.normpath(row["path"]))
        if path.is_absolute() or path.parts[0] == "..":
            raise UserError(
                f"{table}, line {line}: {row['path']} leaves the table's folder; use a path inside it."
            )
        utterances.append(
            Utterance(
                id=path.with_suffix("").as_posix(),
                path=table.parent / path,
                emotion=row["emotion"],
                speaker=row["speaker"],
                attributes={k: v for k, v in row.items() if k not in needed},
            )
        )
    repeated = [i for i, n in Counter(u.id for u in utterances).items() if n > 1]
    if repeated:
        raise UserError(f"{table} lists {repeated[0]} more than once; keep one row a clip.")
    labels = sorted({u.emotion for u in utterances})
    return Corpus("csv", table.stem, tuple(labels), tuple(sorted(utterances, key=lambda u: u.id)))


# ── What the readers share ────────────────────────────────────────────────────────────────────
def _by_name(
    name: str,
    title: str,
    emotions: Iterable[str],
    root: Path,
    utterance: Callable[[Path], Utterance | None],
) -> Corpus:
    """A corpus whose labels are in its file names."""
    found: dict[str, Utterance] = {}
    ignored = []
    # CREMA-D ships damaged MP3s under the names of its WAVs: a lossy copy never wins.
    for path in sorted(find_audio(root), key=lambda p: (p.suffix.lower() == ".mp3", p)):
        this = utterance(path)
        if this is None or (path.suffix.lower() == ".mp3" and this.id in found):
            ignored.append(path)
        elif this.id in found:
            raise UserError(
                f"{this.id} is there twice, as {found[this.id].path} and {path}; remove one."
            )
        else:
            found[this.id] = this
    if not found:
        raise UserError(
            f"no file below {root} is named as {title} names its clips (the first is "
            f"{ignored[0].name}); check --config.corpus.name."
        )
    return Corpus(
        name,
        title,
        tuple(sorted(emotions)),
        tuple(found[i] for i in sorted(found)),
        tuple(ignored),
    )


def _keep_emotions(corpus: Corpus, emotions: Sequence[str]) -> Corpus:
    unknown = sorted(set(emotions) - set(corpus.labels))
    if unknown:
        raise UserError(
            f"corpus.emotions names {unknown[0]!r}, which {corpus.title} does not have; it has "
            f"{', '.join(corpus.labels)}."
        )
    keep = [i for i, label in enumerate(corpus.labels) if label in emotions]
    return dataclasses.replace(
        corpus,
        labels=tuple(corpus.labels[i] for i in keep),
        utterances=tuple(
            dataclasses.replace(u, votes=tuple(u.votes[i] for i in keep) if u.votes else ())
            for u in corpus.utterances
            if u.emotion in emotions
        ),
    )


def _look_up(codes: Mapping[str, str], code: str, path: Path) -> str:
    if code not in codes:
        raise UserError(
            f"{path} has the unknown emotion code {code}; the codes are {', '.join(codes)}."
        )
    return codes[code]


def _rows(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


READERS: Mapping[str, Callable[[Path, Path], Corpus]] = {
    "crema_d": read_crema_d,
    "ravdess": read_ravdess,
    "csv": read_csv,
    "synthetic": read_synthetic,
}
