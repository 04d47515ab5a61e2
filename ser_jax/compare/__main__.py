"""Compare finished runs: each metric with its protocol, and paired differences.

python -m ser_jax.compare runs/cnn1d-tfds runs/cnn2d-tfds runs/paper-tfds --out=runs/compare
"""

if __name__ == "__main__":  # before imports that take a while
    from ser_jax.common import interrupts

    interrupts.end_at_once()

import argparse
import collections
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from ser_jax.common.cli import exit_with_message, path_flag, program
from ser_jax.common.errors import UserError
from ser_jax.compare.comparison import page, write
from ser_jax.evaluate.finished_run import load


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare the runs given as arguments."""
    parser = argparse.ArgumentParser(
        prog=program("ser_jax.compare"), description=__doc__.splitlines()[0]
    )
    parser.add_argument("runs", nargs="+", type=path_flag, help="workdirs of evaluated runs")
    parser.add_argument(
        "--out", type=path_flag, default=Path("runs/compare"), help="default: %(default)s"
    )
    flags = parser.parse_args(arguments)
    for folder, n in collections.Counter(folder.resolve() for folder in flags.runs).items():
        if n > 1:
            raise UserError(f"{folder} is given twice; name each run once.")
    runs = [load(folder) for folder in flags.runs]
    names = collections.Counter(run.name for run in runs)
    runs = [
        run if names[run.name] == 1 else dataclasses.replace(run, name=str(folder))
        for run, folder in zip(runs, flags.runs, strict=True)
    ]
    print(page(write(runs, flags.out)))
    print(f"Written to {flags.out}: compare.md, compare.csv, compare.json, compare.png.")


if __name__ == "__main__":
    exit_with_message(main)
