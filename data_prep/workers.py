"""What every worker process does first, and what it is given to do at once. Light to import."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence


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
