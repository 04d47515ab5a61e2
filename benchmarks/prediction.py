"""Prediction, in files per second, compared with what one would write with librosa and PyTorch.

    python -m benchmarks.prediction --workdir=runs/ravdess data/ravdess

Each round runs these programs in turns, each in a process of its own: librosa's MFCC alone; MFCC
and PyTorch's network, one file at a time (see prediction_loop.py), by default and with one BLAS
thread; `ser_jax.predict` with an empty compilation cache (cold), and with the cache that this left
(warm). Each first predicts one file, timed up to its answer, then all, timed up to the end of the
process; imports included. All use the same weights, and their probabilities are compared.
"""

import argparse
import functools
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import harness, prediction_loop
from benchmarks.harness import FinishedProcess
from data_prep import workers
from ser_jax.audio import files

MFCC, LOOP = "librosa, MFCC alone", "librosa and PyTorch, a file at a time"
ONE_THREAD, COLD, WARM = "the same, BLAS in one thread", "predict, cold", "predict, warm"
TOLERANCE = 1e-4  # of a probability, since the programs' features are rounded differently


def run(name: str, command: Sequence[str], paths: Sequence[str], cache: Path) -> FinishedProcess:
    """Run a program that reads paths and writes a line of JSON for each."""
    if name == COLD:
        shutil.rmtree(cache, ignore_errors=True)
    environment = {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    if name == ONE_THREAD:
        environment["OPENBLAS_NUM_THREADS"] = "1"
    process = harness.run(*command, stdin="\n".join(paths), environment=environment)
    if len(process.lines) != len(paths):
        sys.exit(f"error: {name} answered {len(process.lines)} of {len(paths)} files.")
    print(f"{name}, {len(paths)} files: {process.wall:.1f} s", file=sys.stderr)
    return process


def difference(process: FinishedProcess, other: FinishedProcess) -> float:
    """Return the largest difference between the probabilities of two programs."""
    pairs = zip(process.lines, other.lines, strict=True)
    probabilities = [[json.loads(line)["probabilities"] for line in pair] for pair in pairs]
    return max(abs(a[label] - b[label]) for a, b in probabilities for label in a)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--workdir", type=Path, required=True, help="of a trained run")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    paths = [file.path for file in files.find([options.folder]) if not file.error]
    n_files = len(paths)
    with tempfile.TemporaryDirectory() as folder:
        network, cache = Path(folder) / "network.pt", Path(folder) / "cache"
        prediction_loop.save(options.workdir, network)
        loop = ["benchmarks.prediction_loop", str(network)]
        predict = ["ser_jax.predict", f"--workdir={options.workdir}", "-", "--format=jsonl"]
        programs = {MFCC: [*loop, "--features"], LOOP: loop, ONE_THREAD: loop}
        programs |= {COLD: predict, WARM: predict}
        tasks = {
            (name, n): functools.partial(run, name, command, paths[:n], cache)
            for n in (1, n_files)
            for name, command in programs.items()
        }
        processes = harness.in_turns(tasks, options.rounds)
    print(
        f"{n_files:,} files of {options.folder}, {options.workdir}, {workers.n_processors()} "
        f"cores; medians of {options.rounds} rounds (least–most), imports included.\n\n"
        "| program | seconds to first answer | seconds for all | files per second | speed-up |\n"
        "| --- | ---: | ---: | ---: | ---: |"
    )
    walls = {name: [process.wall for process in processes[name, n_files]] for name in programs}
    median = {name: statistics.median(values) for name, values in walls.items()}
    for name, values in walls.items():
        first = harness.spread([process.first for process in processes[name, 1]], 2)
        print(
            f"| {name} | {first} | {harness.spread(values, 1)} | {n_files / median[name]:.0f} "
            f"| {median[LOOP] / median[name]:.2f} |"
        )
    largest = difference(*(processes[name, n_files][-1] for name in (WARM, LOOP)))
    print(f"\nThe probabilities differ by {largest:.1g} at most.")
    if not largest <= TOLERANCE:
        sys.exit("error: the programs' predictions differ.")


if __name__ == "__main__":
    main()
