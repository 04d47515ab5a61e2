"""Training and evaluation steps as pure functions of one replica and one batch.

No I/O, mesh or config. Axes: B batch, T frames, F feature columns, C classes.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from ser_jax import features
from ser_jax.data.loader import Batch
from ser_jax.data.online_augmentation import NONE, OnlineAugmentation, augment, mix
from ser_jax.train.objectives import cross_entropy, l2_penalty
from ser_jax.train.optimizer import Schedule, constant
from ser_jax.train.state import Best, Normalisation, Sums, TrainState

MONITORS = ("accuracy", "uar", "loss")


def make_train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    kind: str,
    schedule: Schedule = constant,
    augmentation: OnlineAugmentation = NONE,
    ema_decay: float = 0.0,
    focal_gamma: float = 0.0,
) -> Callable[[TrainState, Batch], TrainState]:
    """Return (state, batch) → state, with the batch's metrics added to state.sums."""

    def train_step(state: TrainState, batch: Batch) -> TrainState:
        hyper = state.hyper
        x, key = normalised_input(state.normalisation, batch, kind), step_key(state)
        n_frames_B = batch.n_frames_B
        if isinstance(state.target_NxC, tuple):
            target_BxC = jax.nn.one_hot(batch.label_B, len(hyper.class_weight_C))
        else:
            target_BxC = state.target_NxC[batch.clip_B]
        if augmentation.changes_clips:
            key, own_key = jax.random.split(key)
            x, n_frames_B = augment(augmentation, own_key, x, n_frames_B)
        if augmentation.mixup:
            key, own_key = jax.random.split(key)
            x, n_frames_B, target_BxC = mix(
                augmentation.mixup, own_key, x, n_frames_B, target_BxC, batch.mask_B
            )

        def loss_fn(params: Any) -> tuple[jax.Array, tuple]:
            logits_BxC, updated = model.apply(
                {"params": params, "batch_stats": state.batch_stats},
                x,
                train=True,
                dropout_rate=hyper.dropout,
                mask_B=batch.mask_B,
                n_frames_B=n_frames_B,
                rngs={"dropout": key},
                mutable=["batch_stats"],
            )
            entropy = cross_entropy(logits_BxC, target_BxC, batch.mask_B, hyper, focal_gamma)
            penalty = hyper.l2 * l2_penalty(params)
            batch_stats = updated.get("batch_stats", state.batch_stats)
            return entropy + penalty, (entropy, penalty, logits_BxC, batch_stats)

        grad_fn = jax.grad(loss_fn, has_aux=True)
        grads, (entropy, penalty, logits_BxC, batch_stats) = grad_fn(state.params)
        directions, opt_state = optimizer.update(grads, state.opt_state, state.params)
        rate = current_learning_rate(state, schedule)
        params = jax.tree.map(lambda w, d: w - rate * d, state.params, directions)

        bad = ~jnp.isfinite(entropy + penalty) & (state.sums.bad_step < 0)
        loss = entropy * jnp.sum(batch.mask_B)
        sums = add_batch(state.sums, logits_BxC, batch, loss).replace(
            l2=state.sums.l2 + penalty,
            bad_step=jnp.where(bad, state.step, state.sums.bad_step),
        )
        return state.replace(
            step=state.step + 1,
            params=params,
            batch_stats=batch_stats,
            opt_state=opt_state,
            sums=sums,
            average=running_mean(state, params, batch_stats, ema_decay),
        )

    return train_step


def skip_if_idle(
    step: Callable[[TrainState, Batch], TrainState],
) -> Callable[[TrainState, Batch], TrainState]:
    """Make a step leave a replica unchanged that has stopped, failed or run out of batches."""

    @functools.wraps(step)
    def guarded(state: TrainState, batch: Batch) -> TrainState:
        busy = jnp.any(batch.mask_B) & ~state.stopped & (state.sums.bad_step < 0)
        return jax.tree.map(lambda new, old: jnp.where(busy, new, old), step(state, batch), state)

    return guarded


def make_logits(model: nn.Module, kind: str) -> Callable[..., jax.Array]:
    """Return (params, batch_stats, normalisation, batch) → logits_BxC, in inference mode."""

    def logits(params: Any, batch_stats: Any, normalisation: Normalisation, batch: Batch):
        x = normalised_input(normalisation, batch, kind)
        variables = {"params": params, "batch_stats": batch_stats}
        return model.apply(variables, x, train=False, n_frames_B=batch.n_frames_B)

    return logits


def make_evaluation(model: nn.Module, kind: str) -> Callable[..., tuple[Sums, jax.Array]]:
    """Return (params, batch_stats, normalisation, sums, batch) → (sums, probability_BxC)."""
    logits_of = make_logits(model, kind)

    def evaluate(
        params: Any, batch_stats: Any, normalisation: Normalisation, sums: Sums, batch: Batch
    ) -> tuple[Sums, jax.Array]:
        logits_BxC = logits_of(params, batch_stats, normalisation, batch)
        # The loss is the plain cross-entropy, without label smoothing or class weights.
        entropy_B = optax.softmax_cross_entropy_with_integer_labels(logits_BxC, batch.label_B)
        loss = jnp.sum(jnp.where(batch.mask_B, entropy_B, 0.0))
        return add_batch(sums, logits_BxC, batch, loss), jax.nn.softmax(logits_BxC)

    return evaluate


def make_end_of_epoch(
    plateau: optax.GradientTransformationExtraArgs,
    monitor: str,
    stopping_patience: int,
    stopping_min_delta: float,
) -> Callable[[TrainState, Sums, jax.Array], TrainState]:
    """Return (state, validation sums, epoch) → state: best weights, plateau and early stopping.

    The best epoch has the highest monitored value, the first one of equals. Early stopping follows
    Keras: stop after `stopping_patience` epochs without a gain of more than `stopping_min_delta`
    over the last such gain; patience 0 never stops. A replica whose training or validation loss is
    not finite has failed: it stops, and its best value becomes −∞. A stopped one is left unchanged.
    """

    def end_of_epoch(state: TrainState, sums: Sums, epoch: jax.Array) -> TrainState:
        value = monitored_value(sums, monitor)
        failed = (state.sums.bad_step >= 0) | ~jnp.isfinite(sums.loss)
        improved = (value > state.best.value) & ~failed
        current = Best(*state.evaluated, value, epoch)
        best = jax.tree.map(lambda new, old: jnp.where(improved, new, old), current, state.best)
        best = best.replace(value=jnp.where(failed, -jnp.inf, best.value))
        gained = value - stopping_min_delta > state.reference
        waited = jnp.where(gained, 0, state.waited + 1)
        _, plateau_state = plateau.update({}, state.plateau, value=-value)
        patient = (waited < stopping_patience) | (stopping_patience <= 0)
        ended = state.replace(
            best=best,
            plateau=plateau_state,
            waited=waited,
            stopped=failed | ~patient,
            reference=jnp.where(gained, value, state.reference),
            sums=Sums.zero(len(state.hyper.class_weight_C)),
        )
        return jax.tree.map(lambda new, old: jnp.where(state.stopped, old, new), ended, state)

    return end_of_epoch


def normalised_input(normalisation: Normalisation, batch: Batch, kind: str) -> jax.Array:
    """Normalise a batch for the model; frames past a clip's end stay zero."""
    x_BxTxF = (batch.x_BxTxF - normalisation.mean_F) / normalisation.sd_F
    inside_BxT = jnp.arange(x_BxTxF.shape[1]) < batch.n_frames_B[:, None]
    return features.model_input(jnp.where(inside_BxT[..., None], x_BxTxF, 0.0), kind)


def running_mean(state: TrainState, params: Any, batch_stats: Any, decay: float) -> Any:
    """Return state.average after a step to new parameters; they count 1 − decay.

    The first steps count more, since the mean would else hold on to the initial weights.
    """
    if not state.average:
        return state.average
    decay = jnp.minimum(decay, (1 + state.step) / (10 + state.step))
    return jax.tree.map(
        lambda mean, new: decay * mean + (1 - decay) * new, state.average, (params, batch_stats)
    )


def step_key(state: TrainState) -> jax.Array:
    """Return the key of all that is random in the next step."""
    return jax.random.fold_in(state.key, state.step)


def current_learning_rate(state: TrainState, schedule: Schedule = constant) -> jax.Array:
    """Return the learning rate by schedule, after the plateau rule's reductions."""
    rate = state.hyper.learning_rate * state.plateau.scale
    if schedule is not constant:
        rate = rate * schedule(state.step)
    return jnp.maximum(rate, state.hyper.min_learning_rate)


def add_batch(sums: Sums, logits_BxC: jax.Array, batch: Batch, loss: jax.Array) -> Sums:
    """Add a batch, and its loss summed over the examples, to the sums."""
    predicted_B = jnp.argmax(logits_BxC, axis=-1)
    return sums.replace(
        n=sums.n + jnp.sum(batch.mask_B),
        loss=sums.loss + loss,
        confusion_CxC=sums.confusion_CxC
        + confusion_counts(batch.label_B, predicted_B, batch.mask_B, logits_BxC.shape[-1]),
        steps=sums.steps + 1,
    )


def monitored_value(sums: Sums, monitor: str) -> jax.Array:
    """Return the value that epochs are compared by; larger is better."""
    if monitor == "loss":
        return -sums.loss / sums.n
    correct_C = jnp.diagonal(sums.confusion_CxC).astype(jnp.float32)
    if monitor == "accuracy":
        return jnp.sum(correct_C) / sums.n
    support_C = jnp.sum(sums.confusion_CxC, axis=1)
    return jnp.sum(correct_C / jnp.maximum(support_C, 1)) / jnp.sum(support_C > 0)


def confusion_counts(
    label_B: jax.Array, prediction_B: jax.Array, weight_B: jax.Array, n_classes: int
) -> jax.Array:
    """Count (true, predicted) pairs exactly, int32 [C, C]; `weight_B` is 0 for a padding row."""
    counts_CxC = jnp.zeros((n_classes, n_classes), jnp.int32)
    return counts_CxC.at[label_B, prediction_B].add(weight_B.astype(jnp.int32))
