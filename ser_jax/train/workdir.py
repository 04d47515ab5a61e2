"""Whose workdir this is: config.json, and what may change between two starts."""

import json
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ser_jax.common import files
from ser_jax.common.config import flatten
from ser_jax.common.errors import UserError
from ser_jax.parallel import processes

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
        differing = _differences(flatten(files.read_json(path)), flatten(ours))
        if differing:
            raise UserError(
                f"{workdir} belongs to a run with another config: {'; '.join(differing)}. Choose "
                "another --workdir, or delete this one."
            )
    if processes.is_first():
        files.write_json(path, ours)


def _differences(theirs: dict[str, Any], ours: dict[str, Any]) -> list[str]:
    keys = sorted(theirs.keys() | ours.keys())
    return [
        f"{key} was {theirs.get(key)!r} and is {ours.get(key)!r}"
        for key in keys
        if theirs.get(key) != ours.get(key) and key not in _FREE
    ]
