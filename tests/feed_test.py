"""Batches are the same from memory and from disk, and read some at a time."""

import sys

import numpy as np
import pytest

from ser_jax.data import examples, records
from ser_jax.parallel import mesh
from ser_jax.train import experiment, loader


def test_streamed_batches_are_the_resident_ones(tiny, tiny_records, tiny_task):
    config = tiny()
    config.input.memory_limit_gb = 0.0
    streamed = experiment.make(config, records.open_records(tiny_records))
    assert streamed.examples.x_NxTxF is None
    layout = mesh.layout(tiny_task.config, 1)
    # The last batch is filled up.
    order = examples.shuffled_batches(tiny_task.train_M(0), 20, 0, 1)[None]
    for first in (0, 2):
        pairs = zip(
            loader.BatchLoader(streamed.examples, layout).batches(order, first),
            loader.BatchLoader(tiny_task.examples, layout).batches(order, first),
            strict=True,
        )
        for ours, theirs in pairs:
            real = np.asarray(theirs.mask_B)
            for a, b in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(np.asarray(a)[real], np.asarray(b)[real])


def test_streamed_batches_are_read_many_at_a_time_and_a_bounded_number_ahead(
    tiny, tiny_records, tiny_task, monkeypatch
):
    config = tiny()
    config.input.memory_limit_gb = 0.0
    streamed = experiment.make(config, records.open_records(tiny_records))
    order = examples.sequential_batches(np.arange(70), 10)[None]
    reads, read = [], streamed.examples.read

    def note(example_B):
        reads.append(len(example_B))
        return read(example_B)

    monkeypatch.setattr(streamed.examples, "read", note)
    fed = loader.BatchLoader(streamed.examples, mesh.layout(config, 1))
    assert sys.getswitchinterval() == pytest.approx(loader.SWITCH_SECONDS)
    each = streamed.examples.bytes_per_example
    assert each == streamed.examples.read(np.arange(1)).nbytes
    for first, most, most_bytes, expected in (
        (10, 1000, 1000 * each, [10, 20, 40]),
        (10, 20, 1000 * each, [10, 20, 20, 20]),
        (10, 1000, 29 * each, [10, 20, 20, 20]),
        (1000, 1000, 1000 * each, [70]),
        (1, 1000, 1, [10] * 7),
    ):
        monkeypatch.setattr(loader, "FIRST_READ", first)
        monkeypatch.setattr(loader, "EXAMPLES_A_READ", most)
        monkeypatch.setattr(loader, "BYTES_A_READ", most_bytes)
        at_once = min(most, most_bytes // each)
        reads.clear()
        for number, _ in enumerate(fed.batches(order), start=1):
            assert sum(reads) <= 10 * (number - 1) + 3 * max(10, at_once)
        assert reads == expected


def test_on_a_cpu_the_resident_examples_are_in_memory_once(tiny_task):
    fed = loader.BatchLoader(tiny_task.examples, mesh.layout(tiny_task.config, 1))
    x_NxTxF = tiny_task.examples.x_NxTxF
    assert fed.pool.x_NxTxF.unsafe_buffer_pointer() == x_NxTxF.ctypes.data
