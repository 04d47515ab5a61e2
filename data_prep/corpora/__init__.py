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
) -> Corpus:
    """Read a corpus.

    Args:
      name: a key of CORPORA.
      root: the folder with the audio, at any depth (for `csv`: or the table).
      emotions: the classes to keep; () keeps all.
      tables_dir: the folder of the corpus's own tables (CREMA-D: votes, actors); None means `root`.
      drop_defects: leave out the clips of CorpusSpec.defects.

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
    if emotions:
        corpus = _keep_emotions(corpus, emotions)
    if drop_defects:
        sound = tuple(u for u in corpus.utterances if u.id not in spec.defects)
        corpus = dataclasses.replace(corpus, utterances=sound)
    return corpus


def _keep_emotions(corpus: Corpus, emotions: Sequence[str]) -> Corpus:
    unknown = sorted(set(emotions) - set(corpus.labels))
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
