"""A user's own corpus, described by a CSV table."""

import math
import os
import unicodedata
from pathlib import Path, PureWindowsPath

from data_prep.corpora.corpus import Corpus, CorpusSpec, Utterance
from data_prep.corpora.rows import Row, is_missing, read_rows, refuse_alike
from ser_jax.audio.waveform import WHOLE, Segment
from ser_jax.common.errors import UserError

REQUIRED = ("path", "emotion", "speaker")
SEGMENT = ("start", "end")
_LONGEST_NAME = 255  # bytes
USED = {*REQUIRED, *SEGMENT}
SYNONYMS = {
    "path": "file filename file_name filepath file_path audio audio_path audio_file wav".split(),
    "emotion": "label emotion_label class category".split(),
    "speaker": "spk spk_id speaker_id speakerid speaker_name actor actor_id".split(),
}


def read(spec: CorpusSpec, root: Path, tables_dir: Path) -> Corpus:
    """Read a table with the columns path, emotion, speaker; further columns become attributes.

    `root` is the table or a folder with corpus.csv. Paths are relative to the table's folder and
    must stay inside it; a path without its extension is the clip's id. Columns start and end,
    seconds, make a clip of a part of a file; an empty end is that of the file.

    Raises:
      UserError: there is no table, or a row is wrong.
    """
    del tables_dir  # the table has everything
    table = root / "corpus.csv" if root.is_dir() else root
    if not table.is_file():
        raise UserError(f"{table} does not exist; corpus.name=csv needs a table there.")
    utterances = [_utterance(table, row) for row in read_rows(table, REQUIRED, SYNONYMS, SEGMENT)]
    places: dict[str, str] = {}
    for u in utterances:
        if u.id in places:
            raise UserError(
                f"{table} lists {u.id} more than once ({places[u.id]}, {u.place}); keep one row "
                "per clip."
            )
        places[u.id] = u.place
    refuse_alike("files", places, exact_digits=True)
    labels = sorted({u.emotion for u in utterances})
    by_id = tuple(sorted(utterances, key=lambda u: u.id))
    return Corpus(spec.name, table.stem, tuple(labels), by_id, licence=spec.licence)


def _utterance(table: Path, row: Row) -> Utterance:
    values, place = row.values, f"{table.name}, line {row.line}"
    if not values["path"]:
        raise UserError(f"{table}, line {row.line}: path is empty; correct the row.")
    path = _inside(table, row)
    segment = _segment(table, row)
    return Utterance(
        id=segment.id_of(path.with_suffix("").as_posix()),
        path=_on_disk(table.parent, path),
        emotion=values["emotion"],
        speaker=values["speaker"],
        attributes={name: value for name, value in values.items() if name not in USED},
        segment=segment,
        place=place,
    )


def _segment(table: Path, row: Row) -> Segment:
    seconds = []
    for name, default in zip(SEGMENT, WHOLE, strict=True):
        text = row.values.get(name, "")
        try:
            seconds.append(default if is_missing(text) else float(text))
        except ValueError:
            seconds.append(math.nan)
    segment = Segment(*seconds)
    if not 0 <= segment.start < segment.end:
        raise UserError(
            f"{table}, line {row.line}: start and end are "
            f"{' and '.join(repr(row.values.get(name, '')) for name in SEGMENT)}; give seconds, "
            "start before end, such as 0.5 and 1.75; an empty end is the end of the file."
        )
    return segment


def _inside(table: Path, row: Row) -> Path:
    """Return a row's path relative to the table's folder; backslashes separate unless they exist.

    Raises:
      UserError: it is outside.
    """
    text = row.values["path"]
    path, is_absolute = Path(os.path.normpath(text)), False
    if "\\" in text and not os.path.lexists(table.parent / text):
        windows = PureWindowsPath(text)
        path, is_absolute = Path(os.path.normpath(windows.as_posix())), bool(windows.anchor)
    if is_absolute or path.is_absolute() or path.parts[:1] in ((), ("..",)):
        raise UserError(
            f"{table}, line {row.line}: {text} leaves the table's folder; use a path inside it."
        )
    if any(len(os.fsencode(part)) > _LONGEST_NAME for part in path.parts):
        raise UserError(f"{table}, line {row.line}: {text[:80]}… is too long for a file name.")
    return path


def _on_disk(folder: Path, path: Path) -> Path:
    """Return the file, whichever Unicode form its name has on disk."""
    if str(path).isascii() or os.path.lexists(folder / path):
        return folder / path
    for part in path.parts:
        names = os.listdir(folder) if folder.is_dir() else []
        folder /= next((n for n in names if unicodedata.normalize("NFC", n) == part), part)
    return folder


# The data defines the labels, and the title is the name of the table.
SPEC = CorpusSpec(name="csv", title="", reader=read, labels=None)
