"""A view's records → files, in TFDS's order (by hashed key), in bounded memory.

TFDS itself sorts up to 1 GB in memory and asks for TensorFlow beyond; with this the records, their
order and their files are the same, and nothing but one bucket is ever held.
"""

from collections.abc import Iterator
from pathlib import Path

N_BUCKETS = 256  # what is sorted in memory is the 256th part of a view
_KEY_BYTES, _LENGTH_BYTES = 16, 8  # TFDS hashes by MD5


class Sorter:
    """Takes records in any order and gives them back sorted, once, in any process.

    The buckets are cut by the leading bits of the key, so they follow one another. Each is a file
    that is open only while it is written to, for systems allow few to be open at once.

    Attributes:
      folder: where the buckets are.
      n_records: taken so far.
      n_bytes: of those, without their keys.
    """

    def __init__(self, folder: Path):
        """Makes the folder, which is the caller's to remove."""
        folder.mkdir()
        self.folder = folder
        self.n_records, self.n_bytes = 0, 0

    def add(self, key: int, record: bytes) -> None:
        """Takes a record.

        Args:
          key: of 128 bits; sorted by it.
          record: any bytes.
        """
        with self._bucket(key * N_BUCKETS >> 8 * _KEY_BYTES).open("ab") as file:
            file.write(key.to_bytes(_KEY_BYTES) + len(record).to_bytes(_LENGTH_BYTES))
            file.write(record)
        self.n_records += 1
        self.n_bytes += len(record)

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """(key, record) by key.

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
            bucket.unlink()  # the disk need not hold all of it twice

    def _bucket(self, number: int) -> Path:
        return self.folder / f"{number:03d}"


def _read(bucket: Path) -> Iterator[tuple[int, bytes]]:
    with bucket.open("rb") as file:
        while key := file.read(_KEY_BYTES):
            length = int.from_bytes(file.read(_LENGTH_BYTES))
            yield int.from_bytes(key), file.read(length)
