"""The networks: shapes, layers, masks, precision, and checks of their config section."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from configs import default, variants
from ser_jax.common.errors import UserError
from ser_jax.evaluate import test_set
from ser_jax.models import cnn, layers, registry
from ser_jax.models.network import Network
from ser_jax.predict import trained_model
from ser_jax.train import loop
from ser_jax.train.experiment import parameter_table

CNNS = ("cnn1d", "cnn2d", "paper")
SMALL = {"widths": (6, 5), "kernels": (3, 3), "dense": 7}
SHAPES = {"cnn1d": (60,), "cnn2d": (24, 12), "paper": (24, 12)}
KEY = jax.random.key(0, impl="rbg")  # compiles far faster than threefry


def features(name, n_rows, seed=0):
    return jax.random.normal(jax.random.fold_in(KEY, seed), (n_rows, *SHAPES[name]))


class MeanFrame(Network):
    """A hidden layer on the mean frame: a model without a field of the CNNs."""

    units: int = 16

    @nn.nowrap
    def check(self):
        self.check_sizes("units")

    @nn.compact
    def __call__(self, x, *, train, dropout_rate=0.0, mask_B=None, n_frames_B=None):
        x = nn.relu(nn.Dense(self.units, dtype=self.dtype)(x.mean(axis=1)))
        if train:
            x = layers.dropout(x, dropout_rate, self.make_rng("dropout"))
        return nn.Dense(self.n_classes)(x)


@pytest.fixture
def mean_frame(monkeypatch):
    """The config of MeanFrame, which is registered."""
    monkeypatch.setitem(registry.MODELS, "mean_frame", MeanFrame)
    config = default.get_config()
    config.model = {"name": "mean_frame", "units": 8}
    return config


@functools.cache
def small(name):
    """Return a small model and the variables of two initialisations."""
    model = registry.build(name, 3, SMALL)
    return model, *initialise(model, features(name, 1))


def initialise(model, x):
    jitted = jax.jit(lambda key: model.init(key, x, train=False))
    return [jitted(jax.random.fold_in(KEY, i)) for i in range(2)]


def shapes(model, *input_shape):
    x = jnp.zeros((1, *input_shape))
    return jax.eval_shape(lambda key: model.init(key, x, train=False), KEY)


def count(name, shape):
    model = registry.build(name, 6)
    return sum(leaf.size for leaf in jax.tree.leaves(shapes(model, *shape)["params"]))


def test_parameter_counts_at_the_sizes_of_the_reference_report():
    # Kernels in·side·out + biases; BatchNorm 2 per channel. 157 frames × (20 MFCC, ZCR, energy) =
    # 3454 → 1727 → 864 → 432 after three pools.
    convolutions = (5 * 256 + 256) + (5 * 256 * 256 + 256) + (3 * 256 * 128 + 128)
    norms = 2 * (256 + 256 + 128 + 512)
    dense = (432 * 128 * 512 + 512) + (512 * 6 + 6)
    assert count("cnn1d", (3454,)) == convolutions + norms + dense == 28_745_350

    # 157×20 → 79×10 → 40×5 → 20×3 → 10×2; no BatchNorm after the fourth convolution.
    convolutions = 36 * (256 + 256 * 128 + 128 * 128 + 128 * 64) + 256 + 128 + 128 + 64
    norms = 2 * (256 + 128 + 128)
    dense = (10 * 2 * 64 * 256 + 256) + (256 * 6 + 6)
    assert count("cnn2d", (157, 20)) == convolutions + norms + dense == 2_404_678

    # 157×20 → 79×10 → 40×5 → 20×3.
    convolutions = 25 * (75 + 75 * 135 + 135 * 75) + 75 + 135 + 75
    dense = (20 * 3 * 75 * 45 + 45) + (45 * 6 + 6)
    assert count("paper", (157, 20)) == convolutions + dense == 711_231


@pytest.mark.parametrize("padding", cnn.PADDINGS)
@pytest.mark.parametrize("shape", [(2, 13, 8, 3), (2, 21, 3)])
@pytest.mark.parametrize("window", [4, 5])
@pytest.mark.parametrize("pool", [layers.avg_pool, layers.max_pool])
def test_pools_equal_flax_forward_and_backward(pool, shape, window, padding):
    # Rounded, so that windows have equal maxima; below 0, so that zero padding would show.
    x = jnp.round(2 * jax.random.normal(KEY, shape)) / 2 - 2
    args = ((window,) * (x.ndim - 2), (2,) * (x.ndim - 2), padding.upper())
    reference = {
        layers.avg_pool: lambda x: nn.avg_pool(x, *args, count_include_pad=False),
        layers.max_pool: lambda x: nn.max_pool(x, *args),
    }[pool]

    def forward_and_backward(function):
        y, backward = jax.vjp(function, x)
        return y, backward(jax.random.normal(KEY, y.shape))[0]

    y, gradient = jax.jit(lambda: forward_and_backward(lambda x: pool(x, window, 2, padding)))()
    y_ref, gradient_ref = jax.jit(lambda: forward_and_backward(reference))()
    np.testing.assert_allclose(y, y_ref, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient, gradient_ref, rtol=1e-5, atol=1e-6)


def test_average_does_not_count_padding():
    np.testing.assert_array_equal(layers.avg_pool(jnp.ones((1, 5, 3, 1)), 4, 2, "same"), 1.0)


def test_dropout_keeps_the_mean_zeroes_the_rate_and_compiles_once():
    traces = []

    @jax.jit
    def dropped(rate):
        traces.append(rate)
        return layers.dropout(jnp.ones(100_000), rate, KEY)

    for rate in (0.0, 0.2, 0.5):
        y = dropped(rate)
        assert abs(float((y == 0).mean()) - rate) < 0.01
        assert abs(float(y.mean()) - 1) < 0.02
    assert len(traces) == 1


@pytest.mark.parametrize("name", CNNS)
def test_dropout_acts_in_training_only(name):
    model, variables, _ = small(name)
    x = features(name, 8)

    def logits(train, rate):
        rngs = {"dropout": KEY}
        return model.apply(
            variables, x, train=train, dropout_rate=rate, rngs=rngs, mutable=["batch_stats"]
        )[0]

    trained, evaluated = (jax.jit(lambda rate, t=t: logits(t, rate)) for t in (True, False))
    np.testing.assert_array_equal(evaluated(0.5), evaluated(0.0))
    assert not np.allclose(trained(0.5), trained(0.0))


@functools.partial(jax.jit, static_argnums=0)
def step(model, variables, x, label_B, mask_B):
    """Return logits, updated statistics and gradients of the mean loss over unmasked rows."""

    def loss_of(params):
        logits_BxC, updated = model.apply(
            {**variables, "params": params},
            x,
            train=True,
            mask_B=mask_B,
            rngs={"dropout": KEY},
            mutable=["batch_stats"],
        )
        weight_B = jnp.ones(len(x)) if mask_B is None else mask_B.astype(float)
        loss_B = optax.softmax_cross_entropy_with_integer_labels(logits_BxC, label_B)
        return (loss_B * weight_B).sum() / weight_B.sum(), (logits_BxC, updated)

    gradients, (logits_BxC, updated) = jax.grad(loss_of, has_aux=True)(variables["params"])
    return logits_BxC[:16], updated, gradients


@pytest.mark.parametrize("name", CNNS)
def test_masked_rows_have_no_effect(name):
    model, variables, _ = small(name)
    x, junk = features(name, 16), 100 + 50 * features(name, 16, seed=2)
    label_B = jnp.arange(32) % 3
    alone = step(model, variables, x, label_B[:16], None)
    padded = step(model, variables, jnp.concatenate([x, junk]), label_B, jnp.arange(32) < 16)
    for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(padded), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_batch_statistics_are_updated_as_in_keras():
    model, variables, _ = small("cnn1d")

    @jax.jit
    def train(variables):
        return model.apply(
            variables,
            features("cnn1d", 8),
            train=True,
            rngs={"dropout": KEY},
            mutable=["batch_stats"],
            capture_intermediates=True,
        )[1]

    updated = train(variables)
    intermediates = updated["intermediates"]
    post_relu = nn.relu(intermediates["Conv_0"]["__call__"][0])
    normalised = intermediates["BatchNorm_0"]["__call__"][0]
    mean, var = post_relu.mean((0, 1)), post_relu.var((0, 1))
    stats = updated["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(stats["mean"], 0.01 * mean, rtol=1e-4)
    np.testing.assert_allclose(stats["var"], 0.99 + 0.01 * var, rtol=1e-4)
    np.testing.assert_allclose(
        normalised, (post_relu - mean) / np.sqrt(var + 1e-3), rtol=1e-3, atol=1e-5
    )


def test_kernels_start_glorot_uniform_and_biases_at_zero():
    model = registry.build("cnn2d", 6, {"widths": (16, 64), "kernels": (5, 5)})
    params = initialise(model, jnp.zeros((1, 24, 12)))[0]["params"]
    limit = np.sqrt(6 / (25 * (16 + 64)))
    kernel = params["Conv_1"]["kernel"]
    assert 0.99 * limit < np.abs(kernel).max() <= limit
    assert abs(float(kernel.std()) - limit / np.sqrt(3)) < 0.01 * limit
    assert not np.any(params["Conv_1"]["bias"]) and not np.any(params["Dense_0"]["bias"])


@pytest.mark.parametrize("name", CNNS)
def test_replicas_under_vmap_equal_single_models(name):
    model, *replicas = small(name)

    def apply(variables):
        return model.apply(
            variables,
            features(name, 4),
            train=True,
            dropout_rate=0.2,
            rngs={"dropout": KEY},
            mutable=["batch_stats"],
        )

    mapped = jax.jit(jax.vmap(apply))(jax.tree.map(lambda *leaves: jnp.stack(leaves), *replicas))
    single = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(jax.jit(apply), replicas))
    for a, b in zip(jax.tree.leaves(mapped), jax.tree.leaves(single), strict=True):
        assert not np.allclose(a[0], a[1])
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CNNS)
def test_bfloat16_is_for_arithmetic_and_not_for_parameters(name):
    half = registry.build(name, 3, SMALL, dtype="bfloat16")
    full, variables, _ = small(name)
    x = features(name, 4)
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes(half, *SHAPES[name]))} == {
        jnp.dtype("float32")
    }
    evaluate = jax.jit(lambda v: half.apply(v, x, train=False, capture_intermediates=True))
    y, captured = evaluate(variables)
    assert captured["intermediates"]["Conv_1"]["__call__"][0].dtype == jnp.bfloat16
    assert y.dtype == jnp.float32
    expected = jax.jit(lambda v: full.apply(v, x, train=False))(variables)
    assert not np.array_equal(y, expected)
    np.testing.assert_allclose(y, expected, atol=0.05)


def test_valid_pools_need_46_columns():
    model = registry.build("cnn2d", 6, {"padding": "valid"})
    # 157×46 → 77×22 → 37×10 → 17×4 → 7×1
    assert shapes(model, 157, 46)["params"]["Dense_0"]["kernel"].shape == (7 * 1 * 64, 256)
    with pytest.raises(UserError, match="at least 46 .* are 157×45; set model.padding='same'"):
        shapes(model, 157, 45)


def test_fields_come_from_a_config():
    config = ConfigDict({"widths": [6, 5], "kernels": (3, 2), "dense": 4, "padding": "valid"})
    model = registry.build("paper", 3, config)
    assert (model.widths, model.kernels, model.dense, model.pool) == ((6, 5), (3, 2), 4, 4)
    hash(model)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("cnn3d", {}, "cnn3d.*cnn1d, cnn2d, paper"),
        ("cnn2d", {"width": (3,)}, "model.width is unknown; cnn2d has widths, kernels, dense"),
        ("cnn2d", {"parent": None}, "model.parent is unknown"),
        ("cnn2d", {"dense": 0}, "model.dense=0"),
        ("cnn2d", {"dense": True}, "model.dense=True"),
        ("cnn2d", {"widths": 8}, "model.widths=8"),
        ("cnn2d", {"widths": ()}, "model.widths="),
        ("cnn2d", {"widths": (8, 8.5)}, "model.widths="),
        ("cnn2d", {"widths": (8, 8)}, "differ in length"),
        ("cnn2d", {"padding": "full"}, "model.padding='full'.*same, valid"),
        ("cnn2d", {"batch_norm_momentum": 1.0}, r"momentum=1.0 must be in \[0, 1\)"),
        ("mean_frame", {"widths": (8,)}, "model.widths is unknown; mean_frame has units"),
        ("mean_frame", {"units": 0}, "model.units=0"),
    ],
)
def test_invalid_fields_are_named(name, fields, message, mean_frame):
    with pytest.raises(UserError, match=message):
        registry.build(name, 6, fields)


def test_unknown_dtype_is_named():
    with pytest.raises(UserError, match="model.dtype='float16'.*float32, bfloat16"):
        registry.build("cnn2d", 6, dtype="float16")


def test_input_kinds():
    kinds = {name: model.input_kind for name, model in registry.MODELS.items()}
    assert kinds.pop("cnn1d") == "vector" and {*kinds.values()} == {"plane"}


def test_a_model_with_fields_of_its_own_is_built_and_initialised(mean_frame):
    fields = {"units": 5}
    model = registry.build("mean_frame", 3, fields, dtype="bfloat16")
    params = shapes(model, 24, 12)["params"]
    assert params["Dense_0"]["kernel"].shape == (12, 5)
    assert params["Dense_1"]["kernel"].shape == (5, 3)
    assert hash(model) == hash(registry.build("mean_frame", 3, fields, dtype="bfloat16"))


def test_a_model_with_fields_of_its_own_trains(mean_frame, tiny, tiny_records, tmp_path):
    config = tiny()
    with config.unlocked():
        config.model = mean_frame.model
    config.train.epochs = 1
    loop.train(config, tiny_records, tmp_path)
    assert test_set.evaluate(config, tiny_records, tmp_path)["model"] == "mean_frame"
    assert trained_model.load(tmp_path).network == registry.build("mean_frame", 6, {"units": 8})


def test_the_demo_keeps_fields_that_are_not_the_cnns(mean_frame):
    assert variants.apply(mean_frame, "demo").model.to_dict() == {"name": "mean_frame", "units": 8}


def test_parameter_table_is_aligned_and_adds_up():
    params = {"Conv_0": {"kernel": jnp.zeros((5, 1, 256)), "bias": jnp.zeros(256)}}
    lines = parameter_table(params).splitlines()
    assert lines[-1].split() == ["total", "1,536"]
    assert lines[1].split() == ["Conv_0/kernel", "5×1×256", "1,280"]
    assert len({len(line) for line in lines}) == 1
