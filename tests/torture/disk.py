"""Commands on a disk that fills, and then run again with room."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.torture import commands, programs
from tests.torture.kills import differences, undisturbed_run
from tests.torture.programs import PROGRAMS, State
from tests.torture.trial import Trial

_DISK = 2**26  # bytes
_KEPT = "results.json", "predictions.csv", "report", "m.zip"


def run(seed: int, count: int, folder: Path) -> Iterator[Trial]:
    """See tests/torture/trial.py."""
    base = folder / "base"
    programs.make_base(base)
    undisturbed: dict[str, tuple[State, int]] = {}
    with programs.server(base), _small_disk(folder / "disk") as is_disk:
        for number in range(seed, seed + count):
            random = np.random.default_rng(number)
            name = str(random.choice(list(PROGRAMS)))
            if name not in undisturbed:
                undisturbed[name] = _undisturbed(name, base, folder / "undisturbed")
            space = int(undisturbed[name][1] * random.uniform(0, 1) ** 2)
            place = folder / "disk" / f"{number}"
            yield _fill(number, name, base, place, undisturbed[name][0], space, is_disk)


def _undisturbed(name: str, base: Path, folder: Path) -> tuple[State, int]:
    """Return what a program leaves, and how many bytes more there are than before."""
    state, _ = undisturbed_run(name, base, folder, keep=True)
    n_bytes = _size(folder)
    shutil.rmtree(folder)
    PROGRAMS[name].set_up(base, folder)
    n_before = _size(folder)
    shutil.rmtree(folder)
    return state, max(n_bytes - n_before, n_bytes // 4)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@contextlib.contextmanager
def _small_disk(folder: Path) -> Iterator[bool]:
    """Mount a small disk, and yield whether that is allowed."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", folder]
    try:
        is_disk = not subprocess.run(mount, capture_output=True).returncode
    except OSError:
        is_disk = False
    try:
        yield is_disk
    finally:
        if is_disk:
            subprocess.run(["umount", folder], check=True)


def _fill(
    seed: int, name: str, base: Path, folder: Path, expected: State, space: int, is_disk: bool
) -> Trial:
    """Run a program with `space` bytes left or, without a disk, for each file; then with room."""
    program, filler = PROGRAMS[name], folder.parent / "filler"
    program.set_up(base, folder)
    if name == "evaluate":  # a result of before
        shutil.copytree(base / "evaluated", folder / "run", dirs_exist_ok=True)
    if name == "export":
        (folder / "out").mkdir()
        (folder / "out" / "m.zip").write_bytes(b"of before")
    before = _contents(folder)
    if is_disk:
        left = os.statvfs(folder)
        filler.write_bytes(bytes(max(0, left.f_bavail * left.f_frsize - space)))
    arguments = program.arguments(base, folder)
    ended = commands.run(arguments, base, most_bytes=None if is_disk else space)
    filler.unlink(missing_ok=True)
    faults = []
    if trouble := ended.trouble((0, 1)):
        faults.append(trouble)
    elif ended.code:
        errors = [line for line in ended.err.splitlines() if line.startswith("error: ")]
        if len(errors) != 1 or f"{folder}" not in ended.err or len(ended.err) > 2000:
            faults.append(f"the message is: {ended.err[-2000:]}")
        now = _contents(folder)
        faults += [f"lost: {path}" for path, data in before.items() if now.get(path) != data]
    again = commands.run(arguments, base)
    if trouble := again.trouble((0,)):
        faults.append(f"run again: {trouble}")
    else:
        faults += differences(expected, program.state(folder))
    if faults:
        faults.insert(0, f"{space:,} bytes")
    shutil.rmtree(folder)
    outcome = "stopped and resumed" if ended.code else "fitted"
    kind = "full disk" if is_disk else "file too large"
    return Trial("disk", f"{name}, {kind}", seed, outcome, "; ".join(faults))


def _contents(folder: Path) -> dict[str, bytes]:
    """Return the results in a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and set(path.relative_to(folder).parts) & set(_KEPT)
    }
