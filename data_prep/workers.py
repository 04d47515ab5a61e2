"""Helpers for worker processes and threads. Light to import."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from tqdm import tqdm

from ser_jax.common import interrupts
from ser_jax.common.concurrency import map_ahead
from ser_jax.common.errors import UserError

AHEAD = 64  # calls in flight per thread, so that a slow one holds up no others for long
GRACE = 2.0  # seconds in which a worker may finish what it is doing

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextlib.contextmanager
def process_pool(n_processes: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool whose workers end with this process; an error cancels the waiting calls.

    Signals are deferred, see `interrupts`; they end the workers soon.

    Raises:
      UserError: a worker was killed.
    """
    context = multiprocessing.get_context("spawn")  # JAX's threads do not survive a fork
    with interrupts.deferred():
        pool = _Pool(n_processes, context, initializer=_exit_with_parent)
        try:
            yield pool
        except (BrokenProcessPool, KeyboardInterrupt) as error:
            # The pool itself may wait for ever for a worker that started while another one was
            # killed, or for the rest of a result that a killed worker has begun to send.
            deadline, started = time.monotonic() + GRACE, list(pool._processes.values())
            pool.shutdown(wait=False, cancel_futures=True)
            ended_by = set()
            for worker in started:
                worker.join(max(0.0, deadline - time.monotonic()))
                ended_by.add(worker.exitcode)
                worker.kill()
                worker.join()
            interrupts.check()
            if isinstance(error, KeyboardInterrupt):
                raise
            # SIGTERM may reach the workers before it reaches this process. (The pool sends it too,
            # to the workers that are left when one has ended.)
            if ended_by <= {None, -signal.SIGTERM}:
                raise KeyboardInterrupt from error
            raise UserError(
                "a worker process was killed, most likely because memory ran out; free some memory "
                "and run again."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


class _Pool(ProcessPoolExecutor):
    """A pool whose workers, which `submit` starts, do not load the program's main module."""

    def submit(self, *args, **kwargs) -> Future:
        # Ctrl-C reaches all processes of a terminal, and only this one is to handle it: a blocked
        # signal is blocked in a new process too, from its first instruction on. The main module may
        # be a script that prepares records as soon as it is loaded.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        main, sys.modules["__main__"] = sys.modules["__main__"], types.ModuleType("__main__")
        try:
            return super().submit(*args, **kwargs)
        finally:
            sys.modules["__main__"] = main
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _exit_with_parent() -> None:
    """Make this worker process end when its parent does, in whatever way."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        parent.join()
        os._exit(1)

    if parent is not None:
        threading.Thread(target=wait, daemon=True).start()


def n_processors() -> int:
    """Return the number of processors this process may use, if the system says, or has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def batches(items: Sequence, size: int) -> list[Sequence]:
    """Divide items, in order, into batches of `size`; the last may be smaller."""
    return [items[i : i + size] for i in range(0, len(items), size)]


def map_with_progress(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    jobs: int,
    title: str,
    stop: threading.Event | None = None,
) -> Iterator[tuple[Item, Result]]:
    """Yield (item, function(item)) in order, computed by threads, under a progress bar.

    Closing the generator, or Ctrl-C, cancels the calls that have not started, sets `stop` so that
    the running ones can return early, and waits for them.
    """
    pool = ThreadPoolExecutor(jobs)
    try:
        results = map_ahead(function, items, ahead=AHEAD * jobs, executor=pool)
        bar = tqdm(results, title, len(items), unit="file", disable=None)
        yield from zip(items, bar, strict=True)
    finally:
        if stop:
            stop.set()
        pool.shutdown(cancel_futures=True)
