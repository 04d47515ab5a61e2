"""Saliency: exact where mathematics says so, and true to a cue that was planted."""

import functools
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ser_jax.models import registry
from ser_jax.predict import saliency
from ser_jax.train import step as train_step
from ser_jax.train.state import Normalisation, Weights
from ser_jax.train.step import Batch

N_FRAMES = np.array([24, 24, 17, 5])
CLASS = np.array([0, 1, 2, 1])
MEAN, SD = 3.0, 2.0


class Linear(nn.Module):
    n_classes: int = 3

    @nn.compact
    def __call__(self, x, *, train):
        return nn.Dense(self.n_classes)(x.reshape(x.shape[0], -1))


def some_features(n=4, frames=24, width=8, seed=0):
    return MEAN + SD * np.random.default_rng(seed).standard_normal((n, frames, width), np.float32)


def a_trained(model, x_BxTxF, kind="mfcc", seed=0):
    """An untrained network as `trained` gives one, and its weights."""
    width = x_BxTxF.shape[-1]
    normalisation = Normalisation(jnp.full(width, MEAN), jnp.full(width, SD))
    batch = Batch(x_BxTxF, np.full(len(x_BxTxF), x_BxTxF.shape[1]), None, None)
    x = train_step.prepare(normalisation, batch, kind)
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(seed), x)
    weights = Weights(variables["params"], variables.get("batch_stats", {}), normalisation)
    logits = train_step.make_logits(model, kind)
    found = SimpleNamespace(logits=jax.jit(lambda w, x, n: logits(*w, Batch(x, n, None, None))))
    return found, weights


METHODS = {
    "gradient × input": saliency.gradient_times_input,
    "integrated gradients": saliency.integrated_gradients,
}


@pytest.mark.parametrize("method", METHODS)
def test_a_linear_network_owes_each_value_its_weight_times_the_value(method):
    x_BxTxF = some_features()
    found, weights = a_trained(Linear(), x_BxTxF)
    gradient = saliency.make_gradient(found)
    made = METHODS[method](gradient, weights, x_BxTxF, N_FRAMES, CLASS)
    z_BxTxF = (x_BxTxF - MEAN) / SD * (np.arange(24) < N_FRAMES[:, None])[..., None]
    kernel_TxFxC = np.asarray(weights.params["Dense_0"]["kernel"]).reshape(24, 8, 3)
    expected_BxTxF = z_BxTxF * kernel_TxFxC[..., CLASS].transpose(2, 0, 1)
    np.testing.assert_allclose(made.values_BxTxF, expected_BxTxF, atol=1e-5)
    np.testing.assert_allclose(made.gap_B, 0, atol=1e-4)
    logits_BxC = found.logits(weights, x_BxTxF, N_FRAMES)
    np.testing.assert_allclose(made.logits_BxC, logits_BxC, atol=1e-5)


@pytest.mark.parametrize("kind", ["mfcc", "vector"])
def test_padding_gets_nothing_whatever_it_holds(kind):
    x_BxTxF = some_features()
    name = {"mfcc": "cnn2d", "vector": "cnn1d"}[kind]
    widths = {"mfcc": (4, 4, 4, 4), "vector": (4, 4, 4)}[kind]
    model = registry.build(name, 3, {"widths": widths, "dense": 8})
    found, weights = a_trained(model, x_BxTxF, kind)
    gradient = saliency.make_gradient(found)
    other_BxTxF = np.where((np.arange(24) < N_FRAMES[:, None])[..., None], x_BxTxF, 1e3)
    for method in METHODS.values():
        made = method(gradient, weights, x_BxTxF, N_FRAMES, CLASS)
        for values_TxF, n_frames in zip(made.values_BxTxF, N_FRAMES, strict=True):
            assert values_TxF[:n_frames].any()
            assert not values_TxF[n_frames:].any()
        other = method(gradient, weights, other_BxTxF, N_FRAMES, CLASS)
        np.testing.assert_array_equal(other.values_BxTxF, made.values_BxTxF)


@pytest.fixture(scope="module")
def planted():
    """A network that has learnt to tell whether a patch is lifted: (found, weights, x, label)."""
    x_BxTxF, label_B = some_features(64, 24, 12, seed=1), np.arange(64) % 2
    x_BxTxF = MEAN + 0.3 * (x_BxTxF - MEAN)
    x_BxTxF[label_B == 1, 8:14, 3:7] += 2 * SD
    model = registry.build("paper", 2, {"widths": (6, 6, 6), "dense": 8})
    found, weights = a_trained(model, x_BxTxF)
    n_frames_B, adam = np.full(64, 24), optax.adam(1e-2)

    @jax.jit
    def step(params, state):
        def loss_of(params):
            logits_BxC = found.logits(weights._replace(params=params), x_BxTxF, n_frames_B)
            entropy_B = optax.softmax_cross_entropy_with_integer_labels(logits_BxC, label_B)
            return entropy_B.mean()

        loss, slope = jax.value_and_grad(loss_of)(params)
        updates, state = adam.update(slope, state)
        return optax.apply_updates(params, updates), state, loss

    params, state = weights.params, adam.init(weights.params)
    for _ in range(120):
        params, state, loss = step(params, state)
    assert loss < 0.05
    return found, weights._replace(params=params), x_BxTxF, label_B


@pytest.mark.parametrize("method", METHODS)
def test_a_planted_cue_is_found(planted, method):
    found, weights, x_BxTxF, label_B = planted
    shown = np.flatnonzero(label_B == 1)[:16]
    gradient = saliency.make_gradient(found)
    made = METHODS[method](gradient, weights, x_BxTxF[shown], np.full(16, 24), np.ones(16, int))
    share_B = np.abs(made.values_BxTxF)[:, 8:14, 3:7].sum((1, 2))
    share_B /= np.abs(made.values_BxTxF).sum((1, 2))
    assert np.median(share_B) > 0.6  # of a twelfth of the plane
    if method == "integrated gradients":
        first, end = saliency.peak(made.values_BxTxF.mean(0))
        assert 8 <= first < end <= 14


def test_integrated_gradients_add_up_to_the_change_of_the_logit(planted):
    """The better the more points there are; gradient × input does not."""
    found, weights, x_BxTxF, label_B = planted
    gradient = saliency.make_gradient(found)
    batch = weights, x_BxTxF[:16], np.full(16, 24), label_B[:16]

    def gap(made):
        logits_BxC = found.logits(weights, x_BxTxF[:16], np.full(16, 24))
        mean_BxC = found.logits(weights, np.full_like(x_BxTxF[:16], MEAN), np.full(16, 24))
        change_B = np.asarray(logits_BxC - mean_BxC)[np.arange(16), label_B[:16]]
        np.testing.assert_allclose(made.change_B, change_B, atol=1e-4)
        missed_B = made.values_BxTxF.sum((1, 2)) - change_B
        np.testing.assert_allclose(made.gap_B, missed_B, atol=1e-4)
        return np.median(np.abs(missed_B / change_B))

    few, many = (gap(saliency.integrated_gradients(gradient, *batch, n)) for n in (2, 64))
    assert many < 0.02 and many < 0.5 * few
    assert many < 0.5 * gap(saliency.gradient_times_input(gradient, *batch))


def test_the_peak_is_the_shortest_stretch_with_half_of_what_speaks_for_the_class():
    values_TxF = np.zeros((10, 2), np.float32)
    values_TxF[[2, 5, 6, 9], 0] = 1.0, 2.0, 2.0, 1.0
    values_TxF[3] = -50.0
    assert saliency.peak(values_TxF) == (5, 7)
    assert saliency.peak(values_TxF, share=1.0) == (2, 10)
    assert saliency.peak(-np.ones((4, 2))) is None
