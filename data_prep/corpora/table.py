"""A user's own corpus, described by a CSV table."""

import os
from collections import Counter
from pathlib import Path

from data_prep.corpora.corpus import Corpus, CorpusSpec, Utterance
from data_prep.corpora.reading import read_rows
from ser_jax.common.errors import UserError

REQUIRED = ("path", "emotion", "speaker")


def read(spec: CorpusSpec, root: Path, tables_dir: Path) -> Corpus:
    """Read a table with the columns path, emotion, speaker; further columns become attributes.

    `root` is the table or a folder with corpus.csv. Paths are relative to the table's folder and
    must stay inside it; a path without its extension is the clip's id.

    Raises:
      UserError: there is no table, or a row is wrong.
    """
    del tables_dir  # the table has everything
    table = root / "corpus.csv" if root.is_dir() else root
    if not table.is_file():
        raise UserError(f"{table} does not exist; corpus.name=csv needs a table there.")
    rows = read_rows(table, REQUIRED)
    utterances = [_utterance(table, line, row) for line, row in enumerate(rows, start=2)]
    repeated = [clip for clip, n in Counter(u.id for u in utterances).items() if n > 1]
    if repeated:
        raise UserError(f"{table} lists {repeated[0]} more than once; keep one row per clip.")
    labels = sorted({u.emotion for u in utterances})
    by_id = tuple(sorted(utterances, key=lambda u: u.id))
    return Corpus(spec.name, table.stem, tuple(labels), by_id, licence=spec.licence)


def _utterance(table: Path, line: int, row: dict[str, str]) -> Utterance:
    missing = sorted(name for name in REQUIRED if not row[name])
    if missing or None in row or None in row.values():
        raise UserError(
            f"{table}, line {line}: {', '.join(missing) or 'a column'} is wrong or empty; "
            "correct the row."
        )
    path = Path(os.path.normpath(row["path"]))
    if path.is_absolute() or path.parts[:1] in ((), ("..",)):
        raise UserError(
            f"{table}, line {line}: {row['path']} leaves the table's folder; use a path inside it."
        )
    return Utterance(
        id=path.with_suffix("").as_posix(),
        path=table.parent / path,
        emotion=row["emotion"],
        speaker=row["speaker"],
        attributes={name: value for name, value in row.items() if name not in REQUIRED},
    )


# The data defines the labels, and the title is the name of the table.
SPEC = CorpusSpec(name="csv", title="", reader=read, labels=None)
