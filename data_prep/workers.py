"""Helpers for worker processes and threads. Light to import."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from tqdm import tqdm

from ser_jax.common.concurrency import map_ahead
from ser_jax.common.errors import UserError

AHEAD = 64  # calls in flight per thread, so that a slow one holds up no others for long

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextlib.contextmanager
def process_pool(n_processes: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool whose workers end with this process; an error cancels the waiting calls.

    Raises:
      UserError: a worker was killed.
    """
    context = multiprocessing.get_context("spawn")  # JAX's threads do not survive a fork
    with ProcessPoolExecutor(n_processes, context, initializer=_exit_with_parent) as pool:
        try:
            yield pool
        except BaseException as error:
            pool.shutdown(cancel_futures=True)
            if isinstance(error, BrokenProcessPool):
                raise UserError(
                    "a worker process was killed, most likely because memory ran out; free some "
                    "memory and run again."
                ) from error
            raise


def _exit_with_parent() -> None:
    """Make this worker process end when its parent does, in whatever way."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent handles it
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
