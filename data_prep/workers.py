"""What every worker process does first. Light to import, since each of them imports it."""

import multiprocessing
import os
import threading


def exit_with_parent() -> None:
    """For a worker process: ends it when the process that started it is gone, however it went."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        parent.join()
        os._exit(1)

    if parent is not None:
        threading.Thread(target=wait, daemon=True).start()
