"""A user's own corpus, described by a table."""

import os
from collections import Counter
from pathlib import Path

from data_prep.corpora.corpus import Corpus, Utterance, rows_of
from ser_jax.common.errors import UserError

NEEDED = ("path", "emotion", "speaker")


def read(root: Path, tables_dir: Path) -> Corpus:
    """Reads a table with the columns path, emotion, speaker and any others (kept as attributes).

    `root` is the table, or a folder with corpus.csv. Paths are relative to the table's folder and
    stay inside it; a path without its ending serves as the id.
    """
    del tables_dir  # it is its own table
    table = root / "corpus.csv" if root.is_dir() else root
    if not table.is_file():
        raise UserError(f"{table} does not exist; the csv reader wants a table there.")
    rows = rows_of(table, NEEDED)
    utterances = [_utterance(table, line, row) for line, row in enumerate(rows, start=2)]
    repeated = [i for i, n in Counter(u.id for u in utterances).items() if n > 1]
    if repeated:
        raise UserError(f"{table} lists {repeated[0]} more than once; keep one row a clip.")
    labels = sorted({u.emotion for u in utterances})
    return Corpus("csv", table.stem, tuple(labels), tuple(sorted(utterances, key=lambda u: u.id)))


def _utterance(table: Path, line: int, row: dict[str, str]) -> Utterance:
    missing = sorted(name for name in NEEDED if not row[name])
    if missing or None in row or None in row.values():
        raise UserError(
            f"{table}, line {line}: {', '.join(missing) or 'a column'} is wrong or empty."
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
        attributes={name: value for name, value in row.items() if name not in NEEDED},
    )
