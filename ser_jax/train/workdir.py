"""A workdir's config.json: which run it belongs to, and what may change on a restart."""

import json
from pathlib import Path

from ml_collections import ConfigDict

from ser_jax.common import files
from ser_jax.common.config import flatten
from ser_jax.common.errors import UserError
from ser_jax.parallel import processes

# Names, paths and devices may change between two starts of a run, and a run may be extended, since
# no epoch depends on how many follow. Nothing else that affects the result may change.
_MAY_CHANGE = """name records_dir corpus.title corpus.root corpus.tables_dir init_from train.epochs
    train.tensorboard input.memory_limit_gb replicas.strategy replicas.at_once devices.replica
    devices.data report.clips_a_cell""".split()

# Keys that earlier runs lack, with the values that say what those runs did.
_ADDED = {"corpus.label_map": [], "split.column": "split"}


def claim(workdir: Path, config: ConfigDict, records_name: str) -> None:
    """Write config.json, or check that the existing one describes the same run.

    `records_name` is that of the records' folder, which contains their fingerprint.

    Raises:
      UserError: the workdir belongs to a run with another config or other records, or is not
        writable.
    """
    path = workdir / "config.json"
    content = json.loads(config.to_json()) | {"records": records_name}
    if path.exists():
        before, now = _ADDED | flatten(files.read_json(path)), flatten(content)
        changes = [
            f"{key} was {before.get(key)!r} and is {now.get(key)!r}"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key) and key not in _MAY_CHANGE
        ]
        if changes:
            raise UserError(
                f"{workdir} belongs to a run with another config: {'; '.join(changes)}. Choose "
                "another --workdir, or delete this one."
            )
    if processes.is_first():
        files.write_json(path, content)
