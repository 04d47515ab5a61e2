"""Where steps run does not change what they compute."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ser_jax import devices, input_pipeline, parallel, record_reader, task, train_step
from ser_jax import optimizer as optimizers


@pytest.fixture(scope="module")
def tiny_task(tiny, tiny_records):
    return task.make(tiny(), record_reader.open_records(tiny_records))


def run_epoch(this: task.Task, chunks: list[int]):
    """One epoch of one replica, in calls of so many steps."""
    config, layout = this.config, devices.layout(this.config, 1)
    step = train_step.make_train_step(
        this.model, optimizers.make(config.optimizer.name), config.input.kind
    )
    steps, feed = parallel.compile_steps(step, layout), parallel.Feed(this.examples, layout)
    order = input_pipeline.shuffled(this.train_M(0), config.train.batch_size, config.seed, 1)
    assert sum(chunks) == len(order)
    (group,), begin = parallel.place(task.initial_states(this), layout), 0
    for n in chunks:
        group = steps(group, feed.pool, jnp.asarray(order[None]), begin, begin + n)
        begin += n
    return jax.device_get((group.params, group.batch_stats, group.sums))


def assert_close(one, other, tolerance: float) -> None:
    for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def test_the_loop_on_the_device_equals_the_loop_on_the_host(tiny_task, monkeypatch):
    on_host = run_epoch(tiny_task, [3])
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert_close(run_epoch(tiny_task, [3]), on_host, 1e-5)


def test_how_often_the_host_looks_in_changes_no_bit(tiny_task):
    for a, b in zip(
        *map(jax.tree.leaves, (run_epoch(tiny_task, [3]), run_epoch(tiny_task, [1, 2]))),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_streamed_batches_are_the_resident_ones(tiny, tiny_records, tiny_task):
    config = tiny()
    config.input.memory_limit_gb = 0.0
    streamed = task.make(config, record_reader.open_records(tiny_records))
    assert streamed.examples.x_NxTxF is None
    layout = devices.layout(tiny_task.config, 1)
    # The last batch is filled up.
    order = input_pipeline.shuffled(tiny_task.train_M(0), 20, 0, 1)[None]
    for first in (0, 2):
        pairs = zip(
            parallel.Feed(streamed.examples, layout).batches(order, first),
            parallel.Feed(tiny_task.examples, layout).batches(order, first),
            strict=True,
        )
        for ours, theirs in pairs:
            real = np.asarray(theirs.mask_B)
            for a, b in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(np.asarray(a)[real], np.asarray(b)[real])


def test_bfloat16_keeps_its_weights_in_float32_and_learns(tiny, tiny_records):
    config = tiny()
    config.train.compute_dtype = "bfloat16"
    this = task.make(config, record_reader.open_records(tiny_records))
    params, _, sums = run_epoch(this, [3])
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype("float32")}
    assert np.isfinite(sums.loss)
    full, _, _ = run_epoch(task.make(tiny(), record_reader.open_records(tiny_records)), [3])
    moved = [
        np.abs(a - b).max() for a, b in zip(*map(jax.tree.leaves, (params, full)), strict=True)
    ]
    assert 0 < max(moved) < 0.05


def test_balanced_class_weights(tiny, tiny_records):
    config = tiny()
    config.train.class_weights = "balanced"
    this = task.make(config, record_reader.open_records(tiny_records))
    (replica,) = this.replicas
    np.testing.assert_allclose(task.class_weights(this, replica), np.ones(6))  # a made corpus
    split, labels = this.splits[0], np.array(this.records.clips.labels)
    rows = np.concatenate([split.train[labels[split.train] != 0], split.train[:1]])
    lopsided = dataclasses.replace(this, splits={0: dataclasses.replace(split, train=rows)})
    weight_C = task.class_weights(lopsided, replica)
    train_M = lopsided.train_M(0)
    count_C = np.bincount(this.examples.label_N[train_M], minlength=6)
    assert len(set(count_C)) == 2
    np.testing.assert_allclose(weight_C * count_C, len(train_M) / 6)
