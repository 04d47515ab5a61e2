"""Records are returned sorted by key, once, in any process, and leave nothing on the disk."""

import pickle
import random

import pytest

from data_prep.records.sorting import N_BUCKETS, Sorter


@pytest.fixture
def sorter(tmp_path) -> Sorter:
    return Sorter(tmp_path / "view")


def test_records_are_sorted_by_key(sorter):
    draw = random.Random(0)
    # Several records in one bucket, many empty buckets, both extreme keys, and empty records.
    keys = [0, 2**128 - 1, *(draw.getrandbits(128) for _ in range(40)), *range(1, 9)]
    records = [(key, draw.randbytes(draw.randrange(5))) for key in keys]
    for key, record in records:
        sorter.add(key, record)
    assert sorter.n_records == len(records)
    assert sorter.n_bytes == sum(len(record) for _, record in records)
    copy = pickle.loads(pickle.dumps(sorter))  # noqa: S301 — as when sent to a worker
    assert list(copy) == sorted(records)
    assert not list(sorter.folder.iterdir())


def test_only_one_bucket_is_read_at_a_time(sorter):
    for bucket in range(N_BUCKETS):
        sorter.add(bucket << 120, bytes(100))
    records = iter(sorter)
    for _ in range(10):
        next(records)
    # Nine buckets are used up and gone from the disk.
    assert sorted(path.name for path in sorter.folder.iterdir())[0] == "009"
    assert len(list(sorter.folder.iterdir())) == N_BUCKETS - 9


def test_the_same_key_twice_is_an_error(sorter):
    sorter.add(7, b"one")
    sorter.add(7, b"other")
    with pytest.raises(ValueError, match="two records have the same key"):
        list(sorter)
