"""Optimisers, and the learning-rate plateau rule, with Keras's constants and semantics."""

import functools

import numpy as np
import optax
from ml_collections import ConfigDict

from ser_jax.common.errors import UserError

# Keras's defaults differ from optax's. The step applies the learning rate.
OPTIMIZERS = {
    "adam": lambda: optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-7),
    "rmsprop": lambda: optax.scale_by_rms(decay=0.9, eps=1e-7),
}


def make_optimizer(name: str) -> optax.GradientTransformation:
    """Return the transformation from gradients to directions, without a learning rate.

    Raises:
      UserError: an unknown name.
    """
    if name not in OPTIMIZERS:
        raise UserError(f"optimizer.name={name!r} is unknown; use one of {', '.join(OPTIMIZERS)}.")
    return OPTIMIZERS[name]()


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
