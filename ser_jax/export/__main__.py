"""A trained run in one file that needs neither this repository nor its workdir.

python -m ser_jax.export --workdir=runs/cnn2d-tfds --out=emotion.zip
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ser_jax.common.cli import exit_with_message
from ser_jax.export.writer import PLATFORMS, headline, members, write
from ser_jax.predict import trained_model


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m ser_jax.export", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--workdir", type=Path, required=True, help="folder of a trained run")
    parser.add_argument(
        "--out", type=Path, required=True, help="file to write, such as emotion.zip"
    )
    parser.add_argument(
        "--onnx", action="store_true", help="also for ONNX; see requirements/onnx.txt"
    )
    parser.add_argument("--licence", default="", help="text or file, in place of the corpus' note")
    flags = parser.parse_args(arguments)
    if flags.out.is_dir():  # before the work
        write(flags.out, {})
    this = trained_model.load(flags.workdir)
    contents = members(this, headline(flags.workdir, this), flags.licence, flags.onnx)
    write(flags.out, contents)
    n, size = len(this.replicas), flags.out.stat().st_size / 1e6
    print(
        f"Written to {flags.out}, {size:.1f} MB: {', '.join(sorted(contents))}; "
        f"{n} replica{'s' * (n > 1)}, {', '.join(PLATFORMS)}."
    )


def command() -> None:
    """Run `main`; ser-export starts here."""
    exit_with_message(main)


if __name__ == "__main__":
    command()
