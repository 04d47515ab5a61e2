"""map_ahead keeps the order and the bound, and ends promptly however it is ended."""

import concurrent.futures
import contextlib
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ser_jax.common.concurrency import map_ahead, result_of

ROOT = Path(__file__).parents[1]


def double_after_a_while(item: int) -> int:
    time.sleep(0.02 * (item % 3))
    return 2 * item


@pytest.mark.parametrize("n_items", [0, 1, 3, 20])
@pytest.mark.parametrize("ahead", [1, 2, 5, 100])
def test_results_come_in_order(n_items, ahead):
    results = map_ahead(double_after_a_while, range(n_items), ahead=ahead, n_threads=4)
    assert list(results) == [2 * item for item in range(n_items)]


def test_processes_compute_in_order_and_stay_open():
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
        for _ in range(2):
            assert list(map_ahead(abs, range(-5, 0), ahead=3, executor=pool)) == [5, 4, 3, 2, 1]


@pytest.mark.parametrize("ahead", [1, 2, 5])
def test_a_slow_consumer_bounds_what_is_started(ahead):
    started = []
    for n_consumed, _ in enumerate(map_ahead(started.append, range(12), ahead=ahead, n_threads=8)):
        time.sleep(0.01)
        assert len(started) <= n_consumed + ahead
    assert sorted(started) == list(range(12))


def test_workers_are_ahead_of_the_consumer():
    third_started = threading.Event()
    results = map_ahead(lambda i: i == 2 and third_started.set(), range(9), ahead=3)
    next(results)  # the first of three that are in flight
    assert third_started.wait(10)
    results.close()


def test_items_of_different_cost_share_the_bound():
    costs = [3, 3, 3, 50, 1, 1, 1, 1, 1]  # one above the bound is in flight alone
    in_flight, most = set(), []

    def start(i: int) -> int:
        in_flight.add(i)
        most.append(sum(costs[j] for j in in_flight))
        return i

    results = map_ahead(start, range(len(costs)), ahead=7, cost=costs.__getitem__)
    for i in results:
        time.sleep(0.01)
        in_flight.remove(i)
    assert max(most) == 50 and max(total for total in most if total != 50) <= 7


def test_an_exception_comes_in_its_turn_and_ends_the_map():
    started = []

    def fail_at_three(item: int) -> int:
        started.append(item)
        return 1 // (item - 3)

    results = map_ahead(fail_at_three, range(1000), ahead=5)
    assert [next(results) for _ in range(3)] == [-1, -1, -1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(results) == []
    time.sleep(0.05)
    assert len(started) <= 8


@pytest.mark.parametrize("own_pool", [True, False])
def test_closing_early_cancels_what_has_not_started_and_waits_for_nothing(own_pool):
    started, finish = [], threading.Event()

    def wait(item: int) -> None:
        started.append(item)
        if item:
            finish.wait(60)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        results = map_ahead(wait, range(100), ahead=50, executor=None if own_pool else pool)
        with contextlib.closing(results):
            next(results)
            while len(started) < 2:  # the second blocks the only thread
                time.sleep(0.001)
        assert started == [0, 1]
        finish.set()
        time.sleep(0.05)
        assert started == [0, 1]
        if not own_pool:
            assert pool.submit(abs, -1).result() == 1


def test_nothing_starts_before_the_first_result_is_asked_for():
    results = map_ahead(pytest.fail, range(3), ahead=2)
    results.close()


def test_ctrl_c_ends_promptly():
    program = (
        "import time; from ser_jax.common.concurrency import map_ahead\n"
        "for _ in map_ahead(lambda i: time.sleep(0.1), range(10_000), ahead=5_000):\n"
        "    print('first', flush=True)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert b"KeyboardInterrupt" in process.communicate(timeout=20)[1]


def test_a_call_cancelled_before_it_started_is_not_waited_for():
    future = concurrent.futures.Future()
    threading.Timer(0.1, future.cancel).start()
    with pytest.raises(concurrent.futures.CancelledError):
        result_of(future)
