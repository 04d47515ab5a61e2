"""metrics.jsonl as event files for TensorBoard, without TensorFlow; an option.

tensorboard --logdir=runs reads <workdir>/tensorboard/replica-<number>; the tags are the names of
metrics.jsonl, the step is the epoch.
"""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


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
