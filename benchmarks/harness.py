"""What the benchmarks share: processes to measure, rounds in turns, medians and spread."""

import contextlib
import dataclasses
import functools
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ser_jax.pages.numbers import span

Facts, Work = dict[str, Any], Callable[[int], Any]  # of a contestant; work takes an amount
Contest = tuple[Facts, Work]
Result = TypeVar("Result")


@dataclasses.dataclass(frozen=True)
class FinishedProcess:
    """What a process printed and cost.

    Attributes:
      lines: of its standard output.
      first: seconds from its start to its first line.
      wall: seconds from its start to its end.
      cpu: CPU seconds, those of its own child processes included.
    """

    lines: list[str]
    first: float
    wall: float
    cpu: float


def run(
    *arguments: str,
    stdin: str = "",
    environment: Mapping[str, str] | None = None,
    quiet: bool = True,
) -> FinishedProcess:
    """Run `python -m` with these arguments; exit if it fails.

    Args:
      arguments: a module and its arguments.
      stdin: text for its standard input.
      environment: variables to set in addition to this process's.
      quiet: show its stderr only if it fails.
    """
    with tempfile.TemporaryFile("w+") as text, tempfile.TemporaryFile("w+") as errors:
        text.write(stdin)
        text.seek(0)
        cpu, begin = _cpu_of_children(), time.perf_counter()
        with subprocess.Popen(  # noqa: S603 — this project's own programs
            [sys.executable, "-m", *arguments],
            stdin=text,
            stdout=subprocess.PIPE,
            stderr=errors if quiet else None,
            text=True,
            env={**os.environ, **(environment or {})},
        ) as process:
            first_line = process.stdout.readline()
            first = time.perf_counter() - begin
            lines = (first_line + process.stdout.read()).splitlines()
        wall, cpu = time.perf_counter() - begin, _cpu_of_children() - cpu
        if process.returncode:
            errors.seek(0)
            sys.exit(f"error: {' '.join(arguments)} failed.\n{errors.read()}")
    return FinishedProcess(lines, first, wall, cpu)


def _cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


class Contestant:
    """A process that works on request, and stays until all measurements are done.

    It prints its facts as a line of JSON when it is ready, then reads an amount of work per line
    and answers each with the seconds it took. So contestants share neither process nor threads,
    and their start is not measured.

    Attributes:
      facts: what it printed.
      first: seconds of its first work, which compiles.
      seconds: of each round.
    """

    def __init__(self, process: subprocess.Popen):
        self._process = process
        self.facts: Facts = json.loads(self._answer())
        self.first = self._work(1)
        self.seconds: list[float] = []

    def round(self, amount: int) -> float:
        # Virtual machines return freed memory to their host after a second or two, so the first
        # step after a pause can take twice as long.
        self._work(1)
        return self._work(amount)

    def _work(self, amount: int) -> float:
        self._process.stdin.write(f"{amount}\n")
        self._process.stdin.flush()
        return float(self._answer())

    def _answer(self) -> str:
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"error: {' '.join(self._process.args)} ended; see its output above.")
        return line


def compete(
    commands: Mapping[str, Sequence[str]], amount: int, rounds: int, same: Sequence[str] = ()
) -> dict[str, Contestant]:
    """Start contestants, let them work in turns, and stop them.

    Args:
      commands: the arguments of `python -m`, by name of contestant.
      amount: of work per round.
      rounds: to measure, after one that is not counted.
      same: facts in which contestants must not differ.
    """
    pipe = subprocess.PIPE
    with contextlib.ExitStack() as stack:
        contestants = {}
        for name, arguments in commands.items():
            command = [sys.executable, "-m", *arguments]
            process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)  # noqa: S603
            contestants[name] = Contestant(stack.enter_context(process))
        for fact in same:
            values = {name: c.facts[fact] for name, c in contestants.items()}
            if len(set(values.values())) > 1:
                sys.exit(f"error: the contestants differ in {fact}: {values}.")
        tasks = {name: functools.partial(c.round, amount) for name, c in contestants.items()}
        for name, times in in_turns(tasks, 1 + rounds).items():
            contestants[name].seconds = times[1:]
    return contestants


def serve(facts: Facts, work: Work) -> None:
    """Answer as a contestant until the input ends; what libraries print goes to stderr."""
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        print(json.dumps(facts), file=answers, flush=True)
        for line in sys.stdin:
            print(seconds(work, int(line)), file=answers, flush=True)


def in_turns(tasks: Mapping[str, Callable[[], Result]], rounds: int) -> dict[str, list[Result]]:
    """Call every task once per round, so that other load on the machine affects all alike."""
    results: dict[str, list[Result]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            results[name].append(task())
    return results


def seconds(work: Callable[..., Any], *arguments: Any) -> float:
    """Return the seconds that a call takes."""
    begin = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - begin


def peak_mib() -> float:
    """Return this process's peak resident memory so far, in MiB.

    getrusage starts from the peak of the parent process, so it is used only where /proc is missing.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1]) / 1024


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Return "median (least–most)"."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({span(low, high, f'.{digits}f', 1)})"


def mel_arguments(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a FeatureSpec as arguments of librosa's mel spectrogram."""
    return {key: spec[key] for key in ("n_fft", "hop_length", "window", "n_mels")} | {
        "sr": spec["sampling_rate"],
        "win_length": spec["frame_length"],
        "center": spec["centered"],
        "fmin": spec["f_min"],
        "fmax": spec["f_max"] or None,
        "htk": spec["mel_scale"] == "htk",
    }


def integers(text: str) -> tuple[int, ...]:
    """Parse "1,2,4"; the type of a command-line argument."""
    return tuple(int(number) for number in text.split(",") if number)
