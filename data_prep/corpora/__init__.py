"""Corpora: a folder of audio → labelled utterances. One file per corpus.

To add a corpus, write a file with its SPEC and enter it in CORPORA; or describe your clips in a
table and use `csv`.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from data_prep.corpora import crema_d, ravdess, synthetic, table
from data_prep.corpora.corpus import Corpus, CorpusSpec, Utterance
from ser_jax.common.errors import UserError
from ser_jax.common.tables import clean, is_missing, listed, refuse_alike

__all__ = ["CORPORA", "Corpus", "CorpusSpec", "Utterance", "read"]

CORPORA: dict[str, CorpusSpec] = {
    "crema_d": crema_d.SPEC,
    "ravdess": ravdess.SPEC,
    "csv": table.SPEC,
    "synthetic": synthetic.SPEC,
}


def read(
    name: str,
    root: Path,
    *,
    emotions: Sequence[str] = (),
    tables_dir: Path | None = None,
    drop_defects: bool = False,
    label_map: Sequence[str] = (),
) -> Corpus:
    """Read a corpus.

    Args:
      name: a key of CORPORA.
      root: the folder with the audio, at any depth (for `csv`: or the table).
      emotions: the classes to keep; () keeps all.
      tables_dir: the folder of the corpus's own tables (CREMA-D: votes, actors); None means `root`.
      drop_defects: leave out the clips of CorpusSpec.defects.
      label_map: "old=new" renames or merges classes before `emotions` chooses among them; "old="
        leaves out the clips of a class.

    Raises:
      UserError: there is nothing usable, or `root` holds another kind of corpus.
    """
    if name not in CORPORA:
        raise UserError(f"corpus.name={name!r} is unknown; use one of {', '.join(CORPORA)}.")
    if not root.exists():
        raise UserError(f"corpus.root={root} does not exist; set --config.corpus.root.")
    is_synthetic = (root / synthetic.MARKER).exists()
    if is_synthetic and name != "synthetic":
        raise UserError(
            f"{root} holds a synthetic corpus; read it with --config.corpus.name=synthetic."
        )
    if name == "synthetic" and not is_synthetic:
        raise UserError(f"{root} holds no synthetic corpus; use an empty folder as corpus.root.")
    spec = CORPORA[name]
    corpus = spec.reader(spec, root, tables_dir or root)
    if label_map:
        corpus = _map_labels(corpus, label_map)
    _check_texts(corpus)
    labels, excluded = corpus.labels, []
    if emotions:
        corpus = _keep_emotions(corpus, emotions)
        excluded += [label for label in labels if label not in corpus.labels]
    if drop_defects:
        excluded += [u.id for u in corpus.utterances if u.id in spec.defects]
        sound = tuple(u for u in corpus.utterances if u.id not in spec.defects)
        corpus = dataclasses.replace(corpus, utterances=sound)
    return dataclasses.replace(corpus, label_map=tuple(label_map), excluded=tuple(excluded))


def _keep_emotions(corpus: Corpus, emotions: Sequence[str]) -> Corpus:
    emotions = {clean(emotion) for emotion in emotions}
    unknown = sorted(emotions - set(corpus.labels))
    if unknown:
        raise UserError(
            f"corpus.emotions has {unknown[0]!r}, which {corpus.title} lacks; choose from "
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


def _map_labels(corpus: Corpus, label_map: Sequence[str]) -> Corpus:
    """Merge, rename and leave out classes, in the clips' labels and in their votes."""
    new_of: dict[str, str] = {}
    for entry in label_map:
        old, separator, new = (clean(part) for part in entry.rpartition("="))
        if not separator or old in new_of or old not in corpus.labels:
            raise UserError(
                f"corpus.label_map has {entry!r}; each entry is old=new (old= leaves the class "
                f"out), with each class at most once, of {', '.join(map(repr, corpus.labels))}."
            )
        new_of[old] = new
    new_C = [new_of.get(label, label) for label in corpus.labels]  # noqa: N806 — a shape
    labels = sorted({*new_C} - {""})

    def add_up(votes: tuple[int, ...]) -> tuple[int, ...]:
        pairs = list(zip(new_C, votes, strict=False))
        return tuple(sum(n for label, n in pairs if label == new) for new in labels if votes)

    utterances = tuple(
        dataclasses.replace(u, emotion=new_of.get(u.emotion, u.emotion), votes=add_up(u.votes))
        for u in corpus.utterances
        if new_of.get(u.emotion, u.emotion) or u.emotion not in new_of
    )
    if not utterances:
        raise UserError("corpus.label_map leaves out every clip; keep at least two classes.")
    return dataclasses.replace(corpus, labels=tuple(labels), utterances=utterances)


def _check_texts(corpus: Corpus) -> None:
    """Refuse missing labels and speakers, and ask about those that are nearly the same."""
    for field, or_leave_out, or_merge in (
        ("emotion", ", or leave the clips out by corpus.label_map", ", or use corpus.label_map"),
        ("speaker", "", ""),
    ):
        places: dict[str, str] = {}
        missing = []
        for u in corpus.utterances:
            value, place = getattr(u, field), u.place or u.path.name
            places.setdefault(value, place)
            if is_missing(value):
                missing.append(f"{place}: {value!r}")
        if missing:
            raise UserError(
                f"{corpus.title}: {field} is missing in {len(missing):,} rows ({listed(missing)}); "
                f"fill them in{or_leave_out}."
            )
        refuse_alike(f"{field}s", places, remedy=or_merge)
