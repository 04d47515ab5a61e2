"""External sort of a view's records by hashed key, which is TFDS's order, in bounded memory.

TFDS itself sorts up to 1 GB in memory and needs TensorFlow beyond that. The records and their order
are the same here, and at most one bucket is in memory.
"""

from collections.abc import Iterator
from pathlib import Path

N_BUCKETS = 256
_KEY_BYTES, _LENGTH_BYTES = 16, 8  # TFDS hashes by MD5


class Sorter:
    """Takes records in any order and returns them sorted, once, in any process.

    A record's bucket is given by the leading bits of its key, so sorting each bucket sorts all. A
    bucket is a file, opened only to append to it: the number of open files is limited.
    """

    def __init__(self, folder: Path):
        """Create the folder of the buckets; the caller removes it."""
        folder.mkdir()
        self.folder = folder
        self.n_records, self.n_bytes = 0, 0  # added so far, without their keys

    def add(self, key: int, record: bytes) -> None:
        """Add a record under a 128-bit key."""
        with self._bucket(key * N_BUCKETS >> 8 * _KEY_BYTES).open("ab") as file:
            file.write(key.to_bytes(_KEY_BYTES) + len(record).to_bytes(_LENGTH_BYTES))
            file.write(record)
        self.n_records += 1
        self.n_bytes += len(record)

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Yield (key, record) by ascending key, deleting each bucket when it has been read.

        Raises:
          ValueError: two records have the same key.
        """
        for bucket in filter(Path.exists, map(self._bucket, range(N_BUCKETS))):
            last = -1
            for key, record in sorted(_read(bucket)):
                if key == last:
                    raise ValueError("two records have the same key")
                yield key, record
                last = key
            bucket.unlink()  # so that the disk does not have to hold all records twice

    def _bucket(self, number: int) -> Path:
        return self.folder / f"{number:03d}"


def _read(bucket: Path) -> Iterator[tuple[int, bytes]]:
    with bucket.open("rb") as file:
        while key := file.read(_KEY_BYTES):
            length = int.from_bytes(file.read(_LENGTH_BYTES))
            yield int.from_bytes(key), file.read(length)
