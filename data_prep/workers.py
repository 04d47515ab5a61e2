"""What every worker process does first. Light to import, since each of them imports it."""

import multiprocessing
import os
import signal
import threading


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
