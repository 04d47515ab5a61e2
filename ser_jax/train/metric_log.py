"""What a run leaves to read: config.json, metrics.jsonl, and a line an epoch on the console."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ser_jax.common import files
from ser_jax.common.errors import UserError
from ser_jax.parallel import mesh
from ser_jax.train import tensorboard

# Names, places and devices may change between two starts of a run, and a run may be made longer,
# for no epoch depends on how many follow. Nothing else that is computed may change.
_FREE = """name records_dir corpus.title corpus.root corpus.tables_dir init_from train.epochs
    train.tensorboard input.memory_limit_gb replicas.strategy replicas.at_once devices.replica
    devices.data report.clips_a_cell""".split()


def claim(workdir: Path, config: ConfigDict, records_name: str) -> None:
    """Makes the workdir this run's own, or finds that it is.

    Args:
      workdir: of the run.
      config: all of it.
      records_name: of the records' folder, which carries their fingerprint.

    Raises:
      UserError: it belongs to a run with another config or other records, or cannot be written.
    """
    path = workdir / "config.json"
    ours = json.loads(config.to_json()) | {"records": records_name}
    if path.exists():
        differing = _differences(flat(files.read_json(path)), flat(ours))
        if differing:
            raise UserError(
                f"{workdir} belongs to a run with another config: {'; '.join(differing)}. Choose "
                "another --workdir, or delete this one."
            )
    if mesh.is_first():
        files.write_json(path, ours)


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
        self._board: tensorboard.Board | None = None
        if mesh.is_first():
            files.write_text(self._path, "".join(kept))
            if board:
                self._board = tensorboard.Board(workdir / "tensorboard", map(json.loads, kept))

    def write(self, rows: Sequence[dict[str, float]]) -> None:
        """Appends an epoch; a number that is not finite becomes null, for JSON has no other."""
        rows = [{k: v if math.isfinite(v) else None for k, v in row.items()} for row in rows]
        if mesh.is_first():
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


def header(n_replicas: int) -> str:
    """The console's column titles."""
    return (
        "epoch      loss  accuracy  macro-F1        l2 |  val loss  accuracy  macro-F1 |"
        "      rate     time   clips/s" + ("  training" if n_replicas > 1 else "")
    )


def line(rows: Sequence[dict[str, float]], n_epochs: int, n_replicas: int) -> str:
    """One epoch under `header`: the mean over the replicas that still train."""
    row = {key: sum(each[key] for each in rows) / len(rows) for key in rows[0]}
    train = f"{row['train/loss']:9.4f} {row['train/accuracy']:9.4f} {row['train/macro_f1']:9.4f}"
    val = f"{row['val/loss']:9.4f} {row['val/accuracy']:9.4f} {row['val/macro_f1']:9.4f}"
    epoch = f"{rows[0]['epoch']:>3}/{n_epochs:<3}"
    cost = f"{row['seconds']:7.1f}s {row['examples_per_second']:9.1f}"
    training = f"  {len(rows)} of {n_replicas}" if n_replicas > 1 else ""
    return (
        f"{epoch} {train} {row['train/l2']:9.4f} | {val} | {row['learning_rate']:9.2e} "
        f"{cost}{training}"
    )


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Nested sections → {"train.epochs": 10}."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    start = f"{prefix}." if prefix else ""
    return {k: v for name, sub in tree.items() for k, v in flat(sub, start + name).items()}


def _differences(theirs: dict[str, Any], ours: dict[str, Any]) -> list[str]:
    keys = sorted(theirs.keys() | ours.keys())
    return [
        f"{key} was {theirs.get(key)!r} and is {ours.get(key)!r}"
        for key in keys
        if theirs.get(key) != ours.get(key) and key not in _FREE
    ]
