"""A web server in a thread, for the tests of downloads."""

import contextlib
import threading
from collections.abc import Iterator
from typing import TypeVar

Server = TypeVar("Server")


@contextlib.contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Run a server, which has an event `stall` that its answers may wait for."""
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.stall.set()
        server.shutdown()
