"""Optimisers and learning-rate rules: Keras's constants and plateau, and cosine decay."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from ser_jax.common.errors import UserError
from ser_jax.models.network import Network, RateFactors

# Keras's defaults differ from optax's. The step applies the learning rate.
OPTIMIZERS = {
    "adam": lambda: optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-7),
    "rmsprop": lambda: optax.scale_by_rms(decay=0.9, eps=1e-7),
}
SCHEDULES = ("constant", "cosine")

Schedule = Callable[[jax.Array], jax.Array]  # step → factor of the learning rate


@functools.cache  # runs of equal settings get the same object, and so share their programs
def make_optimizer(
    name: str,
    weight_decay: float = 0.0,
    clip_norm: float = 0.0,
    factors: RateFactors | None = None,
) -> optax.GradientTransformation:
    """Return the transformation from gradients to directions, without a learning rate.

    Args:
      name: a key of OPTIMIZERS.
      weight_decay: of kernels, decoupled from the gradient as in AdamW (Loshchilov & Hutter, 2019);
        0 leaves it out.
      clip_norm: gradients of a larger norm are scaled down to it; 0 leaves them.
      factors: of the learning rate, see Network.rate_factors.

    Raises:
      UserError: an unknown name.
    """
    if name not in OPTIMIZERS:
        raise UserError(f"optimizer.name={name!r} is unknown; use one of {', '.join(OPTIMIZERS)}.")
    if not weight_decay and not clip_norm and not factors:
        return OPTIMIZERS[name]()  # its own state, as in earlier checkpoints
    steps = [OPTIMIZERS[name]()]
    if clip_norm:
        steps.insert(0, optax.clip_by_global_norm(clip_norm))
    if weight_decay:
        steps.append(optax.add_decayed_weights(weight_decay, mask=kernels))
    if factors:
        steps.append(optax.stateless(functools.partial(_scaled, factors)))
    return optax.chain(*steps)


def settings_of(config: ConfigDict, model: Network) -> tuple[str, float, float, RateFactors | None]:
    """Return the arguments of `make_optimizer` that a whole config and its network give."""
    own = config.optimizer
    factors = model.rate_factors(own.encoder_factor, own.layer_decay)
    return own.name, own.weight_decay, own.clip_norm, factors


def _scaled(factors: RateFactors, updates: Any, params: Any) -> Any:
    del params
    return jax.tree_util.tree_map_with_path(
        lambda path, update: update * factors(tuple(step.key for step in path)), updates
    )


@functools.cache
def make_schedule(name: str, warmup: float, n_steps: int) -> Schedule:
    """Return the factor of the learning rate at each step of a training of `n_steps`.

    "constant" is 1. "cosine" rises from 0 in a straight line for a share `warmup` of the steps and
    falls to 0 on half a cosine.

    Raises:
      UserError: an unknown name.
    """
    if name not in SCHEDULES:
        raise UserError(
            f"optimizer.schedule={name!r} is unknown; use one of {', '.join(SCHEDULES)}."
        )
    if name == "constant":
        return constant
    n_rising = round(warmup * n_steps)
    return optax.warmup_cosine_decay_schedule(0.0 if n_rising else 1.0, 1.0, n_rising, n_steps)


def constant(step: jax.Array) -> jax.Array:
    """Return 1 at every step."""
    return jnp.ones_like(step, jnp.float32)


def kernels(params: Any) -> Any:
    """Mark the kernels of convolutions and dense layers, not biases or BatchNorm: what decays."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def make_plateau(config: ConfigDict) -> optax.GradientTransformationExtraArgs:
    """Return Keras's ReduceLROnPlateau: updated once an epoch with a value to minimise.

    The learning rate is multiplied by its state's `scale`. `config` is config.optimizer.

    Raises:
      UserError: a factor outside (0, 1), a patience below 1 or a negative minimal gain.
    """
    if not 0 < config.plateau_factor < 1 or config.plateau_patience < 1:
        raise UserError(
            "optimizer.plateau_factor must be between 0 and 1 and plateau_patience 1 or more; got "
            f"{config.plateau_factor} and {config.plateau_patience}."
        )
    if not config.plateau_min_delta >= 0:
        raise UserError(
            f"optimizer.plateau_min_delta={config.plateau_min_delta} must be 0 or more."
        )
    return _reduce_on_plateau(
        factor=config.plateau_factor,
        patience=config.plateau_patience,
        rtol=0.0,
        # optax refuses 0; subtracting this changes no value, so the comparison is then strict.
        atol=config.plateau_min_delta or float(np.finfo(np.float32).tiny),
        cooldown=max(config.plateau_cooldown - 1, 0),  # Keras's ends an epoch earlier
    )


# Runs of equal settings get the same object, and so share their compiled programs.
_reduce_on_plateau = functools.cache(optax.contrib.reduce_on_plateau)
