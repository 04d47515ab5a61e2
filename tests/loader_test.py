"""Batches from memory and from disk are the same, and reading ahead is bounded."""

import sys

import numpy as np
import pytest

from ser_jax.data import loader
from ser_jax.data.examples import sequential_batches, shuffled_batches
from ser_jax.data.loader import BatchLoader
from ser_jax.data.records import open_records
from ser_jax.parallel.mesh import make_layout
from ser_jax.train.experiment import Experiment, make_experiment


@pytest.fixture
def streamed(tiny, tiny_records) -> Experiment:
    config = tiny()
    config.input.memory_limit_gb = 0.0
    return make_experiment(config, open_records(tiny_records))


def test_streamed_batches_equal_resident_ones(streamed, tiny_experiment):
    assert streamed.examples.x_NxTxF is None
    layout = make_layout(tiny_experiment.config, 1)
    order_GxSxB = shuffled_batches(tiny_experiment.train_M(0), 20, 0, 1)[None]  # the last is padded
    for first in (0, 2):
        pairs = zip(
            BatchLoader(streamed.examples, layout).batches(order_GxSxB, first),
            BatchLoader(tiny_experiment.examples, layout).batches(order_GxSxB, first),
            strict=True,
        )
        for from_disk, from_memory in pairs:
            real = np.asarray(from_memory.mask_B)
            for a, b in zip(from_disk, from_memory, strict=True):
                np.testing.assert_array_equal(np.asarray(a)[real], np.asarray(b)[real])


def test_streaming_reads_growing_blocks_and_a_bounded_number_ahead(streamed, monkeypatch):
    order_GxSxB = sequential_batches(np.arange(70), 10)[None]
    reads, read = [], streamed.examples.read

    def counting_read(example_B):
        reads.append(len(example_B))
        return read(example_B)

    monkeypatch.setattr(streamed.examples, "read", counting_read)
    batch_loader = BatchLoader(streamed.examples, make_layout(streamed.config, 1))
    assert sys.getswitchinterval() == pytest.approx(loader.SWITCH_SECONDS)
    n_bytes = streamed.examples.bytes_per_example
    assert n_bytes == read(np.arange(1)).nbytes
    for first, max_examples, max_bytes, expected in (
        (10, 1000, 1000 * n_bytes, [10, 20, 40]),
        (10, 20, 1000 * n_bytes, [10, 20, 20, 20]),
        (10, 1000, 29 * n_bytes, [10, 20, 20, 20]),
        (1000, 1000, 1000 * n_bytes, [70]),
        (1, 1000, 1, [10] * 7),
    ):
        monkeypatch.setattr(loader, "FIRST_BLOCK", first)
        monkeypatch.setattr(loader, "EXAMPLES_PER_BLOCK", max_examples)
        monkeypatch.setattr(loader, "BYTES_PER_BLOCK", max_bytes)
        limit = min(max_examples, max_bytes // n_bytes)
        reads.clear()
        for number, _ in enumerate(batch_loader.batches(order_GxSxB), start=1):
            assert sum(reads) <= 10 * (number - 1) + 3 * max(10, limit)
        assert reads == expected


def test_on_a_cpu_resident_examples_are_not_copied(tiny_experiment):
    batch_loader = BatchLoader(tiny_experiment.examples, make_layout(tiny_experiment.config, 1))
    x_NxTxF = tiny_experiment.examples.x_NxTxF
    assert batch_loader.resident.x_NxTxF.unsafe_buffer_pointer() == x_NxTxF.ctypes.data
