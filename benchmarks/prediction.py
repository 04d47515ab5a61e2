"""Files a second of prediction, beside what one would write with librosa and PyTorch.

    python -m benchmarks.prediction --workdir=runs/ravdess data/ravdess

Each round runs all programs in turns, each in a process of its own: librosa's MFCC alone; those and
PyTorch's network, a file at a time (see prediction_loop.py), as it comes and with BLAS held to one
thread; `ser_jax.predict` with an empty compilation cache (cold), and again with what that left
there (warm). First for one file, to its answer, then for all, to the end of the process; imports
included. All predict with the same weights, and their probabilities are compared.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import prediction_loop
from benchmarks.turns import spread
from data_prep import workers
from ser_jax.audio import files

AS_IT_COMES = "librosa and PyTorch, a file at a time"
TOLERANCE = 1e-4  # of a probability, between the programs: their features round differently


@dataclasses.dataclass(frozen=True)
class Taken:
    """One process.

    Attributes:
      first: seconds from its start to its first answer.
      whole: seconds to its end.
      answers: its lines.
    """

    first: float
    whole: float
    answers: list[dict]


def timed(command: Sequence[str], paths: Sequence[str], variables: dict[str, str]) -> Taken:
    """Runs a program that reads paths and writes a line of JSON for each; its failure is ours."""
    with tempfile.TemporaryFile("w+") as listed:
        listed.write("\n".join(paths))
        listed.seek(0)
        begin = time.perf_counter()
        process = subprocess.Popen(  # noqa: S603 — our own programs
            command,
            stdin=listed,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | variables,
        )
        lines = [process.stdout.readline()]
        first = time.perf_counter() - begin
        lines += process.stdout.readlines()
        if process.wait() or len(lines) != len(paths):
            sys.exit(f"error: {' '.join(command)} answered {len(lines)} of {len(paths)} files.")
    return Taken(first, time.perf_counter() - begin, [json.loads(line) for line in lines])


def difference(some: Sequence[dict], others: Sequence[dict]) -> float:
    """The largest between two programs' probabilities."""
    return max(
        abs(p - other["probabilities"][label])
        for one, other in zip(some, others, strict=True)
        for label, p in one["probabilities"].items()
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--workdir", type=Path, required=True, help="of a trained run")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    paths = [one.path for one in files.find([options.folder]) if not one.error]
    with tempfile.TemporaryDirectory() as folder:
        network = Path(folder) / "network.pt"
        prediction_loop.save(options.workdir, network)
        loop = [sys.executable, "-m", "benchmarks.prediction_loop", str(network)]
        predict = [sys.executable, "-m", "ser_jax.predict", f"--workdir={options.workdir}"]
        predict += ["-", "--format=jsonl"]
        programs = {
            "librosa, MFCC alone": ([*loop, "--features"], {}),
            AS_IT_COMES: (loop, {}),
            "the same, BLAS in one thread": (loop, {"OPENBLAS_NUM_THREADS": "1"}),
            "predict, cold": (predict, {}),
            "predict, warm": (predict, {}),
        }
        found = _in_turns(programs, paths, options.rounds)
    print(
        f"{len(paths):,} files of {options.folder}, {options.workdir}, {workers.n_processors()} "
        f"cores; medians of {options.rounds} rounds (least–most), imports included.\n\n"
        "| program | seconds to the first answer | seconds for all | files a second | multiple |\n"
        "| --- | ---: | ---: | ---: | ---: |"
    )
    middle = {
        name: statistics.median(one.whole for one in found[name, len(paths)]) for name in programs
    }
    for name in programs:
        first = spread([one.first for one in found[name, 1]], 2)
        every = spread([one.whole for one in found[name, len(paths)]], 1)
        print(
            f"| {name} | {first} | {every} | {len(paths) / middle[name]:.0f} "
            f"| {middle[AS_IT_COMES] / middle[name]:.2f} |"
        )
    ours, theirs = (found[name, len(paths)][-1].answers for name in ("predict, warm", AS_IT_COMES))
    apart = difference(ours, theirs)
    print(f"\nThe probabilities differ by {apart:.1g} at most.")
    if not apart <= TOLERANCE:
        sys.exit("error: the programs do not predict the same.")


def _in_turns(
    programs: dict[str, tuple[list[str], dict[str, str]]], paths: Sequence[str], rounds: int
) -> dict[tuple[str, int], list[Taken]]:
    """{program and number of files: its rounds}; each round begins with an empty cache."""
    found: dict[tuple[str, int], list[Taken]] = {}
    for _ in range(rounds):
        for n_files in (1, len(paths)):
            with tempfile.TemporaryDirectory() as cache:
                own = {"JAX_COMPILATION_CACHE_DIR": cache}
                own["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
                for name, (command, variables) in programs.items():
                    taken = timed(command, paths[:n_files], own | variables)
                    found.setdefault((name, n_files), []).append(taken)
                    print(f"{name}, {n_files} files: {taken.whole:.1f} s", file=sys.stderr)
    return found


if __name__ == "__main__":
    main()
