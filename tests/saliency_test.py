"""Saliency is exact where theory says so, and finds a planted cue."""

import functools
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ser_jax.data.loader import Batch
from ser_jax.models import registry
from ser_jax.predict import saliency
from ser_jax.train.state import Normalisation, Weights
from ser_jax.train.step import make_logits, normalised_input

N_FRAMES = np.array([24, 24, 17, 5])
CLASS = np.array([0, 1, 2, 1])
MEAN, SD = 3.0, 2.0


class Linear(nn.Module):
    n_classes: int = 3

    @nn.compact
    def __call__(self, x, *, train, n_frames_B=None):
        return nn.Dense(self.n_classes)(x.reshape(x.shape[0], -1))


def some_features(n=4, frames=24, width=8, seed=0):
    return MEAN + SD * np.random.default_rng(seed).standard_normal((n, frames, width), np.float32)


def make_model(network, x_BxTxF, kind="mfcc", seed=0):
    """Return an untrained stand-in for TrainedModel, and its weights."""
    width = x_BxTxF.shape[-1]
    normalisation = Normalisation(jnp.full(width, MEAN), jnp.full(width, SD))
    batch = Batch(x_BxTxF, np.full(len(x_BxTxF), x_BxTxF.shape[1]), None, None)
    x = normalised_input(normalisation, batch, kind)
    variables = jax.jit(functools.partial(network.init, train=False))(jax.random.key(seed), x)
    weights = Weights(variables["params"], variables.get("batch_stats", {}), normalisation)
    logits = make_logits(network, kind)
    model = SimpleNamespace(logits=jax.jit(lambda w, x, n: logits(*w, Batch(x, n, None, None))))
    return model, weights


METHODS = {
    "gradient × input": saliency.gradient_times_input,
    "integrated gradients": saliency.integrated_gradients,
}


@pytest.mark.parametrize("method", METHODS)
def test_contributions_in_a_linear_network_are_weight_times_value(method):
    x_BxTxF = some_features()
    model, weights = make_model(Linear(), x_BxTxF)
    gradient = saliency.make_gradient(model)
    attribution = METHODS[method](gradient, weights, x_BxTxF, N_FRAMES, CLASS)
    z_BxTxF = (x_BxTxF - MEAN) / SD * (np.arange(24) < N_FRAMES[:, None])[..., None]
    kernel_TxFxC = np.asarray(weights.params["Dense_0"]["kernel"]).reshape(24, 8, 3)
    expected_BxTxF = z_BxTxF * kernel_TxFxC[..., CLASS].transpose(2, 0, 1)
    np.testing.assert_allclose(attribution.values_BxTxF, expected_BxTxF, atol=1e-5)
    np.testing.assert_allclose(attribution.gap_B, 0, atol=1e-4)
    logits_BxC = model.logits(weights, x_BxTxF, N_FRAMES)
    np.testing.assert_allclose(attribution.logits_BxC, logits_BxC, atol=1e-5)


@pytest.mark.parametrize("kind", ["mfcc", "vector"])
def test_padding_contributes_nothing(kind):
    x_BxTxF = some_features()
    name = {"mfcc": "cnn2d", "vector": "cnn1d"}[kind]
    widths = {"mfcc": (4, 4, 4, 4), "vector": (4, 4, 4)}[kind]
    network = registry.build(name, 3, {"widths": widths, "dense": 8})
    model, weights = make_model(network, x_BxTxF, kind)
    gradient = saliency.make_gradient(model)
    other_BxTxF = np.where((np.arange(24) < N_FRAMES[:, None])[..., None], x_BxTxF, 1e3)
    for method in METHODS.values():
        attribution = method(gradient, weights, x_BxTxF, N_FRAMES, CLASS)
        for values_TxF, n_frames in zip(attribution.values_BxTxF, N_FRAMES, strict=True):
            assert values_TxF[:n_frames].any()
            assert not values_TxF[n_frames:].any()
        other = method(gradient, weights, other_BxTxF, N_FRAMES, CLASS)
        np.testing.assert_array_equal(other.values_BxTxF, attribution.values_BxTxF)


@pytest.fixture(scope="module")
def planted():
    """A network trained to detect a raised patch: (model, weights, x_BxTxF, label_B)."""
    x_BxTxF, label_B = some_features(64, 24, 12, seed=1), np.arange(64) % 2
    x_BxTxF = MEAN + 0.3 * (x_BxTxF - MEAN)
    x_BxTxF[label_B == 1, 8:14, 3:7] += 2 * SD
    network = registry.build("paper", 2, {"widths": (6, 6, 6), "dense": 8})
    model, weights = make_model(network, x_BxTxF)
    n_frames_B, adam = np.full(64, 24), optax.adam(1e-2)

    @jax.jit
    def step(params, state):
        def loss_of(params):
            logits_BxC = model.logits(weights._replace(params=params), x_BxTxF, n_frames_B)
            entropy_B = optax.softmax_cross_entropy_with_integer_labels(logits_BxC, label_B)
            return entropy_B.mean()

        loss, slope = jax.value_and_grad(loss_of)(params)
        updates, state = adam.update(slope, state)
        return optax.apply_updates(params, updates), state, loss

    params, state = weights.params, adam.init(weights.params)
    for _ in range(120):
        params, state, loss = step(params, state)
    assert loss < 0.05
    return model, weights._replace(params=params), x_BxTxF, label_B


@pytest.mark.parametrize("method", METHODS)
def test_a_planted_cue_is_found(planted, method):
    model, weights, x_BxTxF, label_B = planted
    shown = np.flatnonzero(label_B == 1)[:16]
    gradient = saliency.make_gradient(model)
    batch = x_BxTxF[shown], np.full(16, 24), np.ones(16, int)
    values_BxTxF = METHODS[method](gradient, weights, *batch).values_BxTxF
    share_B = np.abs(values_BxTxF)[:, 8:14, 3:7].sum((1, 2))
    share_B /= np.abs(values_BxTxF).sum((1, 2))
    assert np.median(share_B) > 0.6  # in a twelfth of the plane
    if method == "integrated gradients":
        first, end = saliency.peak(values_BxTxF.mean(0))
        assert 8 <= first < end <= 14


def test_integrated_gradients_add_up_to_the_change_of_the_logit(planted):
    """With more points more exactly, unlike gradient × input."""
    model, weights, x_BxTxF, label_B = planted
    gradient = saliency.make_gradient(model)
    batch = weights, x_BxTxF[:16], np.full(16, 24), label_B[:16]

    def gap(attribution):
        logits_BxC = model.logits(weights, x_BxTxF[:16], np.full(16, 24))
        mean_BxC = model.logits(weights, np.full_like(x_BxTxF[:16], MEAN), np.full(16, 24))
        change_B = np.asarray(logits_BxC - mean_BxC)[np.arange(16), label_B[:16]]
        np.testing.assert_allclose(attribution.change_B, change_B, atol=1e-4)
        missed_B = attribution.values_BxTxF.sum((1, 2)) - change_B
        np.testing.assert_allclose(attribution.gap_B, missed_B, atol=1e-4)
        return np.median(np.abs(missed_B / change_B))

    few, many = (gap(saliency.integrated_gradients(gradient, *batch, n)) for n in (2, 64))
    assert many < 0.02 and many < 0.5 * few
    assert many < 0.5 * gap(saliency.gradient_times_input(gradient, *batch))


def test_the_peak_is_the_shortest_stretch_with_half_of_the_positive_contributions():
    values_TxF = np.zeros((10, 2), np.float32)
    values_TxF[[2, 5, 6, 9], 0] = 1.0, 2.0, 2.0, 1.0
    values_TxF[3] = -50.0
    assert saliency.peak(values_TxF) == (5, 7)
    assert saliency.peak(values_TxF, share=1.0) == (2, 10)
    assert saliency.peak(-np.ones((4, 2))) is None
