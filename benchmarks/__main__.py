"""Run all comparisons and write them to docs/benchmarks.md; this is `make bench`.

    python -m benchmarks
    python -m benchmarks --only=training,records      # printed only

Each comparison is a program with more options; see its --help. The corpus is the synthetic one.
"""

import argparse
import os
import platform
import re
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from benchmarks import harness
from data_prep import workers
from ser_jax.common import files

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- make bench begins -->", "<!-- make bench ends -->"
LIBRARIES = "jax flax torch transformers keras tensorflow-cpu librosa numpy scipy".split()
PROGRAMS = {
    "training": ("A training step", ["benchmarks.training", "--batch=32,64", "--rounds=3"]),
    "hybrid": ("The small networks", ["benchmarks.hybrid", "--rounds=3"]),
    "records": ("Preparation of records", ["benchmarks.records", "--rounds=3"]),
    "prediction": ("Prediction", ["benchmarks.prediction", "--rounds=3"]),
    "encoders": ("A pretrained encoder", ["benchmarks.encoders", "--rounds=3"]),
    "growth": ("Growth", ["benchmarks.growth", "--utterances=1000,10000"]),
}


def run(*arguments: str) -> str:
    """Return what a program of this project prints."""
    print(f"python -m {' '.join(arguments)}", file=sys.stderr, flush=True)
    return "\n".join(harness.run(*arguments, quiet=False).lines)


def run_prediction(arguments: Sequence[str]) -> str:
    """Measure prediction, with the demo's network after one epoch."""
    with tempfile.TemporaryDirectory() as folder:
        corpus, workdir = Path(folder) / "synthetic", Path(folder) / "run"
        run(
            *("launch", "--config=configs/cnn2d.py:demo", f"--workdir={workdir}"),
            f"--config.records_dir={folder}/records",
            f"--config.corpus.root={corpus}",
            "--config.train.epochs=1",
        )
        table = run(*arguments, f"--workdir={workdir}", str(corpus))
    return table.replace(f"{folder}{os.sep}", "")  # the temporary folder's name


def machine() -> str:
    """Describe the processor, the memory and the versions."""
    import jax

    cpu, info = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    if info.exists() and (match := re.search(r"model name\s*: (.*)", info.read_text())):
        cpu = match[1]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES)
    return (
        f"Machine: {workers.n_processors()} cores of {cpu}, {memory:.0f} GB; JAX's devices: "
        f"{jax.device_count()} × {jax.devices()[0].device_kind}. Python "
        f"{platform.python_version()}, {versions}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = ",".join(PROGRAMS)
    parser.add_argument("--only", default=names, help=f"some of {names}; the page is not written")
    options = parser.parse_args()
    chosen = options.only.split(",")
    if not set(chosen) <= set(PROGRAMS):
        parser.error(f"--only={options.only} is unknown; use some of {names}")
    text = PAGE.read_text(encoding="utf-8")
    section = re.compile(f"{BEGIN}.*{END}", re.DOTALL)
    if not section.search(text):
        sys.exit(f"error: {PAGE} lacks the lines {BEGIN!r} and {END!r}; restore them.")
    parts = [machine()]
    for name in chosen:
        title, arguments = PROGRAMS[name]
        table = run_prediction(arguments) if name == "prediction" else run(*arguments)
        parts.append(f"### {title}\n\n`python -m {' '.join(arguments)}`: {table.strip()}")
        print(parts[-1], end="\n\n", flush=True)
    if options.only == names:
        results = "\n\n".join([BEGIN, *parts, END])
        files.write_text(PAGE, section.sub(lambda _: results, text))
        print(f"Written to {PAGE}.")


if __name__ == "__main__":
    main()
