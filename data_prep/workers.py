"""What every worker process does first, and what it is given to do at once. Light to import."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

from tqdm import tqdm


def exit_with_parent() -> None:
    """Ends this worker when the process that started it is gone, however it went.

    Ctrl-C reaches every process of a terminal; a worker leaves it to the one that started it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def wait() -> None:
        parent.join()
        os._exit(1)

    if parent is not None:
        threading.Thread(target=wait, daemon=True).start()


def n_processors() -> int:
    """How many this process may use; not every system says which."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def batches(items: Sequence, size: int) -> list[Sequence]:
    """The items in order, so many at a time; the last may be fewer."""
    return [items[i : i + size] for i in range(0, len(items), size)]


Item = TypeVar("Item")


Result = TypeVar("Result")


def in_threads(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    jobs: int,
    title: str,
    stop: threading.Event | None = None,
) -> Iterator[tuple[Item, Result]]:
    """Yields (item, function(item)) as each is ready, under a progress bar.

    When the caller leaves early, or presses Ctrl-C, items not begun are dropped, and `stop` is
    set so that those under way can end soon.
    """
    pool = ThreadPoolExecutor(jobs)
    try:
        items_of = {pool.submit(function, item): item for item in items}
        done = as_completed(items_of)
        for future in tqdm(done, title, len(items_of), unit="file", disable=None):
            yield items_of[future], future.result()
    finally:
        if stop:
            stop.set()
        pool.shutdown(cancel_futures=True)
