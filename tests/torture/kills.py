"""Commands stopped at random moments by kill -9, SIGTERM or Ctrl-C, and then run again."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.torture import commands, programs
from tests.torture.programs import PROGRAMS, State
from tests.torture.trial import Trial

_SIGNALS = {"kill -9": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "Ctrl-C": signal.SIGINT}
# A study takes as long as all others together.
_WEIGHTS = {name: 0.3 if name == "study" else 1.0 for name in PROGRAMS}
# Processes that have died of a signal, or have saved and ended by themselves.
_CODES = {
    signal.SIGKILL: (-signal.SIGKILL,),
    signal.SIGTERM: (-signal.SIGTERM, 143, 130),
    signal.SIGINT: (-signal.SIGINT, 130),
}
_PATIENCE = 180.0  # s, from a signal to the end
_GRACE = 30.0  # s, until the worker processes of a killed command have ended


def run(seed: int, count: int, folder: Path) -> Iterator[Trial]:
    """See tests/torture/trial.py."""
    base = folder / "base"
    programs.make_base(base)
    undisturbed: dict[str, tuple[State, float]] = {}
    with programs.server(base):
        for number in range(seed, seed + count):
            random = np.random.default_rng(number)
            weights = np.array(list(_WEIGHTS.values()))
            name = str(random.choice(list(_WEIGHTS), p=weights / weights.sum()))
            if name not in undisturbed:
                undisturbed[name] = undisturbed_run(name, base, folder / "undisturbed")
            yield _stop(number, name, random, base, folder / f"{number}", *undisturbed[name])


def undisturbed_run(name: str, base: Path, folder: Path, keep: bool = False) -> tuple[State, float]:
    """Return what a program leaves, and the seconds that it takes; `keep` its folder or not."""
    program = PROGRAMS[name]
    program.set_up(base, folder)
    ended = commands.must(program.arguments(base, folder), base)
    state = program.state(folder)
    if not keep:
        shutil.rmtree(folder)
    return state, ended.seconds


def _stop(
    seed: int,
    name: str,
    random: np.random.Generator,
    base: Path,
    folder: Path,
    expected: State,
    seconds: float,
) -> Trial:
    program, how = PROGRAMS[name], str(random.choice(list(_SIGNALS)))
    number, everyone = _SIGNALS[how], bool(random.random() < 0.5)
    moment = seconds * random.uniform(0, 1.05)
    program.set_up(base, folder)
    process = commands.start(program.arguments(base, folder), base)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(moment)
    is_running = process.poll() is None
    if is_running:
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if everyone else os.kill)(process.pid, number)
    ended = commands.end(process, _PATIENCE)
    faults = []
    codes = (0, *_CODES[number]) if is_running else (0,)
    if trouble := ended.trouble(codes):
        faults.append(trouble)
    if left := _survivors(process.pid):
        faults.append(f"{left} processes still run after {_GRACE:.0f} s")
        commands.kill_session(process.pid)
    hidden = [path for path in folder.rglob(".*") if not path.name.startswith(".unfinished")]
    if number != signal.SIGKILL and hidden:
        faults.append(f"left behind: {hidden[0]}")
    again = commands.run(program.arguments(base, folder), base)
    if trouble := again.trouble((0,)):
        faults.append(f"run again: {trouble}")
    else:
        found = program.state(folder)
        if number == signal.SIGKILL:  # it may leave a hidden file under a temporary name
            found = {name: text for name, text in found.items() if "/." not in name}
        faults += differences(expected, found)
    outcome = "resumed" if ended.code else "had ended" if not is_running else "ended by itself"
    if faults:
        whom = "all processes" if everyone else "the first process"
        faults.insert(0, f"after {moment:.2f} of {seconds:.2f} s, to {whom}")
    else:
        shutil.rmtree(folder)
    return Trial("kills", f"{name}, {how}", seed, outcome, "; ".join(faults))


def _survivors(leader: int) -> int:
    deadline = time.monotonic() + _GRACE
    while commands.session(leader) and time.monotonic() < deadline:
        time.sleep(0.1)
    return len(commands.session(leader))


def differences(expected: State, found: State) -> list[str]:
    """Return in words how a state differs from the undisturbed one."""
    faults = []
    for verb, names in (
        ("is missing", expected.keys() - found.keys()),
        ("is too much", found.keys() - expected.keys()),
        ("differs", {n for n in expected.keys() & found.keys() if expected[n] != found[n]}),
    ):
        faults += [f"{name} {verb}" for name in sorted(names)[:3]]
    return faults
