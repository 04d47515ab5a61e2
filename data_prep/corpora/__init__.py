"""Readers: a folder of audio → utterances with labels. One small file a corpus.

To add a corpus, write `read(root, tables_dir)` in a file of its own and enter it in READERS; or
describe it in a table and use the `csv` reader.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from data_prep.corpora import crema_d, ravdess, table
from data_prep.corpora.corpus import Corpus, Utterance, find_audio
from data_prep.corpora.crema_d import EMOTIONS as CREMA_D_EMOTIONS
from data_prep.corpora.crema_d import clip_id as crema_d_id
from ser_jax.common.errors import UserError

__all__ = [
    "CREMA_D_EMOTIONS",
    "DEFECTS",
    "READERS",
    "SYNTHETIC_MARKER",
    "Corpus",
    "Utterance",
    "crema_d_id",
    "find_audio",
    "read",
]

SYNTHETIC_MARKER = "SYNTHETIC.txt"  # present in every made corpus, so that none passes for speech

READERS: Mapping[str, Callable[[Path, Path], Corpus]] = {
    "crema_d": crema_d.read,
    "ravdess": ravdess.read,
    "csv": table.read,
    "synthetic": crema_d.read_synthetic,
}
# What a corpus was published with and is better without: a clip → the clip whose very bytes it
# has, or "" if it is silent.
DEFECTS: Mapping[str, Mapping[str, str]] = {"crema_d": crema_d.DEFECTS, "ravdess": ravdess.DEFECTS}


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
      drop_defects: leave out the clips of DEFECTS.

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
        defects = DEFECTS.get(name, {})
        kept = tuple(u for u in corpus.utterances if u.id not in defects)
        corpus = dataclasses.replace(corpus, utterances=kept)
    return corpus


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
