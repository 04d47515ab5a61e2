"""Signals wait for a safe point, and pools end by them without hanging."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import pytest

from data_prep.workers import process_pool
from ser_jax.common import interrupts
from ser_jax.common.concurrency import map_ahead
from tests.packaging_test import PROJECT

ROOT = Path(__file__).parents[1]
BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@BOTH
def test_signal_is_raised_at_the_next_check(number):
    before, steps = signal.getsignal(number), []
    with pytest.raises(KeyboardInterrupt), interrupts.deferred():
        os.kill(os.getpid(), number)
        steps.append("after the signal")
        interrupts.check()
        steps.append("after the check")
    assert steps == ["after the signal"]
    assert signal.getsignal(number) == before


@BOTH
def test_signal_is_raised_at_the_end_of_the_block(number):
    with pytest.raises(KeyboardInterrupt), interrupts.deferred():
        os.kill(os.getpid(), number)
        ended = True
    assert ended


def test_block_that_polls_is_not_interrupted():
    with interrupts.deferred(raises=False) as stop:
        with interrupts.deferred() as inner:
            os.kill(os.getpid(), signal.SIGINT)
            interrupts.check()
        assert inner is stop and stop.received


def test_second_ctrl_c_is_raised_at_once():
    with pytest.raises(KeyboardInterrupt), interrupts.deferred(raises=False):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("not raised")


def test_other_threads_leave_signals_alone():
    before, errors = signal.getsignal(signal.SIGINT), []

    def work():
        try:
            with interrupts.deferred() as stop:
                interrupts.check()
                assert signal.getsignal(signal.SIGINT) == before and not stop.received
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not errors


def test_map_ahead_ends_at_the_next_result():
    results = []
    with pytest.raises(KeyboardInterrupt), interrupts.deferred():
        for result in map_ahead(lambda i: i, range(100), ahead=5):
            results.append(result)
            if result == 3:
                os.kill(os.getpid(), signal.SIGINT)
    assert results == [0, 1, 2, 3]


PROCESSES = """
import time
from data_prep.workers import process_pool
from ser_jax.common.cli import exit_with_message
from ser_jax.common.concurrency import map_ahead

def main():
    with process_pool(2) as pool:
        print("begun", flush=True)
        for _ in map_ahead(time.sleep, [0.05] * 10_000, ahead=100, executor=pool):
            pass

exit_with_message(main)
"""


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.1, 0.3, 1.0])
@BOTH
def test_signal_to_all_processes_of_a_pool(number, delay):
    """A terminal sends Ctrl-C to the workers too, which may just be starting."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROCESSES],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout.readline() == "begun\n"
    time.sleep(delay)
    os.killpg(process.pid, number)
    _, text = process.communicate(timeout=30)
    assert process.returncode == 130, text
    assert "error: interrupted" in text
    assert "memory" not in text, text
    # The standard library's pool may complain that SIGTERM has killed its workers.
    assert number == signal.SIGTERM or "Traceback" not in text, text


def test_workers_ended_by_sigterm_are_no_lack_of_memory():
    """It may reach them before it reaches their parent."""
    with pytest.raises(KeyboardInterrupt), process_pool(2) as pool:
        waiting = [pool.submit(time.sleep, 30) for _ in range(2)]
        for worker in pool._processes.values():
            os.kill(worker.pid, signal.SIGTERM)
        waiting[0].result()


def test_ctrl_c_in_a_callback_of_the_garbage_collector_is_raised_after_it(capsys):
    def callback(phase: str, info: object) -> None:
        gc.callbacks.remove(callback)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT), sys.unraisablehook
    with pytest.raises(KeyboardInterrupt), interrupts.never_lost():
        gc.callbacks.append(callback)
        gc.collect()
        time.sleep(10)
        pytest.fail("lost")
    assert (signal.getsignal(signal.SIGINT), sys.unraisablehook) == before
    assert not capsys.readouterr().err


def test_hook_that_was_set_within_a_program_outlasts_it(monkeypatch):
    before = []
    monkeypatch.setattr(sys, "unraisablehook", before.append)
    with interrupts.never_lost():
        within = sys.unraisablehook
        sys.unraisablehook = hook = lambda unraisable: within(unraisable)
    assert sys.unraisablehook is hook
    hook(unraisable := types.SimpleNamespace(exc_type=KeyboardInterrupt))  # raises no alarm
    assert before == [unraisable]


@BOTH
def test_signal_ends_a_program_by_its_finally_blocks(number):
    steps, before = [], signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), interrupts.never_lost():
        try:
            os.kill(os.getpid(), number)
            pytest.fail("not raised")
        finally:
            steps.append("cleaned up")
    assert steps == ["cleaned up"] and signal.getsignal(number) == before


def test_ctrl_c_that_a_library_turns_into_another_error_is_ctrl_c():
    with pytest.raises(KeyboardInterrupt), interrupts.never_lost():
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except KeyboardInterrupt as error:
            raise ImportError("an extension") from error
    with pytest.raises(ImportError), interrupts.never_lost():
        raise ImportError("by itself")


PROGRAMS = """launch.py data_prep/download.py data_prep/download_encoder.py data_prep/inspect
    data_prep/synthetic data_prep/verify ser_jax/compare ser_jax/export ser_jax/predict""".split()

STARTS = {
    **{name: ["-m", name.removesuffix(".py").replace("/", ".")] for name in PROGRAMS},
    "launch.py": ["launch.py"],
    **{
        name: ["-c", f"from {place.replace(':', ' import ')} as start; start()"]
        for name, place in PROJECT["scripts"].items()
    },
}


@pytest.mark.parametrize("program", STARTS)
def test_ctrl_c_while_a_program_is_loaded_ends_it_without_a_word(program, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(name, path=None, target=None):\n"
        "        if name == 'ser_jax.common.errors': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder)"
    )
    run = subprocess.run(
        [sys.executable, *STARTS[program]],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert run.returncode == -signal.SIGINT and not run.stderr, run.stderr.decode()


def test_second_ctrl_c_does_not_wait_for_threads():
    program = (
        "import time; from data_prep.workers import map_with_progress\n"
        "from ser_jax.common import cli, interrupts\n"
        "def main():\n"
        "    with interrupts.deferred():\n"
        "        print('begun', flush=True)\n"
        "        list(map_with_progress(time.sleep, [300] * 4, 4, 'sleeping'))\n"
        "cli.exit_with_message(main)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout.readline() == "begun\n"
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline() and "Ctrl-C again" in process.stderr.readline()
    time.sleep(0.7)  # now it waits for its threads
    process.send_signal(signal.SIGINT)
    assert "interrupted" in process.communicate(timeout=20)[1]
    assert process.returncode == 130
