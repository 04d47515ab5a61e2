"""The mathematics of training: one replica, one batch; no I/O, no mesh, no config.

Axes: B batch, T frames, F feature columns, C classes.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from ser_jax import features
from ser_jax.train.state import Best, Normalisation, Sums, TrainState

MONITORS = ("accuracy", "uar", "loss")


class Batch(NamedTuple):
    """Examples as stored. Rows where mask_B is False only fill the batch and count nowhere."""

    x_BxTxF: jax.Array
    n_frames_B: jax.Array
    label_B: jax.Array
    mask_B: jax.Array


def prepare(normalisation: Normalisation, batch: Batch, kind: str) -> jax.Array:
    """Normalised model input; frames past a clip's end are zero, before and after."""
    x_BxTxF = (batch.x_BxTxF - normalisation.mean_F) / normalisation.sd_F
    inside_BxT = jnp.arange(x_BxTxF.shape[1]) < batch.n_frames_B[:, None]
    return features.model_input(jnp.where(inside_BxT[..., None], x_BxTxF, 0.0), kind)


def l2_penalty(params: Any) -> jax.Array:
    """Σw² over the kernels of convolutions and dense layers; biases and BatchNorm are free."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return sum(jnp.sum(leaf**2) for path, leaf in leaves if path[-1].key == "kernel")


def make_train_step(
    model: nn.Module, optimizer: optax.GradientTransformation, kind: str
) -> Callable[[TrainState, Batch], TrainState]:
    """(state, batch) → state, with the batch's metrics added to state.sums."""

    def train_step(state: TrainState, batch: Batch) -> TrainState:
        hyper, n = state.hyper, jnp.sum(batch.mask_B)
        x = prepare(state.normalisation, batch, kind)
        weight_B = batch.mask_B * hyper.class_weight_C[batch.label_B]
        n_classes = len(hyper.class_weight_C)
        target_BxC = optax.smooth_labels(
            jax.nn.one_hot(batch.label_B, n_classes), hyper.label_smoothing
        )

        def loss_of(params: Any) -> tuple[jax.Array, tuple]:
            logits_BxC, updated = model.apply(
                {"params": params, "batch_stats": state.batch_stats},
                x,
                train=True,
                dropout_rate=hyper.dropout,
                mask_B=batch.mask_B,
                rngs={"dropout": jax.random.fold_in(state.key, state.step)},
                mutable=["batch_stats"],
            )
            entropy_B = optax.softmax_cross_entropy(logits_BxC, target_BxC)
            entropy = jnp.sum(entropy_B * weight_B) / n
            penalty = hyper.l2 * l2_penalty(params)
            batch_stats = updated.get("batch_stats", state.batch_stats)
            return entropy + penalty, (entropy, penalty, logits_BxC, batch_stats)

        gradient = jax.grad(loss_of, has_aux=True)
        grads, (entropy, penalty, logits_BxC, batch_stats) = gradient(state.params)
        directions, opt_state = optimizer.update(grads, state.opt_state, state.params)
        rate = learning_rate(state)
        params = jax.tree.map(lambda w, d: w - rate * d, state.params, directions)

        bad = ~jnp.isfinite(entropy + penalty) & (state.sums.bad_step < 0)
        sums = state.sums.replace(
            n=state.sums.n + n,
            loss=state.sums.loss + entropy * n,
            confusion_CxC=state.sums.confusion_CxC
            + confusion_counts(
                batch.label_B, jnp.argmax(logits_BxC, axis=-1), batch.mask_B, n_classes
            ),
            l2=state.sums.l2 + penalty,
            steps=state.sums.steps + 1,
            bad_step=jnp.where(bad, state.step, state.sums.bad_step),
        )
        return state.replace(
            step=state.step + 1,
            params=params,
            batch_stats=batch_stats,
            opt_state=opt_state,
            sums=sums,
        )

    return train_step


def learning_rate(state: TrainState) -> jax.Array:
    """The rate that the plateau rule has come down to."""
    return jnp.maximum(
        state.hyper.learning_rate * state.plateau.scale, state.hyper.min_learning_rate
    )


def make_logits(model: nn.Module, kind: str) -> Callable[..., jax.Array]:
    """(params, batch_stats, normalisation, batch) → logits_BxC, as in prediction."""

    def logits(params: Any, batch_stats: Any, normalisation: Normalisation, batch: Batch):
        x = prepare(normalisation, batch, kind)
        return model.apply({"params": params, "batch_stats": batch_stats}, x, train=False)

    return logits


def make_evaluation(model: nn.Module, kind: str) -> Callable[..., tuple[Sums, jax.Array]]:
    """(params, batch_stats, normalisation, sums, batch) → (sums, probability_BxC)."""
    logits_of = make_logits(model, kind)

    def evaluate(
        params: Any, batch_stats: Any, normalisation: Normalisation, sums: Sums, batch: Batch
    ) -> tuple[Sums, jax.Array]:
        logits_BxC = logits_of(params, batch_stats, normalisation, batch)
        return evaluation_sums(sums, logits_BxC, batch), jax.nn.softmax(logits_BxC)

    return evaluate


def evaluation_sums(sums: Sums, logits_BxC: jax.Array, batch: Batch) -> Sums:
    """Adds a batch to the sums; plain cross-entropy, each clip once."""
    entropy_B = optax.softmax_cross_entropy_with_integer_labels(logits_BxC, batch.label_B)
    predicted_B = jnp.argmax(logits_BxC, axis=-1)
    return sums.replace(
        n=sums.n + jnp.sum(batch.mask_B),
        loss=sums.loss + jnp.sum(jnp.where(batch.mask_B, entropy_B, 0.0)),
        confusion_CxC=sums.confusion_CxC
        + confusion_counts(batch.label_B, predicted_B, batch.mask_B, logits_BxC.shape[-1]),
        steps=sums.steps + 1,
    )


def monitored(sums: Sums, monitor: str) -> jax.Array:
    """The value by which epochs are compared; larger is better."""
    if monitor == "loss":
        return -sums.loss / sums.n
    correct_C = jnp.diagonal(sums.confusion_CxC).astype(jnp.float32)
    if monitor == "accuracy":
        return jnp.sum(correct_C) / sums.n
    support_C = jnp.sum(sums.confusion_CxC, axis=1)
    return jnp.sum(correct_C / jnp.maximum(support_C, 1)) / jnp.sum(support_C > 0)


def make_end_of_epoch(
    plateau: optax.GradientTransformationExtraArgs,
    monitor: str,
    stopping_patience: int,
    stopping_min_delta: float,
) -> Callable[[TrainState, Sums, jax.Array], TrainState]:
    """(state, validation sums, epoch) → state: best weights, plateau and early stopping.

    An epoch is best when its value is above the best before. Early stopping is Keras's: it waits
    `stopping_patience` epochs for a gain of more than `stopping_min_delta`; 0 waits for ever. A
    state that has stopped stays as it is, and one whose loss was not finite stops.
    """

    def end_of_epoch(state: TrainState, sums: Sums, epoch: jax.Array) -> TrainState:
        value = monitored(sums, monitor)
        failed = state.sums.bad_step >= 0
        improved = (value > state.best.value) & ~failed
        now = Best(state.params, state.batch_stats, value, epoch)
        best = jax.tree.map(lambda new, old: jnp.where(improved, new, old), now, state.best)
        gained = value - stopping_min_delta > state.best.value
        waited = jnp.where(gained, 0, state.waited + 1)
        _, plateau_state = plateau.update({}, state.plateau, value=-value)
        patient = (waited < stopping_patience) | (stopping_patience <= 0)
        ended = state.replace(
            best=best,
            plateau=plateau_state,
            waited=waited,
            stopped=failed | ~patient,
            sums=Sums.zero(len(state.hyper.class_weight_C)),
        )
        return jax.tree.map(lambda new, old: jnp.where(state.stopped, old, new), ended, state)

    return end_of_epoch


def busy_only(
    step: Callable[[TrainState, Batch], TrainState],
) -> Callable[[TrainState, Batch], TrainState]:
    """A step that changes nothing for a replica that has stopped, failed or run out of batches."""

    @functools.wraps(step)
    def guarded(state: TrainState, batch: Batch) -> TrainState:
        busy = jnp.any(batch.mask_B) & ~state.stopped & (state.sums.bad_step < 0)
        return jax.tree.map(lambda new, old: jnp.where(busy, new, old), step(state, batch), state)

    return guarded


def confusion_counts(
    label_B: jax.Array, prediction_B: jax.Array, weight_B: jax.Array, n_classes: int
) -> jax.Array:
    """Counts of (true, predicted) pairs, exact.

    Args:
      label_B: true class indices.
      prediction_B: predicted ones.
      weight_B: 1 or True where a clip counts, 0 or False where it only fills up the batch.
      n_classes: C.

    Returns:
      int32 counts_CxC; they add over batches.
    """
    counts_CxC = jnp.zeros((n_classes, n_classes), jnp.int32)
    return counts_CxC.at[label_B, prediction_B].add(weight_B.astype(jnp.int32))
