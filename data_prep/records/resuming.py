"""Batches that an interrupted build has finished, for builds that take long.

A file holds the records of a batch: a line of JSON with what they are, then their bytes.
"""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from data_prep.corpora import Utterance
from data_prep.records.examples import Remarks
from ser_jax.common import files

Batch = tuple[list[tuple[str, str, bytes]], Remarks]  # see examples.serialise


def serialise_once(
    serialise: Callable[[Sequence[Utterance]], Batch],
    folder: Path,
    numbered: tuple[int, Sequence[Utterance]],
) -> Batch:
    """Return the records of a numbered batch, computed unless `folder` holds them."""
    number, clips = numbered
    path, ids = folder / f"{number:09}", [clip.id for clip in clips]
    if path.exists() and (batch := _read(path, ids)):
        return batch
    batch = serialise(clips)
    _write(path, ids, batch)
    return batch


def _write(path: Path, ids: list[str], batch: Batch) -> None:
    records, remarks = batch
    head = {
        "clips": ids,
        "records": [(view, clip_id, len(record)) for view, clip_id, record in records],
        "remarks": dataclasses.asdict(remarks),
    }
    with files.replacing(path) as temporary, temporary.open("wb") as file:
        file.write(json.dumps(head).encode() + b"\n")
        file.writelines(record for _, _, record in records)


def _read(path: Path, ids: list[str]) -> Batch | None:
    """Return what `_write` wrote, or None if it is of other clips."""
    with path.open("rb") as file:
        head = json.loads(file.readline())
        if head["clips"] != ids:
            return None
        records = [(view, clip_id, file.read(n)) for view, clip_id, n in head["records"]]
    return records, Remarks(**head["remarks"])
