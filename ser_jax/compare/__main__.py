"""Runs side by side, each number beside its protocol, and differences where they can be told.

python -m ser_jax.compare runs/cnn1d-tfds runs/cnn2d-tfds runs/paper-tfds --out=runs/compare
"""

import argparse
import collections
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from ser_jax.common.cli import exit_with_message
from ser_jax.common.errors import UserError
from ser_jax.compare import comparison
from ser_jax.compare.comparison import write
from ser_jax.evaluate.finished_run import load


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m ser_jax.compare", description=__doc__.splitlines()[0]
    )
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs that were evaluated")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/compare"), help="default: %(default)s"
    )
    flags = parser.parse_args(arguments)
    folders = [folder.resolve() for folder in flags.runs]
    twice = [folder for folder, n in collections.Counter(folders).items() if n > 1]
    if twice:
        raise UserError(f"{twice[0]} is given twice; name each run once.")
    runs = [load(folder) for folder in flags.runs]
    names = collections.Counter(run.name for run in runs)
    runs = [
        run if names[run.name] == 1 else dataclasses.replace(run, name=str(folder))
        for run, folder in zip(runs, flags.runs, strict=True)
    ]
    print(comparison.page(write(runs, flags.out)))
    print(f"Written to {flags.out}: compare.md, compare.csv, compare.json, compare.png.")


def command() -> None:
    """Run `main`; ser-compare starts here."""
    exit_with_message(main)


if __name__ == "__main__":
    command()
