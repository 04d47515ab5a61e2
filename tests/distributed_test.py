"""Two processes of two devices train one run: as one process would, killed or not."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from end_to_end_test import ROOT, launch
from train_test import CLOCK

TWO_DEVICES = "--xla_force_host_platform_device_count=2"
# Gloo, which connects the processes on CPUs, writes past Python: lines of these pieces, and two
# that it writes at once lie within each other.
GLOO = re.compile(
    r"(\[Gloo\] Rank | is connected to | peer ranks\. "
    r"|Expected number of connected peer ranks is : |\d|\n)*"
)
N_EPOCHS = 5  # enough to be killed in the middle
EPOCHS = (f"--config.train.epochs={N_EPOCHS}", "--config.train.stopping_patience=0")


def start(number: int, port: int, *arguments: str) -> subprocess.Popen:
    """One of two processes that think they are two machines with two devices each."""
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


def finish(processes: list[subprocess.Popen]) -> list[str]:
    """Their consoles."""
    consoles = []
    for process in processes:
        out, err = process.communicate(timeout=900)  # or none, were one to hang
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


def assert_same(one: Path, other: Path) -> None:
    assert len(rows(one)) == len(rows(other)) > 0
    for a, b in zip(rows(one), rows(other), strict=True):
        assert a == pytest.approx(b, rel=1e-3, abs=1e-3)
    one, other = (json.loads((w / "results.json").read_text()) for w in (one, other))
    assert one["loss"] == pytest.approx(other["loss"], rel=1e-3)
    assert one["n_test"] == other["n_test"]


@pytest.fixture(scope="module")
def arguments(flags) -> tuple[str, ...]:
    """Two replicas for two rows of devices, each row with a device of each process or not."""
    return (*flags, "--config.replicas.seeds=2", *EPOCHS)


@pytest.fixture(scope="module")
def two(arguments, tmp_path_factory) -> tuple[Path, list[str]]:
    """The run of two processes that nothing disturbs, and their consoles."""
    workdir = tmp_path_factory.mktemp("runs") / "two"
    return workdir, finish(start_both(*arguments, f"--workdir={workdir}"))


def test_two_processes_equal_one(arguments, two, tmp_path):
    workdir, (first, second) = two
    one = launch(*arguments, f"--workdir={tmp_path / 'one'}")
    assert one.returncode == 0, one.stderr
    assert "on 4 devices, 2 for replicas × 2 for each batch" in first
    assert "streamed from disk" in first and "The report is" in first
    assert GLOO.fullmatch(second), second
    assert_same(workdir, tmp_path / "one")
    files = {path.name for path in workdir.iterdir()}
    assert files == {path.name for path in (tmp_path / "one").iterdir()}


def test_two_processes_that_are_killed_go_on(arguments, two, tmp_path):
    workdir = tmp_path / "killed"
    processes = start_both(*arguments, f"--workdir={workdir}")
    while len(rows(workdir)) < 2 * 2:
        assert all(process.poll() is None for process in processes)
        time.sleep(0.01)
    for process in processes:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert 2 <= rows(workdir)[-1]["epoch"] < N_EPOCHS
    consoles = finish(start_both(*arguments, f"--workdir={workdir}"))
    assert "Going on after step" in consoles[0]
    assert_same(workdir, two[0])


def test_one_process_alone_finds_no_other(flags, tmp_path):
    run = launch(*flags, f"--workdir={tmp_path / 'run'}", "--distributed")
    assert run.returncode == 1
    assert "error: --distributed found no other processes" in run.stderr
    assert "Traceback" not in run.stderr
