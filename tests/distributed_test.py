"""Two processes of two devices train one run: as one process would, killed or not."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from end_to_end_test import ROOT, launch
from train_test import CLOCK

LONG = ("--config.train.epochs=8", "--config.train.stopping_patience=0")


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
        env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"},
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
        out, err = process.communicate(timeout=240)
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
    return (*flags, "--config.replicas.seeds=2", "--config.train.epochs=2")


def test_two_processes_equal_one(arguments, tmp_path):
    one = launch(*arguments, f"--workdir={tmp_path / 'one'}")
    assert one.returncode == 0, one.stderr
    first, second = finish(start_both(*arguments, f"--workdir={tmp_path / 'two'}"))
    assert "on 4 devices, 2 for replicas × 2 for each batch" in first
    assert "streamed from disk" in first and "The report is" in first
    # Gloo, which connects the processes on CPUs, writes past Python.
    assert [line for line in second.splitlines() if not line.startswith("[Gloo]")] == []
    assert_same(tmp_path / "two", tmp_path / "one")
    files = {path.name for path in (tmp_path / "two").iterdir()}
    assert files == {path.name for path in (tmp_path / "one").iterdir()}


def test_two_processes_that_are_killed_go_on(arguments, tmp_path):
    arguments = (*arguments, *LONG)
    finish(start_both(*arguments, f"--workdir={tmp_path / 'whole'}"))
    workdir = tmp_path / "killed"
    processes = start_both(*arguments, f"--workdir={workdir}")
    while len(rows(workdir)) < 2 * 2:
        assert all(process.poll() is None for process in processes)
        time.sleep(0.01)
    for process in processes:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert 2 <= rows(workdir)[-1]["epoch"] < 8
    consoles = finish(start_both(*arguments, f"--workdir={workdir}"))
    assert "Going on after step" in consoles[0]
    assert_same(workdir, tmp_path / "whole")


def test_one_process_alone_finds_no_other(flags, tmp_path):
    run = launch(*flags, f"--workdir={tmp_path / 'run'}", "--distributed")
    assert run.returncode == 1
    assert "error: --distributed found no other processes" in run.stderr
    assert "Traceback" not in run.stderr
