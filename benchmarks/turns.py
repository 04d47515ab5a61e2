"""Programs measured in turns, each in a process of its own that stays; medians, spread and ratios.

A contestant is a command that prints one line of JSON when it is ready, then reads a number a line
and answers each with the seconds which that much work took, as a line of its own. So no two of them
share a process or its threads, none pays for its start, and what else the machine does meets all.
"""

import contextlib
import json
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ser_jax.pages.numbers import span


def serve(facts: Mapping[str, Any], work: Callable[[int], Any]) -> None:
    """A contestant's side: answers until its input ends; libraries' own prints go to stderr."""
    answers, sys.stdout = sys.stdout, sys.stderr
    print(json.dumps(dict(facts)), file=answers, flush=True)
    for line in sys.stdin:
        begin = time.perf_counter()
        work(int(line))
        print(time.perf_counter() - begin, file=answers, flush=True)


class Contestant:
    """A process that is ready to work.

    Attributes:
      facts: what it said of itself.
      first: seconds of its first work, which compiles.
    """

    def __init__(self, command: Sequence[str]):
        self._process = subprocess.Popen(  # noqa: S603 — our own programs
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.facts: dict[str, Any] = json.loads(self._answer())
        self.first = 0.0

    def work(self, amount: int) -> float:
        """Seconds."""
        self._process.stdin.write(f"{amount}\n")
        self._process.stdin.flush()
        return float(self._answer())

    def stop(self) -> None:
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> str:
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"error: {' '.join(self._process.args)} ended; what it printed says why.")
        return line


@contextlib.contextmanager
def contestants(commands: Mapping[str, Sequence[str]]) -> Iterator[dict[str, Contestant]]:
    """One a name, started one after another and stopped together."""
    with contextlib.ExitStack() as stack:
        started = {}
        for name, command in commands.items():
            started[name] = Contestant(command)
            stack.callback(started[name].stop)
        yield started


def measure(some: Mapping[str, Contestant], amount: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of each round, after one of warming up each."""
    for one in some.values():
        one.first = one.work(1)
        one.work(amount)
    seconds: dict[str, list[float]] = {name: [] for name in some}
    for _ in range(rounds):
        for name, one in some.items():
            # Virtual machines give memory that was freed back to their host after a second or two,
            # so who has waited for the others pays for it first: up to twice the time of a step.
            one.work(1)
            seconds[name].append(one.work(amount))
    return seconds


def peak_mib() -> float:
    """The peak of this process's resident memory so far.

    What getrusage tells begins at the peak of the process that started this one.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1]) / 1024


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Median (least–most)."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({span(low, high, f'.{digits}f', 1)})"
