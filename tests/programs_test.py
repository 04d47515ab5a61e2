"""Where and in what portions steps run does not change what they compute."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ser_jax.data.examples import shuffled_batches
from ser_jax.data.loader import Batch, BatchLoader, take
from ser_jax.data.records import open_records
from ser_jax.parallel import placement, programs
from ser_jax.parallel.mesh import Layout, make_layout
from ser_jax.train.experiment import Experiment, class_weights, initial_states, make_experiment
from ser_jax.train.optimizer import make_optimizer
from ser_jax.train.step import make_train_step, skip_if_idle


def run_epoch(experiment: Experiment, steps_per_call: list[int]):
    """Run an epoch of one replica in calls of so many steps."""
    config, layout = experiment.config, make_layout(experiment.config, 1)
    step = make_train_step(
        experiment.model, make_optimizer(config.optimizer.name), config.input.kind
    )
    steps = programs.compile_steps(step, take, layout)
    loader = BatchLoader(experiment.examples, layout)
    order_SxB = shuffled_batches(experiment.train_M(0), config.train.batch_size, config.seed, 1)
    assert sum(steps_per_call) == len(order_SxB)
    (group,), start = placement.place(initial_states(experiment), layout), 0
    for n in steps_per_call:
        group = steps(group, loader.resident, jnp.asarray(order_SxB[None]), start, start + n)
        start += n
    return jax.device_get((group.params, group.batch_stats, group.sums))


def test_loop_on_device_equals_loop_on_host(tiny, tiny_records, monkeypatch):
    config = tiny("cnn1d")  # within a loop, CPUs are slow at more and larger convolutions
    config.model.update(widths=(8,), kernels=(5,))
    experiment = make_experiment(config, open_records(tiny_records))
    on_host = run_epoch(experiment, [3])
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    on_device = run_epoch(experiment, [3])
    for a, b in zip(*map(jax.tree.leaves, (on_device, on_host)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_number_of_steps_per_call_changes_no_bit(tiny_experiment):
    in_one_call, in_two_calls = (run_epoch(tiny_experiment, calls) for calls in ([3], [1, 2]))
    for a, b in zip(*map(jax.tree.leaves, (in_one_call, in_two_calls)), strict=True):
        np.testing.assert_array_equal(a, b)


def gathered_floats(experiment: Experiment, layout: Layout) -> list[str]:
    """Return the operations of a compiled step that gather floats from several devices."""
    config, examples = experiment.config, experiment.examples
    optimizer = make_optimizer(config.optimizer.name)
    step = skip_if_idle(make_train_step(experiment.model, optimizer, config.input.kind))
    group = placement.place(initial_states(experiment) * layout.n_replicas, layout)[0]

    def shape(dtype: str, *more: int) -> jax.ShapeDtypeStruct:
        shape = layout.at_once, config.train.batch_size, *more
        return jax.ShapeDtypeStruct(shape, dtype, sharding=layout.batch_sharding)

    frames = shape("float32", examples.max_frames, examples.width)
    batch = Batch(frames, shape("int32"), shape("int32"), shape("bool"))
    program = programs.compile_for_group(step, layout).lower(group, batch).compile().as_text()
    return re.findall(r"= \(?(?:bf16|f32)\[.* all-gather(?:-start)?\(.*", program)


@pytest.fixture
def one_layer(tiny, tiny_records) -> Experiment:
    config = tiny("cnn1d")
    config.model.update(widths=(8,), kernels=(5,))
    return make_experiment(config, open_records(tiny_records))


def test_three_seeds_on_eight_accelerators_gather_no_activations(one_layer, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(jax, "default_backend", lambda: "gpu")
        layout = make_layout(one_layer.config, 3)
    assert layout.mesh.devices.shape == (3, 2)
    assert not gathered_floats(one_layer, layout)


def test_vmap_over_replicas_that_share_batches_would_gather_activations(one_layer):
    config = one_layer.config
    config.devices.update(replica=1, data=2)
    layout = dataclasses.replace(make_layout(config, 2), strategy="vmap", at_once=2)
    assert gathered_floats(one_layer, layout)


def test_bfloat16_keeps_float32_weights_and_learns(tiny, tiny_records):
    records, config = open_records(tiny_records), tiny()
    config.train.compute_dtype = "bfloat16"
    params, _, sums = run_epoch(make_experiment(config, records), [3])
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype("float32")}
    assert np.isfinite(sums.loss)
    float32_params, _, _ = run_epoch(make_experiment(tiny(), records), [3])
    differences = [
        np.abs(a - b).max()
        for a, b in zip(*map(jax.tree.leaves, (params, float32_params)), strict=True)
    ]
    assert 0 < max(differences) < 0.05


def test_balanced_class_weights(tiny, tiny_records):
    config = tiny()
    config.train.class_weights = "balanced"
    experiment = make_experiment(config, open_records(tiny_records))
    (replica,) = experiment.replicas
    np.testing.assert_allclose(class_weights(experiment, replica), np.ones(6))  # a balanced corpus
    split, labels = experiment.splits[0], np.array(experiment.records.clips.labels)
    rows = np.concatenate([split.train[labels[split.train] != 0], split.train[:1]])
    imbalanced = dataclasses.replace(experiment, splits={0: dataclasses.replace(split, train=rows)})
    weight_C = class_weights(imbalanced, replica)
    train_M = imbalanced.train_M(0)
    count_C = np.bincount(experiment.examples.label_N[train_M], minlength=6)
    assert len(set(count_C)) == 2
    np.testing.assert_allclose(weight_C * count_C, len(train_M) / 6)
