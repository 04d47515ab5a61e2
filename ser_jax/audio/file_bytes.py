"""The bytes of a file, of which only a part is in memory."""

import os

_WINDOW = 2**20  # bytes in memory; smaller files are read whole
_BEHIND = 2**16  # of them in front of those that were asked for


class FileBytes:
    """Behaves like `bytes`; unlike in a memory map, a read error does not end the process."""

    def __init__(self, descriptor: int):
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self._start, self._window = 0, b""

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, key: int | slice) -> int | bytes:
        if isinstance(key, int):
            return self._read(key, key + 1)[0]
        start, end, _ = key.indices(self._size)
        return self._read(start, max(start, end))

    def find(self, marker: bytes, start: int = 0) -> int:
        """Return where a marker is found at or after `start`; −1 if nowhere."""
        while len(self._read(start, start + len(marker))) == len(marker):
            place = self._window.find(marker, start - self._start)
            if place >= 0:
                return self._start + place
            start = self._start + len(self._window) - len(marker) + 1
        return -1

    def _read(self, start: int, end: int) -> bytes:
        if not self._start <= start <= end <= self._start + len(self._window):
            self._start = max(start - _BEHIND, 0)
            length = max(end - self._start, _WINDOW)
            self._window = os.pread(self._descriptor, length, self._start)
        return self._window[start - self._start : end - self._start]


Bytes = bytes | FileBytes


def bytes_of(descriptor: int) -> Bytes:
    """Return the bytes of an open file."""
    content = FileBytes(descriptor)
    return content[:] if len(content) <= _WINDOW else content
