"""Where steps run does not change what they compute."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from ser_jax.data import examples, records
from ser_jax.parallel import mesh, placement, programs
from ser_jax.train import experiment, optimizer
from ser_jax.train import step as train_step
from ser_jax.train.loader import BatchLoader, take


def run_epoch(this: experiment.Experiment, chunks: list[int]):
    """One epoch of one replica, in calls of so many steps."""
    config, layout = this.config, mesh.layout(this.config, 1)
    step = train_step.make_train_step(
        this.model, optimizer.make(config.optimizer.name), config.input.kind
    )
    steps, feed = programs.compile_steps(step, take, layout), BatchLoader(this.examples, layout)
    order = examples.shuffled_batches(this.train_M(0), config.train.batch_size, config.seed, 1)
    assert sum(chunks) == len(order)
    (group,), begin = placement.place(experiment.initial_states(this), layout), 0
    for n in chunks:
        group = steps(group, feed.pool, jnp.asarray(order[None]), begin, begin + n)
        begin += n
    return jax.device_get((group.params, group.batch_stats, group.sums))


def assert_close(one, other, tolerance: float) -> None:
    for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def test_the_loop_on_the_device_equals_the_loop_on_the_host(tiny, tiny_records, monkeypatch):
    config = tiny("cnn1d")  # inside a loop the CPU is slow at more and larger convolutions
    config.model.update(widths=(8,), kernels=(5,))
    this = experiment.make(config, records.open_records(tiny_records))
    on_host = run_epoch(this, [3])
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert_close(run_epoch(this, [3]), on_host, 1e-5)


def test_how_often_the_host_looks_in_changes_no_bit(tiny_task):
    for a, b in zip(
        *map(jax.tree.leaves, (run_epoch(tiny_task, [3]), run_epoch(tiny_task, [1, 2]))),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_bfloat16_keeps_its_weights_in_float32_and_learns(tiny, tiny_records):
    config = tiny()
    config.train.compute_dtype = "bfloat16"
    this = experiment.make(config, records.open_records(tiny_records))
    params, _, sums = run_epoch(this, [3])
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype("float32")}
    assert np.isfinite(sums.loss)
    full, _, _ = run_epoch(experiment.make(tiny(), records.open_records(tiny_records)), [3])
    moved = [
        np.abs(a - b).max() for a, b in zip(*map(jax.tree.leaves, (params, full)), strict=True)
    ]
    assert 0 < max(moved) < 0.05


def test_balanced_class_weights(tiny, tiny_records):
    config = tiny()
    config.train.class_weights = "balanced"
    this = experiment.make(config, records.open_records(tiny_records))
    (replica,) = this.replicas
    np.testing.assert_allclose(experiment.class_weights(this, replica), np.ones(6))  # a made corpus
    split, labels = this.splits[0], np.array(this.records.clips.labels)
    rows = np.concatenate([split.train[labels[split.train] != 0], split.train[:1]])
    lopsided = dataclasses.replace(this, splits={0: dataclasses.replace(split, train=rows)})
    weight_C = experiment.class_weights(lopsided, replica)
    train_M = lopsided.train_M(0)
    count_C = np.bincount(this.examples.label_N[train_M], minlength=6)
    assert len(set(count_C)) == 2
    np.testing.assert_allclose(weight_C * count_C, len(train_M) / 6)
