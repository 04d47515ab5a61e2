"""The training state: everything that training changes or remembers, as one pytree of arrays.

Axes: N clips, F feature columns, C classes. Any leaf may get a leading replica axis from outside.
"""

import functools
import types
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct


@struct.dataclass
class Hyper:
    """Hyperparameters that may differ between replicas without recompiling; all float32."""

    learning_rate: jax.Array
    min_learning_rate: jax.Array
    l2: jax.Array
    dropout: jax.Array
    label_smoothing: jax.Array
    class_weight_C: jax.Array


@struct.dataclass
class Normalisation:
    """x → (x − mean) / sd, per column."""

    mean_F: jax.Array
    sd_F: jax.Array


class Weights(NamedTuple):
    """The part of a state that prediction needs."""

    params: Any
    batch_stats: Any
    normalisation: Normalisation


@struct.dataclass
class Sums:
    """Sums over batches from which the host computes the metrics."""

    n: jax.Array  # number of examples
    loss: jax.Array  # cross-entropy, summed over examples
    confusion_CxC: jax.Array  # counts, one row per true class
    l2: jax.Array  # penalty, summed over steps
    steps: jax.Array  # number of steps
    bad_step: jax.Array  # the first step with a loss that is not finite, else −1

    @classmethod
    def zero(cls, n_classes: int) -> "Sums":
        return cls(  # separate arrays, since the state is donated
            n=jnp.zeros((), jnp.int32),
            loss=jnp.zeros((), jnp.float32),
            confusion_CxC=jnp.zeros((n_classes, n_classes), jnp.int32),
            l2=jnp.zeros((), jnp.float32),
            steps=jnp.zeros((), jnp.int32),
            bad_step=jnp.full((), -1, jnp.int32),
        )


@struct.dataclass
class Best:
    """The weights of the best epoch so far, by the monitored value (larger is better)."""

    params: Any
    batch_stats: Any
    value: jax.Array  # −∞ before the first epoch, and for good in a replica that failed
    epoch: jax.Array


@struct.dataclass
class TrainState:
    """The state of one replica."""

    step: jax.Array  # number of steps taken, over all epochs
    params: Any
    batch_stats: Any
    opt_state: Any
    plateau: Any  # of the learning-rate rule
    key: jax.Array  # each step derives its dropout key from it
    hyper: Hyper
    normalisation: Normalisation
    sums: Sums  # training metrics of the current epoch
    best: Best
    waited: jax.Array  # epochs without an improvement
    stopped: jax.Array  # early, or because the loss was not finite
    reference: jax.Array  # monitored value of the last improvement that early stopping counted
    average: Any  # running mean of (params, batch_stats), see optimizer.ema_decay; () without
    target_NxC: Any  # probability of each class for every clip; () where the labels are aimed at

    @property
    def evaluated(self) -> tuple[Any, Any]:
        """The parameters and batch statistics that validation and prediction use."""
        return self.average or (self.params, self.batch_stats)


def create_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    plateau: optax.GradientTransformationExtraArgs,
    example_input: jax.Array,
    *,
    seed: int,
    hyper: Hyper,
    normalisation: Normalisation,
    pretrained: Mapping[str, Any] = types.MappingProxyType({}),
    averages: bool = False,
    target_NxC: Any = (),
) -> TrainState:
    """Initialise a state.

    Args:
      model, optimizer, plateau, hyper, normalisation: of the replica.
      example_input: a batch of model input, used for its shape alone.
      seed: of the initial weights and of dropout.
      pretrained: parameters in place of random ones, by the name of their module.
      averages: whether a running mean of the weights is kept.
      target_NxC: see TrainState.
    """
    init_key, key = jax.random.split(jax.random.key(seed))
    variables = _initial_variables(model, init_key, example_input)
    params = {**variables["params"], **jax.tree.map(jnp.asarray, dict(pretrained))}
    batch_stats = variables.get("batch_stats", {})
    zero = jnp.zeros((), jnp.int32)
    state = TrainState(
        step=zero,
        params=params,
        batch_stats=batch_stats,
        opt_state=optimizer.init(params),
        plateau=plateau.init(params),
        key=key,
        hyper=hyper,
        normalisation=normalisation,
        sums=Sums.zero(len(hyper.class_weight_C)),
        best=Best(params, batch_stats, jnp.full((), -jnp.inf, jnp.float32), zero),
        waited=zero,
        stopped=jnp.zeros((), bool),
        reference=jnp.full((), -jnp.inf, jnp.float32),
        average=(params, batch_stats) if averages else (),
        target_NxC=jax.tree.map(jnp.asarray, target_NxC),
    )
    return _unshared(state)


def replace_weights(state: TrainState, params: Any, batch_stats: Any) -> TrainState:
    """Return the state with other weights, given as NumPy or JAX arrays."""
    params, batch_stats = jax.tree.map(jnp.asarray, (params, batch_stats))
    best = state.best.replace(params=params, batch_stats=batch_stats)
    average = (params, batch_stats) if state.average else ()
    return _unshared(
        state.replace(params=params, batch_stats=batch_stats, best=best, average=average)
    )


def make_hyper(**fields: float | np.ndarray) -> Hyper:
    """Return the hyperparameters, given as Python numbers or NumPy arrays."""
    return Hyper(**{name: jnp.asarray(value, jnp.float32) for name, value in fields.items()})


def parameter_table(params: Mapping[str, Any]) -> str:
    """Return name, shape and size of each parameter, and the total, as aligned text."""
    rows = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        rows.append((name, "×".join(map(str, leaf.shape)), leaf.size))
    rows.append(("total", "", sum(size for *_, size in rows)))
    name_width, shape_width = (max(len(row[i]) for row in rows) for i in (0, 1))
    return "\n".join(
        f"{name:<{name_width}}  {shape:<{shape_width}}  {size:>12,}" for name, shape, size in rows
    )


@functools.partial(jax.jit, static_argnames="model")  # compiled once for all replicas
def _initial_variables(model: nn.Module, key: jax.Array, example_input: jax.Array) -> Any:
    return model.init(key, example_input, train=False)


def _unshared(state: TrainState) -> TrainState:
    """Copy every leaf: a donated state must not contain the same buffer twice."""
    return jax.tree.map(jnp.copy, state)
