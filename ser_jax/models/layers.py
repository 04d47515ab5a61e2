"""Dropout with a traced rate, and pools whose gradients are fast on XLA:CPU."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax


def dropout(x: jax.Array, rate: float | jax.Array, key: jax.Array) -> jax.Array:
    """Zero a fraction `rate` of the values and scale the others up; the rate may be traced."""
    kept = jax.random.bernoulli(key, 1.0 - rate, x.shape)
    return jnp.where(kept, x / jnp.asarray(1.0 - rate, x.dtype), 0)


def avg_pool(x: jax.Array, window: int, stride: int, padding: str) -> jax.Array:
    """Return means over windows of [batch, *space, channels]; padding is not counted, as in Keras.

    Pooling one axis after the other equals nn.avg_pool over the whole window up to rounding, for a
    window is a rectangle. Its gradient is faster on XLA:CPU, where large windows are costly.
    """
    ones = (1,) * (x.ndim - 2)
    for axis in range(x.ndim - 2):
        windows, strides = ((*ones[:axis], n, *ones[axis + 1 :]) for n in (window, stride))
        x = nn.avg_pool(x, windows, strides, padding.upper(), count_include_pad=False)
    return x


def max_pool(x: jax.Array, window: int, stride: int, padding: str) -> jax.Array:
    """Return maxima over windows of [batch, *space, channels].

    Equal to nn.max_pool, gradient included: of equal maxima the first in memory receives it.
    Pooling from the last axis to the first keeps that order.
    """
    for axis in reversed(range(1, x.ndim - 1)):
        pads = (0, 0)
        if padding == "same":
            [pads] = lax.padtype_to_pads([x.shape[axis]], [window], [stride], "SAME")
        x = _max_along(x, axis, window, stride, pads)
    return x


def max_pool_blocks(x: jax.Array, sides: tuple[int, int]) -> jax.Array:
    """Return maxima over adjacent blocks of [batch, *space, channels] ≥ 0; the last may be short.

    As blocks do not overlap they are a reshape, whose gradient is cheap anywhere.
    """
    (n_batch, *space, n_channels) = x.shape
    pads = [(0, -n % side) for n, side in zip(space, sides, strict=True)]
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    (n_high, high), (n_wide, wide) = (
        (-(-n // side), side) for n, side in zip(space, sides, strict=True)
    )
    return x.reshape(n_batch, n_high, high, n_wide, wide, n_channels).max((2, 4))


def attentive_statistics(
    x_BxTxF: jax.Array, score_BxTxH: jax.Array, inside_BxT: jax.Array
) -> jax.Array:
    """Return the weighted mean and sd of a clip's frames by each head's scores, Bx(H·2F), float32.

    They are those of Okabe et al., Interspeech 2018.
    """
    weight_BxTxH = nn.softmax(score_BxTxH, where=inside_BxT[..., None], axis=1)
    x_BxTxF = x_BxTxF.astype(jnp.float32)
    mean_BxHxF = jnp.einsum("btf,bth->bhf", x_BxTxF, weight_BxTxH)
    squares_BxTxHxF = (x_BxTxF[:, :, None] - mean_BxHxF[:, None]) ** 2
    variance_BxHxF = jnp.einsum("bthf,bth->bhf", squares_BxTxHxF, weight_BxTxH)
    statistics = jnp.concatenate([mean_BxHxF, jnp.sqrt(variance_BxHxF + 1e-6)], axis=-1)
    return statistics.reshape(x_BxTxF.shape[0], -1)  # whose length may be symbolic


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def _max_along(
    x: jax.Array, axis: int, window: int, stride: int, pads: tuple[int, int]
) -> jax.Array:
    return functools.reduce(jnp.maximum, _window_values(x, axis, window, stride, pads))


def _max_forward(x: jax.Array, axis: int, *args: Any) -> tuple[jax.Array, tuple[jax.Array, int]]:
    """Return the maximum, and as residuals its place in the window and the size of the axis."""
    first, *others = _window_values(x, axis, *args)
    maximum, place = first, jnp.zeros(first.shape, jnp.int8)
    for i, other in enumerate(others, start=1):
        place = jnp.where(other > maximum, jnp.int8(i), place)
        maximum = jnp.maximum(maximum, other)
    return maximum, (place, x.shape[axis])


def _max_backward(
    axis: int,
    window: int,
    stride: int,
    pads: tuple[int, int],
    residuals: tuple[jax.Array, int],
    gradient: jax.Array,
) -> tuple[jax.Array]:
    """Pass each window's gradient to the place of its maximum.

    Input stride·b + q is value q of window b, value q + stride of window b - 1, and so on. So the
    inputs of each phase q < stride sum a few shifted copies of the output's gradient, and the
    interleaved phases are the input's. On XLA:CPU this is far faster than select-and-scatter,
    lax's gradient, and than the gradients of strided slices, each of which fills a whole array.
    """
    place, size = residuals
    max_shift = (window - 1) // stride

    def shifted(i: int) -> jax.Array:
        shift = i // stride
        width = [(0, 0)] * gradient.ndim
        width[axis] = (shift, max_shift - shift)
        return jnp.pad(jnp.where(place == i, gradient, 0), width)

    phases = [sum(shifted(i) for i in range(q, window, stride)) for q in range(stride)]
    phases = [jnp.broadcast_to(phase, shifted(0).shape) for phase in phases]
    x_gradient = jnp.stack(phases, axis=axis + 1)
    x_gradient = x_gradient.reshape(*gradient.shape[:axis], -1, *gradient.shape[axis + 1 :])
    # Inputs beyond the last window have no gradient.
    missing = [(0, 0)] * gradient.ndim
    missing[axis] = (0, max(0, pads[0] + size - x_gradient.shape[axis]))
    x_gradient = jnp.pad(x_gradient, missing)
    return (lax.slice_in_dim(x_gradient, pads[0], pads[0] + size, axis=axis),)


_max_along.defvjp(_max_forward, _max_backward)


def _window_values(
    x: jax.Array, axis: int, window: int, stride: int, pads: tuple[int, int]
) -> list[jax.Array]:
    """Return the first value of every window along an axis, the second of every window, …"""
    width = [(0, 0)] * x.ndim
    width[axis] = pads
    x = jnp.pad(x, width, constant_values=-jnp.inf)
    n_starts = x.shape[axis] - window + 1
    return [lax.slice_in_dim(x, i, i + n_starts, stride, axis) for i in range(window)]
