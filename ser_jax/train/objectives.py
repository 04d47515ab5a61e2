"""Training objectives: the terms of the loss that a step minimises.

Axes: B batch, C classes.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from ser_jax.train.optimizer import kernels
from ser_jax.train.state import Hyper


def cross_entropy(
    logits_BxC: jax.Array,
    target_BxC: jax.Array,
    mask_B: jax.Array,
    hyper: Hyper,
    focal_gamma: float = 0.0,
) -> jax.Array:
    """Return the batch's mean cross-entropy, with label smoothing and class weights.

    The mean is over real rows: Σ w·H / n, as in Keras; a row's w is the mean weight of its classes.
    With a focal γ the term of each class counts (1 − p)^γ times (Lin et al., ICCV 2017), so that
    what is learnt already counts less.
    """
    weight_B = mask_B * jnp.sum(target_BxC * hyper.class_weight_C, axis=-1)
    smooth_BxC = optax.smooth_labels(target_BxC, hyper.label_smoothing)
    if focal_gamma:
        smooth_BxC = smooth_BxC * (1 - jax.nn.softmax(logits_BxC)) ** focal_gamma
    entropy_B = optax.softmax_cross_entropy(logits_BxC, smooth_BxC)
    return jnp.sum(entropy_B * weight_B) / jnp.sum(mask_B)


def l2_penalty(params: Any) -> jax.Array:
    """Return Σw² over the kernels of convolutions and dense layers, not biases or BatchNorm."""
    pairs = zip(jax.tree.leaves(params), jax.tree.leaves(kernels(params)), strict=True)
    return sum(jnp.sum(leaf**2) for leaf, decays in pairs if decays)
