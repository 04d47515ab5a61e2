"""A training step computed by hand, and Keras's rules for plateau and early stopping."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from ser_jax.common.errors import UserError
from ser_jax.data.loader import Batch
from ser_jax.models import registry
from ser_jax.train.optimizer import make_optimizer, make_plateau, make_schedule
from ser_jax.train.state import Normalisation, Sums, create_state, make_hyper
from ser_jax.train.step import (
    current_learning_rate,
    make_end_of_epoch,
    make_train_step,
    monitored_value,
)

N_CLASSES = 3
PLATEAU = ConfigDict(
    {
        "plateau_factor": 0.5,
        "plateau_patience": 3,
        "plateau_min_delta": 1e-4,
        "plateau_cooldown": 0,
    }
)


def make_state(model, name="adam", **hyper):
    settings = {
        "learning_rate": 1e-3,
        "min_learning_rate": 0.0,
        "l2": 0.01,
        "dropout": 0.0,
        "label_smoothing": 0.0,
        "class_weight_C": np.array([1.0, 2.0, 0.5]),
    }
    return create_state(
        model,
        make_optimizer(name),
        make_plateau(PLATEAU),
        jnp.zeros((4, 12, 8)),
        seed=0,
        hyper=make_hyper(**settings | hyper),
        normalisation=Normalisation(jnp.full(8, 0.3), jnp.full(8, 2.0)),
    )


@pytest.fixture
def model():
    return registry.build("paper", N_CLASSES, {"widths": (4, 4, 4), "dense": 5})


@pytest.fixture
def batch():
    x = jax.random.normal(jax.random.key(1), (4, 12, 8))
    return Batch(
        x, jnp.array([12, 7, 12, 3]), jnp.array([0, 1, 2, 1]), jnp.array([1, 1, 1, 0], bool)
    )


def input_by_hand(batch):
    """Normalise in NumPy; zero past the end of each clip."""
    x = np.array((batch.x_BxTxF - 0.3) / 2.0)
    for row, n_frames in enumerate(np.asarray(batch.n_frames_B)):
        x[row, n_frames:] = 0
    return jnp.asarray(x)


def loss_by_hand(model, params, x):
    """Weighted cross-entropy of the three real rows, plus λ·Σw² over the kernels."""
    logits = model.apply({"params": params}, x[:3], train=False)
    log_p = logits - jax.scipy.special.logsumexp(logits, axis=1, keepdims=True)
    entropy = -(1.0 * log_p[0, 0] + 2.0 * log_p[1, 1] + 0.5 * log_p[2, 2]) / 3
    penalty = 0.01 * sum(
        jnp.sum(params[name]["kernel"] ** 2)
        for name in ("Conv_0", "Conv_1", "Conv_2", "Dense_0", "Dense_1")
    )
    return entropy + penalty, (entropy, penalty)


@pytest.mark.parametrize("name", ["adam", "rmsprop"])
def test_one_step_equals_keras_arithmetic(model, batch, name):
    state = make_state(model, name)
    before = jax.device_get(state.params)
    by_hand = jax.jit(jax.grad(lambda p, x: loss_by_hand(model, p, x), has_aux=True))
    grads, (entropy, penalty) = by_hand(before, input_by_hand(batch))
    step = make_train_step(model, make_optimizer(name), "mfcc")
    after = jax.jit(step)(state, batch)

    def update(w, g):
        if name == "adam":  # in the first step the bias corrections cancel both decay rates
            return w - 1e-3 * g / (jnp.abs(g) + 1e-7)
        return w - 1e-3 * g / jnp.sqrt(0.1 * g**2 + 1e-7)

    expected = jax.jit(jax.tree.map, static_argnums=0)(update, before, grads)
    for a, b in zip(*map(jax.tree.leaves, (after.params, expected)), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)
    assert float(after.sums.loss) / int(after.sums.n) == pytest.approx(float(entropy), rel=1e-5)
    assert float(after.sums.l2) == pytest.approx(float(penalty), rel=1e-5)
    assert int(after.sums.n) == 3 and int(after.sums.confusion_CxC.sum()) == 3
    assert int(after.step) == 1


def test_dropout_depends_on_the_step(model, batch):
    step = jax.jit(make_train_step(model, make_optimizer("adam"), "mfcc"))
    state = make_state(model, dropout=0.5, learning_rate=0.0)
    losses = []
    for _ in range(2):
        state = step(state.replace(sums=Sums.zero(N_CLASSES)), batch)
        losses.append(float(state.sums.loss))
    assert losses[0] != losses[1]
    again = step(make_state(model, dropout=0.5, learning_rate=0.0), batch)
    assert float(again.sums.loss) == losses[0]


def test_step_of_a_non_finite_loss_is_recorded(model, batch):
    step = jax.jit(make_train_step(model, make_optimizer("adam"), "mfcc"))
    state = step(make_state(model), batch)
    assert int(state.sums.bad_step) == -1
    state = step(state, batch._replace(x_BxTxF=batch.x_BxTxF * jnp.nan))
    state = step(state, batch)
    assert int(state.sums.bad_step) == 1


def keras_plateau(values, factor=0.5, patience=3, min_delta=1e-4, cooldown=0, rate=1e-3):
    """keras.callbacks.ReduceLROnPlateau with mode "max", from its documentation."""
    best, wait, cooling, rates = -np.inf, 0, 0, []
    for value in values:
        if cooling > 0:
            cooling, wait = cooling - 1, 0
        if value > best + min_delta:
            best, wait = value, 0
        elif cooling <= 0:
            wait += 1
            if wait >= patience:
                rate, cooling, wait = rate * factor, cooldown, 0
        rates.append(rate)
    return rates


def keras_stopping(values, patience, min_delta=0.0):
    """keras.callbacks.EarlyStopping with mode "max": the number of epochs run."""
    best, wait = -np.inf, 0
    for epoch, value in enumerate(values, start=1):
        wait += 1
        if value - min_delta > best:
            best, wait = value, 0
        if wait >= patience:
            return epoch
    return len(values)


def sums_with_accuracy(correct: int, n: int = 1000) -> Sums:
    confusion = jnp.zeros((N_CLASSES, N_CLASSES), jnp.int32).at[0, 0].set(correct)
    confusion = confusion.at[0, 1].set(n - correct)
    return Sums.zero(N_CLASSES).replace(n=jnp.int32(n), confusion_CxC=confusion)


@pytest.mark.parametrize("seed", range(5))
def test_plateau_and_best_epoch_equal_keras(model, seed):
    correct = np.random.default_rng(seed).integers(300, 330, 40)
    state, rates = make_state(model), []
    end_of_epoch = jax.jit(make_end_of_epoch(make_plateau(PLATEAU), "accuracy", 0, 0.0))
    for epoch, hits in enumerate(correct, start=1):
        state = end_of_epoch(state, sums_with_accuracy(int(hits)), jnp.int32(epoch))
        rates.append(float(current_learning_rate(state)))
    np.testing.assert_allclose(rates, keras_plateau(correct / 1000), rtol=1e-6)
    assert int(state.best.epoch) == int(np.argmax(correct)) + 1  # the first of equals
    assert not bool(state.stopped)


def test_plateau_without_a_minimal_gain_counts_every_gain(model):
    correct = np.array([300, 301, 302, 302, 303, 303, 303, 303, 304])
    plateau = make_plateau(ConfigDict({**PLATEAU, "plateau_min_delta": 0.0}))
    end_of_epoch, state = jax.jit(make_end_of_epoch(plateau, "accuracy", 0, 0.0)), make_state(model)
    rates = []
    for epoch, hits in enumerate(correct, start=1):
        state = end_of_epoch(state, sums_with_accuracy(int(hits)), jnp.int32(epoch))
        rates.append(float(current_learning_rate(state)))
    np.testing.assert_allclose(rates, keras_plateau(correct / 1000, min_delta=0.0), rtol=1e-6)
    with pytest.raises(UserError, match="plateau_min_delta=-0.1 must be 0 or more"):
        make_plateau(ConfigDict({**PLATEAU, "plateau_min_delta": -0.1}))


@pytest.mark.parametrize("loss", [np.nan, np.inf])
def test_non_finite_validation_is_a_failure_and_never_the_best(model, loss):
    end_of_epoch = jax.jit(make_end_of_epoch(make_plateau(PLATEAU), "accuracy", 0, 0.0))
    good = end_of_epoch(make_state(model), sums_with_accuracy(300), jnp.int32(1))
    # A network of NaNs predicts the first class.
    bad_sums = sums_with_accuracy(900).replace(loss=jnp.float32(loss))
    bad = end_of_epoch(good, bad_sums, jnp.int32(2))
    assert bool(bad.stopped) and not bool(good.stopped)
    assert int(bad.best.epoch) == 1 and float(bad.best.value) == -np.inf
    again = end_of_epoch(bad, sums_with_accuracy(900), jnp.int32(3))
    assert int(again.best.epoch) == 1 and float(again.best.value) == -np.inf


# Accuracy that creeps up: no epoch gains 0.003 over its predecessor, some over an earlier one.
@pytest.mark.parametrize(
    ("correct", "min_delta"),
    [(300 + np.arange(40), 0.0025), (300 + np.arange(40) // 3, 0.0015), (np.full(40, 300), 0.001)],
)
def test_early_stopping_compares_with_the_last_sufficient_gain(model, correct, min_delta):
    plateau, patience = make_plateau(PLATEAU), 4
    end_of_epoch = jax.jit(make_end_of_epoch(plateau, "accuracy", patience, min_delta))
    state, epochs = make_state(model), 0
    while epochs < len(correct) and not bool(state.stopped):
        state = end_of_epoch(state, sums_with_accuracy(int(correct[epochs])), jnp.int32(epochs + 1))
        epochs += 1
    assert epochs == keras_stopping(correct / 1000, patience, min_delta)
    assert int(state.best.epoch) == int(np.argmax(correct[:epochs])) + 1


@pytest.mark.parametrize("seed", range(5))
def test_early_stopping_equals_keras_and_freezes_the_state(model, seed):
    correct, patience = np.random.default_rng(seed).integers(300, 330, 40), 5
    end_of_epoch = jax.jit(make_end_of_epoch(make_plateau(PLATEAU), "accuracy", patience, 0.0))
    state, epochs = make_state(model), 0
    while not bool(state.stopped):
        state = end_of_epoch(state, sums_with_accuracy(int(correct[epochs])), jnp.int32(epochs + 1))
        epochs += 1
    assert epochs == keras_stopping(correct, patience)
    after = end_of_epoch(state, sums_with_accuracy(900), jnp.int32(epochs + 1))
    for a, b in zip(
        *(jax.tree.leaves((s.best, s.plateau, s.waited)) for s in (state, after)), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_monitored_values():
    confusion = jnp.array([[8, 2, 0], [3, 1, 0], [0, 0, 0]], jnp.int32)
    sums = Sums.zero(3).replace(n=jnp.int32(14), loss=jnp.float32(7), confusion_CxC=confusion)
    assert float(monitored_value(sums, "accuracy")) == pytest.approx(9 / 14)
    assert float(monitored_value(sums, "uar")) == pytest.approx((0.8 + 0.25) / 2)
    assert float(monitored_value(sums, "loss")) == pytest.approx(-0.5)


def test_step_can_be_vmapped_over_replicas(model, batch):
    step = make_train_step(model, make_optimizer("adam"), "mfcc")
    states = [make_state(model, learning_rate=rate) for rate in (1e-3, 1e-2)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    together = jax.jit(jax.vmap(step, in_axes=(0, None)))(stacked, batch)
    for i, state in enumerate(states):
        alone = jax.jit(step)(state, batch)
        for a, b in zip(*map(jax.tree.leaves, (together.params, alone.params)), strict=True):
            np.testing.assert_allclose(a[i], b, atol=1e-5)


def test_weight_decay_equals_optax_adamw_on_kernels_alone():
    params = {"layer": {"kernel": jnp.array([1.0, -2.0]), "bias": jnp.array([3.0])}}
    grads = jax.tree.map(lambda w: 0.1 * w + 1, params)
    ours, rate = make_optimizer("adam", 0.1), 0.01
    mask = {"layer": {"kernel": True, "bias": False}}
    theirs = optax.adamw(rate, eps=1e-7, weight_decay=0.1, mask=mask)
    ours_state, theirs_state = ours.init(params), theirs.init(params)
    a = b = params
    for _ in range(3):
        directions, ours_state = ours.update(grads, ours_state, a)
        a = jax.tree.map(lambda w, d: w - rate * d, a, directions)
        updates, theirs_state = theirs.update(grads, theirs_state, b)
        b = optax.apply_updates(b, updates)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), a, b)


def test_gradients_are_clipped_to_a_norm():
    gradient = {"kernel": jnp.array([3.0, 4.0])}
    clipped, _ = make_optimizer("rmsprop", clip_norm=1.0).update(
        gradient, make_optimizer("rmsprop", clip_norm=1.0).init(gradient)
    )
    expected, _ = make_optimizer("rmsprop").update(
        {"kernel": jnp.array([0.6, 0.8])}, make_optimizer("rmsprop").init(gradient)
    )
    np.testing.assert_allclose(clipped["kernel"], expected["kernel"], rtol=1e-5)


def test_the_cosine_schedule_rises_and_falls_to_zero():
    factor_S = np.array([make_schedule("cosine", 0.2, 100)(step) for step in range(101)])
    assert factor_S[0] == 0 and factor_S[20] == 1 and abs(factor_S[100]) < 1e-6
    np.testing.assert_allclose(factor_S[10], 0.5)
    np.testing.assert_allclose(factor_S[60], 0.5, atol=1e-6)  # halfway down
    assert make_schedule("cosine", 0.0, 100)(0) == 1
    assert make_schedule("constant", 0.0, 100)(50) == 1
    with pytest.raises(UserError, match=r"optimizer\.schedule='linear'"):
        make_schedule("linear", 0.0, 100)
