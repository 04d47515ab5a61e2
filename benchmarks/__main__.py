"""All comparisons, one after another, into docs/benchmarks.md: what `make bench` runs.

    python -m benchmarks
    python -m benchmarks --only=training,records      # shown, not written

Each is a program of its own with more to say; see their --help. The corpus is the made one.
"""

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from data_prep import workers
from ser_jax.common import files

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- make bench begins -->", "<!-- make bench ends -->"
LIBRARIES = ("jax", "flax", "torch", "keras", "tensorflow-cpu", "librosa", "numpy", "scipy")
PROGRAMS = {
    "training": ("A training step", ["benchmarks.training", "--batch=32,64", "--rounds=3"]),
    "records": ("Preparation of records", ["benchmarks.records", "--rounds=3"]),
    "prediction": ("Prediction", ["benchmarks.prediction", "--rounds=3"]),
    "growth": ("Growth", ["benchmarks.growth", "--utterances=1000,10000"]),
}


def run(*arguments: str) -> str:
    """What a program of ours prints; its failure is ours."""
    print(f"python -m {' '.join(arguments)}", file=sys.stderr, flush=True)
    done = subprocess.run(  # noqa: S603 — our own program
        [sys.executable, "-m", *arguments], text=True, stdout=subprocess.PIPE
    )
    if done.returncode:
        sys.exit(f"error: {arguments[0]} failed; what it printed above says why.")
    return done.stdout


def of_prediction(arguments: Sequence[str], folder: Path) -> str:
    """It needs a run: one epoch of the demo's."""
    corpus, workdir = folder / "synthetic", folder / "run"
    run(
        "launch",
        "--config=configs/cnn2d.py:demo",
        f"--workdir={workdir}",
        f"--config.records_dir={folder / 'records'}",
        f"--config.corpus.root={corpus}",
        "--config.train.epochs=1",
    )
    table = run(*arguments, f"--workdir={workdir}", str(corpus))
    return table.replace(f"{folder}{os.sep}", "")  # a name that means nothing tomorrow


def machine() -> str:
    """Processor, memory, versions."""
    import jax

    cpu = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).exists():
        cpu = re.search(r"model name\s*: (.*)", info.read_text()) or [cpu, cpu]
        cpu = cpu[1]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES)
    return (
        f"Machine: {workers.n_processors()} cores of {cpu}, {memory:.0f} GB; JAX's devices: "
        f"{jax.device_count()} × {jax.devices()[0].device_kind}. Python "
        f"{platform.python_version()}, {versions}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    every = ",".join(PROGRAMS)
    parser.add_argument("--only", default=every, help=f"some of {every}; then nothing is written")
    options = parser.parse_args()
    names = options.only.split(",")
    if not set(names) <= set(PROGRAMS):
        parser.error(f"--only={options.only} is not among {every}")
    text = PAGE.read_text(encoding="utf-8")
    before, found, rest = text.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        sys.exit(f"error: {PAGE} has lost the lines {BEGIN!r} and {END!r}; put them back.")
    parts = [machine()]
    for name in names:
        title, arguments = PROGRAMS[name]
        if name == "prediction":
            with tempfile.TemporaryDirectory() as folder:
                table = of_prediction(arguments, Path(folder))
        else:
            table = run(*arguments)
        parts.append(f"### {title}\n\n`python -m {' '.join(arguments)}`: {table.strip()}")
        print(parts[-1], end="\n\n", flush=True)
    if options.only != every:
        return
    written = "\n\n".join([BEGIN, *parts, END])
    files.write_text(PAGE, before + written + after)
    print(f"Written to {PAGE}.")


if __name__ == "__main__":
    main()
