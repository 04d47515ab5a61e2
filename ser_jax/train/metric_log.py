"""What a run leaves to read: config.json, metrics.jsonl, and a line an epoch on the console."""

import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ser_jax.common import files
from ser_jax.parallel import processes


class MetricLog:
    """metrics.jsonl: one JSON object an epoch and replica, keys such as "val/uar"."""

    def __init__(self, workdir: Path, n_epochs: int, *, board: bool = False):
        """Keeps the lines of the first `n_epochs`; later ones belong to epochs run anew.

        Args:
          workdir: of the run.
          n_epochs: that are done.
          board: also write event files for TensorBoard.
        """
        self._path = workdir / "metrics.jsonl"
        text = self._path.read_text(encoding="utf-8") if self._path.exists() else ""
        kept = [line for line in text.splitlines(keepends=True) if _epoch_of(line) <= n_epochs]
        self._board: Board | None = None
        if processes.is_first():
            files.write_text(self._path, "".join(kept))
            if board:
                self._board = Board(workdir / "tensorboard", map(json.loads, kept))

    def write(self, rows: Sequence[dict[str, float]]) -> None:
        """Appends an epoch; a number that is not finite becomes null, for JSON has no other."""
        rows = [{k: v if math.isfinite(v) else None for k, v in row.items()} for row in rows]
        if processes.is_first():
            with self._path.open("a", encoding="utf-8") as file:
                file.write("".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))
        if self._board:
            self._board.write(rows)

    def close(self) -> None:
        """Ends the event files; metrics.jsonl is whole at any time."""
        if self._board:
            self._board.close()


def _epoch_of(line: str) -> float:
    """Its number; a line that was cut short by a kill belongs to no epoch that is kept."""
    try:
        return json.loads(line)["epoch"]
    except (ValueError, KeyError, TypeError):
        return math.inf


class Board:
    """The event files of a run."""

    def __init__(self, folder: Path, rows: Iterable[Mapping[str, Any]]):
        """Writes `rows` anew, so that after a resume no epoch is there twice or left over."""
        for stale in folder.glob("replica-*/events.out.tfevents.*"):
            stale.unlink()
        self._folder = folder
        self._writers: dict[int, Any] = {}
        self.write(rows)

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Appends rows of metrics.jsonl; a value that was not finite (None) has no point."""
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
        # Its SummaryWriter would write from a thread of its own, some time later.
        from tensorboardX.event_file_writer import EventsWriter

        if replica not in self._writers:
            folder = self._folder / f"replica-{replica}"
            folder.mkdir(parents=True, exist_ok=True)
            self._writers[replica] = EventsWriter(str(folder / "events"))
        return self._writers[replica]
