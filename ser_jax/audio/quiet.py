"""Keeps the chatter of libmpg123, the MP3 decoder of libsndfile, off stderr."""

import contextlib
import os
import re
import tempfile
import threading
from collections.abc import Iterator

# As in the source of libmpg123, which marks most lines; all other lines are passed on.
_CHATTER = re.compile(
    rb"\[src/libmpg123/|Note: |Warning: .*(Xing|Frankenstein|Encountered)|.*Frankenstein"
    rb"|.*[Rr]esync|dequantization failed|bit deficit|missing bits|.*ID3v2|.*Illegal.*MPEG"
    rb"|\s*$"
)
_STDERR = 2


class _Redirection:
    """File descriptor 2, pointed at a temporary file while any thread is within."""

    def __init__(self):
        self._lock = threading.Lock()
        self._n_within = 0
        self._stderr = self._file = -1
        self._n_passed = 0

    def enter(self) -> None:
        with self._lock:
            self._n_within += 1
            if self._n_within == 1:
                self._redirect()

    def _redirect(self) -> None:
        try:
            self._stderr = os.dup(_STDERR)
        except OSError:  # it is closed
            return
        try:
            self._file, self._n_passed = _temporary_file(), 0
            os.dup2(self._file, _STDERR)
        except OSError:  # there is no room for a file
            os.close(self._stderr)

    def leave(self) -> None:
        with self._lock:
            self._n_within -= 1
            if self._file < 0:
                return
            if not self._n_within:
                os.dup2(self._stderr, _STDERR)
            self._pass_on()
            if not self._n_within:
                os.close(self._file)
                os.close(self._stderr)
                self._stderr = self._file = -1

    def _pass_on(self) -> None:
        """Write to stderr what others wrote into the file since the last call."""
        size = os.fstat(self._file).st_size
        text = os.pread(self._file, size - self._n_passed, self._n_passed)
        self._n_passed += len(text)
        lines = [line for line in text.splitlines(keepends=True) if not _CHATTER.match(line)]
        if lines:
            with contextlib.suppress(OSError):
                os.write(self._stderr, b"".join(lines))


def _temporary_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("stderr")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


_redirection = _Redirection()


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Drop what libmpg123 writes to stderr within; what others write comes a moment later.

    libsndfile has no option for it. Several threads may be within at the same time.
    """
    _redirection.enter()
    try:
        yield
    finally:
        _redirection.leave()
