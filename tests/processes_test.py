"""Two processes with two devices each train one run: the same as one process, killed or not."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import types
from pathlib import Path

import jax
import pytest
from end_to_end_test import ROOT, launch
from train_test import CLOCK

from ser_jax.common.errors import UserError
from ser_jax.parallel import processes
from ser_jax.train import checkpoints

TWO_DEVICES = "--xla_force_host_platform_device_count=2"
# Gloo, which connects processes on CPUs, prints these pieces itself; lines that two processes write
# at the same time are interleaved.
GLOO = re.compile(
    r"(\[Gloo\] Rank | is connected to | peer ranks\. "
    r"|Expected number of connected peer ranks is : |\d|\n)*"
)
N_EPOCHS = 5  # enough to kill it in the middle
EPOCHS = (f"--config.train.epochs={N_EPOCHS}", "--config.train.stopping_patience=0")


def start(number: int, port: int, *arguments: str) -> subprocess.Popen:
    """Start one of two processes, each with two devices as if it were a machine of its own."""
    return subprocess.Popen(
        [
            sys.executable,
            "launch.py",
            "--distributed",
            f"--coordinator=127.0.0.1:{port}",
            "--num_processes=2",
            f"--process_id={number}",
            *arguments,
        ],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {TWO_DEVICES}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_both(*arguments: str) -> list[subprocess.Popen]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [start(number, port, *arguments) for number in (0, 1)]


def finish(launched: list[subprocess.Popen]) -> list[str]:
    """Wait for the processes and return their stdout."""
    consoles = []
    for process in launched:
        out, err = process.communicate(timeout=900)  # in case one hangs
        assert process.returncode == 0, err
        consoles.append(out)
    return consoles


def rows(workdir: Path) -> list[dict]:
    path = workdir / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [
        {k: v for k, v in json.loads(line).items() if k not in CLOCK}
        for line in lines
        if line.endswith("}")
    ]


def assert_same(first: Path, second: Path) -> None:
    assert len(rows(first)) == len(rows(second)) > 0
    for a, b in zip(rows(first), rows(second), strict=True):
        assert a == pytest.approx(b, rel=1e-3, abs=1e-3)
    first, second = (json.loads((w / "results.json").read_text()) for w in (first, second))
    assert first["loss"] == pytest.approx(second["loss"], rel=1e-3)
    assert first["n_test"] == second["n_test"]


@pytest.fixture(scope="module")
def arguments(flags) -> tuple[str, ...]:
    """Two replicas on a 2×2 mesh."""
    return (*flags, "--config.replicas.seeds=2", *EPOCHS)


@pytest.fixture(scope="module")
def two(arguments, tmp_path_factory) -> tuple[Path, list[str]]:
    """An uninterrupted run of two processes, and their stdout."""
    workdir = tmp_path_factory.mktemp("runs") / "two"
    return workdir, finish(start_both(*arguments, f"--workdir={workdir}"))


def test_two_processes_equal_one(arguments, two, tmp_path):
    workdir, (first, second) = two
    single = launch(*arguments, f"--workdir={tmp_path / 'one'}")
    assert single.returncode == 0, single.stderr
    assert "on 4 devices, 2 for replicas × 2 for each batch" in first
    assert "streamed from disk" in first and "The run report is" in first
    assert GLOO.fullmatch(second), second
    assert_same(workdir, tmp_path / "one")
    files = {path.name for path in workdir.iterdir()}
    assert files == {path.name for path in (tmp_path / "one").iterdir()}


def test_two_killed_processes_resume(arguments, two, tmp_path):
    workdir = tmp_path / "killed"
    often = "--config.train.checkpoint_seconds=0"
    launched = start_both(*arguments, often, f"--workdir={workdir}")
    # Checkpoints are written in the background, however long that takes; a save waits for the one
    # before, so that one is complete by the third epoch.
    while not any(path.name.isdigit() for path in workdir.glob("checkpoints/last/*")):
        assert all(process.poll() is None for process in launched)
        time.sleep(0.01)
    for process in launched:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert all(row["epoch"] < N_EPOCHS for row in rows(workdir))
    consoles = finish(start_both(*arguments, f"--workdir={workdir}"))
    assert "Resuming after step" in consoles[0]
    assert_same(workdir, two[0])


def test_saves_of_several_processes_do_not_overlap(monkeypatch, tmp_path):
    """Orbax's barriers would meet: "Barrier … is already ongoing", in one of some ten saves."""
    events: list[str] = []

    class Checkpointer:
        def __init__(self, name):
            self.name, self.directory = name, tmp_path

        def save_async(self, *_, force):
            events.append(f"{self.name} begins")
            return types.SimpleNamespace(result=lambda: events.append(f"{self.name} ends"))

    writer = checkpoints.Writer.__new__(checkpoints.Writer)
    writer._begun = {}
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    for checkpointer in (Checkpointer("best"), Checkpointer("last")):
        writer._begin(checkpointer, 1, {})
    writer.wait()
    assert events == ["best begins", "best ends", "last begins", "last ends"]


def test_distributed_flag_without_other_processes_is_an_error(flags, tmp_path):
    run = launch(*flags, f"--workdir={tmp_path / 'run'}", "--distributed")
    assert run.returncode == 1
    assert "error: --distributed found no other processes" in run.stderr
    assert "Traceback" not in run.stderr


def test_first_process_goes_first_and_its_failure_fails_all(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    calls: list[str] = []

    def process(first: bool, failed_elsewhere: bool, make) -> object:
        def any_process(flag):
            calls.append("barrier")
            return flag or failed_elsewhere

        monkeypatch.setattr(processes, "_barrier", lambda: None)
        monkeypatch.setattr(processes, "is_first", lambda: first)
        monkeypatch.setattr(processes, "any_process", any_process)
        return processes.first_then_others(make)

    def make():
        calls.append("make")
        return len(calls)

    def fail():
        raise UserError("no corpus")

    assert process(True, False, make) == 1 and calls == ["make", "barrier"]
    assert process(False, False, make) == 4 and calls[2:] == ["barrier", "make"]
    with pytest.raises(UserError, match="no corpus"):
        process(True, False, fail)
    with pytest.raises(UserError, match="the first process failed"):
        process(False, True, make)
    assert calls[4:] == ["barrier", "barrier"]
