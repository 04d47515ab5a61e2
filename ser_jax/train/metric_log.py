"""Metrics of each epoch: metrics.jsonl, TensorBoard event files, and the console's table."""

import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ser_jax.common import files
from ser_jax.parallel import processes


class MetricLog:
    """metrics.jsonl: one JSON object per epoch and replica, with keys such as "val/uar"."""

    def __init__(self, workdir: Path, n_epochs: int, *, board: bool = False):
        """Open the log; keep the lines of `n_epochs` completed epochs, and drop later ones.

        `board` also writes event files for TensorBoard.
        """
        self._path = workdir / "metrics.jsonl"
        text = self._path.read_text(encoding="utf-8") if self._path.exists() else ""
        kept = [line for line in text.splitlines(keepends=True) if _epoch_of(line) <= n_epochs]
        self._board: TensorBoard | None = None
        if processes.is_first():
            files.write_text(self._path, "".join(kept))
            if board:
                self._board = TensorBoard(workdir / "tensorboard", map(json.loads, kept))

    def write(self, rows: Sequence[dict[str, float]]) -> None:
        """Append an epoch; a value that is not finite becomes null, as JSON requires."""
        rows = [{k: v if math.isfinite(v) else None for k, v in row.items()} for row in rows]
        if processes.is_first():
            with (
                files.explain_full_disk(self._path),
                self._path.open("a", encoding="utf-8") as file,
            ):
                file.write("".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))
        if self._board:
            self._board.write(rows)

    def close(self) -> None:
        """Close the event files; metrics.jsonl is complete after each epoch."""
        if self._board:
            self._board.close()


class TensorBoard:
    """TensorBoard event files, one folder per replica."""

    def __init__(self, folder: Path, rows: Iterable[Mapping[str, Any]]):
        """Rewrite the files from `rows`, so that no epoch is duplicated after a resume."""
        for stale in folder.glob("replica-*/events.out.tfevents.*"):
            stale.unlink()
        self._folder = folder
        self._writers: dict[int, Any] = {}
        self.write(rows)

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows of metrics.jsonl, without their null values."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        for row in rows:
            values = [
                Summary.Value(tag=key, simple_value=value)
                for key, value in row.items()
                if key not in ("epoch", "replica") and value is not None
            ]
            event = Event(wall_time=time.time(), step=row["epoch"], summary=Summary(value=values))
            self._writer(row["replica"]).write_event(event)
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()

    def _writer(self, replica: int) -> Any:
        # tensorboardX's SummaryWriter writes later, from a thread of its own.
        from tensorboardX.event_file_writer import EventsWriter

        if replica not in self._writers:
            folder = self._folder / f"replica-{replica}"
            folder.mkdir(parents=True, exist_ok=True)
            self._writers[replica] = EventsWriter(str(folder / "events"))
        return self._writers[replica]


def console_header(n_replicas: int) -> str:
    """Return the column titles of the console's table."""
    return (
        "epoch      loss  accuracy  macro-F1        l2 |  val loss  accuracy  macro-F1 |"
        "      rate     time   clips/s" + ("  training" if n_replicas > 1 else "")
    )


def console_line(rows: Sequence[dict[str, float]], n_epochs: int, n_replicas: int) -> str:
    """Return an epoch's line of the table: the mean over the replicas still training."""
    mean = {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}
    train = f"{mean['train/loss']:9.4f} {mean['train/accuracy']:9.4f} {mean['train/macro_f1']:9.4f}"
    val = f"{mean['val/loss']:9.4f} {mean['val/accuracy']:9.4f} {mean['val/macro_f1']:9.4f}"
    epoch = f"{rows[0]['epoch']:>3}/{n_epochs:<3}"
    cost = f"{mean['seconds']:7.1f}s {mean['examples_per_second']:9.1f}"
    training = f"  {len(rows)} of {n_replicas}" if n_replicas > 1 else ""
    return (
        f"{epoch} {train} {mean['train/l2']:9.4f} | {val} | {mean['learning_rate']:9.2e} "
        f"{cost}{training}"
    )


def n_epochs(workdir: Path) -> int:
    """Return the number of epochs in metrics.jsonl."""
    path = workdir / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return int(max(filter(math.isfinite, map(_epoch_of, lines)), default=0))


def _epoch_of(line: str) -> float:
    """Return the line's epoch; infinity for a line that a kill cut short."""
    try:
        return json.loads(line)["epoch"]
    except (ValueError, KeyError, TypeError):
        return math.inf
