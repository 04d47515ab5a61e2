"""Export a trained run as one file that needs neither this repository nor the workdir.

python -m ser_jax.export --workdir=runs/cnn2d-tfds --out=emotion.zip
"""

if __name__ == "__main__":  # before imports that take a while
    from ser_jax.common import interrupts

    interrupts.end_at_once()

import argparse
from collections.abc import Sequence

from ser_jax.common import interrupts
from ser_jax.common.cli import exit_with_message, path_flag, program
from ser_jax.common.runtime import require_devices
from ser_jax.export.writer import PLATFORMS, headline, members, write
from ser_jax.predict import trained_model
from ser_jax.train import sources


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog=program("ser_jax.export"), description=__doc__.splitlines()[0]
    )
    parser.add_argument("--workdir", type=path_flag, required=True, help="folder of a trained run")
    parser.add_argument(
        "--out", type=path_flag, required=True, help="file to write, such as emotion.zip"
    )
    parser.add_argument(
        "--onnx", action="store_true", help="include model.onnx; see requirements/onnx.txt"
    )
    parser.add_argument(
        "--licence", default="", help="text or file that replaces the note on the corpus"
    )
    flags = parser.parse_args(arguments)
    if flags.out.is_dir():  # refuse before the work
        write(flags.out, {})
    require_devices()
    with interrupts.deferred():
        model = trained_model.load(flags.workdir)
        interrupts.check()
        is_known = (flags.workdir / "split.json").exists()
        heard = sources.heard_by(flags.workdir) if is_known else {}
        results = headline(flags.workdir, model)
        contents = members(model, results, flags.licence, flags.onnx, heard)
        interrupts.check()
        write(flags.out, contents)
    n, size = len(model.replicas), flags.out.stat().st_size / 1e6
    print(
        f"Written to {flags.out}, {size:.1f} MB: {', '.join(sorted(contents))}; "
        f"{n} replica{'s' * (n > 1)}, {', '.join(PLATFORMS)}."
    )
    for replica in model.failed:
        print(f"Left out, since its training failed: {replica}.")


if __name__ == "__main__":
    exit_with_message(main)
