"""The program's commands, run as a user runs them, on a network and a corpus shrunk to seconds."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
# As in tests/conftest.py: most of the time is compilation, and takes half of it without LLVM.
_ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "MPLBACKEND": "Agg",
    "XLA_FLAGS": "--xla_backend_optimization_level=0",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "no_proxy": "127.0.0.1",
}
_SHRUNK = """--config.corpus.made.n_speakers=6 --config.corpus.made.n_sentences=2
    --config.features.n_mels=32 --config.features.n_mfcc=16 --config.augmentation.views=('noise',)
    --config.split.n_folds=3 --config.model.widths=(8,8) --config.model.kernels=(6,6)
    --config.model.dense=16 --config.train.epochs=3 --config.train.batch_size=16
    --config.evaluate.batch_size=16""".split()


@dataclass(frozen=True)
class Ended:
    """A command that has ended, by itself or by being stopped."""

    code: int  # as subprocess gives it: negative for a signal
    out: str
    err: str
    seconds: float
    timed_out: bool = False

    def trouble(self, codes: Sequence[int]) -> str:
        """Return what no input may lead to, in words; "" if there is nothing of the kind."""
        if self.timed_out:
            return f"not ended after {self.seconds:.0f} s"
        if "<frozen" in self.err and str(ROOT) not in self.err and "KeyboardInterrupt" in self.err:
            return ""  # Ctrl-C before the program's first line
        if "Traceback" in self.err or "Fatal Python error" in self.err:
            return f"a traceback: {self.err[-1500:]}"
        if self.code not in codes:
            return f"exit code {self.code}: {self.err[-1500:]}"
        return ""


def environment(folder: Path) -> dict[str, str]:
    """Return the environment of the commands; compiled programs are kept below `folder`."""
    return {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"), **_ENVIRONMENT}


def start(
    arguments: Sequence[str], folder: Path, most_bytes: int | None = None
) -> subprocess.Popen:
    """Start Python in a session of its own, where no file can have more than `most_bytes`."""
    limited = (
        ["sh", "-c", f'ulimit -f {most_bytes // 512} && exec "$@"', "sh"] if most_bytes else []
    )
    return subprocess.Popen(
        [*limited, sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="backslashreplace",
        start_new_session=True,
        stdin=subprocess.DEVNULL,
    )


def end(process: subprocess.Popen, timeout: float) -> Ended:
    """Wait for a process; all of its session is killed after `timeout` seconds."""
    begin = time.monotonic()
    try:
        out, err = process.communicate(timeout=timeout)
        late = False
    except subprocess.TimeoutExpired:
        kill_session(process.pid)
        out, err = process.communicate()
        late = True
    return Ended(process.returncode, out, err, time.monotonic() - begin, late)


def run(
    arguments: Sequence[str],
    folder: Path,
    timeout: float = 900.0,
    most_bytes: int | None = None,
) -> Ended:
    """Run Python to its end; see `start`."""
    return end(start(arguments, folder, most_bytes), timeout)


def session(leader: int) -> list[int]:
    """Return the living processes of a session."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, number = re.sub(r".*\)", "", stat.read_text()).split()[:4]
        except OSError:
            continue
        if int(number) == leader and state != "Z":
            found.append(int(stat.parent.name))
    return found


def kill_session(leader: int) -> None:
    """Kill what is left of a session."""
    for process in session(leader):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def launch(folder: Path, mode: str, *further: str) -> list[str]:
    """Return the arguments of launch.py; records, corpus and workdir are in `folder`."""
    return [
        "launch.py",
        "--config=configs/cnn2d.py:demo",
        *_SHRUNK,
        f"--config.corpus.root={folder / 'corpus'}",
        f"--config.records_dir={folder / 'records'}",
        f"--workdir={folder / 'run'}",
        f"--mode={mode}",
        *further,
    ]


def must(arguments: Sequence[str], folder: Path) -> Ended:
    """Run what has no reason to fail."""
    ended = run(arguments, folder)
    if ended.code:
        raise RuntimeError(f"{arguments} ended with {ended.code}: {ended.err[-3000:]}")
    return ended
