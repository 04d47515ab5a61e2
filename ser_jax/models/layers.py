"""Dropout whose rate may be traced, and pools whose gradient is quick.

Both pools go axis by axis, and the maximum by strided slices with a gradient of its own: the same
numbers as the library's pools over the whole window, whose backward is slow on XLA:CPU.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax


def dropout(x: jax.Array, rate: float | jax.Array, key: jax.Array) -> jax.Array:
    """Sets a share `rate` to 0 and scales the rest up. nn.Dropout cannot take a traced rate."""
    kept = jax.random.bernoulli(key, 1.0 - rate, x.shape)
    return jnp.where(kept, x / jnp.asarray(1.0 - rate, x.dtype), 0)


def avg_pool(x: jax.Array, window: int, stride: int, padding: str) -> jax.Array:
    """Mean over windows of [batch, *space, channels]. Padding is not counted, as in Keras."""
    ones = (1,) * (x.ndim - 2)
    for axis in range(x.ndim - 2):
        windows, strides = ((*ones[:axis], n, *ones[axis + 1 :]) for n in (window, stride))
        x = nn.avg_pool(x, windows, strides, padding.upper(), count_include_pad=False)
    return x


def max_pool(x: jax.Array, window: int, stride: int, padding: str) -> jax.Array:
    """Maximum over windows of [batch, *space, channels]. Of equal ones the first has the gradient.

    The last axis goes first, so that "first" is by the order of memory, as in the library.
    """
    for axis in reversed(range(1, x.ndim - 1)):
        pads = (0, 0)
        if padding == "same":
            [pads] = lax.padtype_to_pads([x.shape[axis]], [window], [stride], "SAME")
        x = _max_along(x, axis, window, stride, pads)
    return x


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3, 4))
def _max_along(
    x: jax.Array, axis: int, window: int, stride: int, pads: tuple[int, int]
) -> jax.Array:
    return functools.reduce(jnp.maximum, _windows(x, axis, window, stride, pads))


def _max_and_place(x: jax.Array, *how: Any) -> tuple[jax.Array, tuple[jax.Array, int]]:
    """The maximum, which value of its window it is, and the axis' size."""
    first, *others = _windows(x, *how)
    best, place = first, jnp.zeros(first.shape, jnp.int8)
    for i, other in enumerate(others, start=1):
        place = jnp.where(other > best, jnp.int8(i), place)
        best = jnp.maximum(best, other)
    return best, (place, x.shape[how[0]])


def _to_place(
    axis: int,
    window: int,
    stride: int,
    pads: tuple[int, int],
    kept: tuple[jax.Array, int],
    gradient: jax.Array,
) -> tuple[jax.Array]:
    """Each window's gradient to where its maximum was.

    The values that stand at one place of a stride are a sum of shifted arrays; all of them are put
    side by side. Gradients of slices with a stride would each fill an array of their own.
    """
    place, size = kept
    most = (window - 1) // stride

    def shifted(i: int) -> jax.Array:
        by = i // stride
        width = [(0, 0)] * gradient.ndim
        width[axis] = (by, most - by)
        return jnp.pad(jnp.where(place == i, gradient, 0), width)

    sums = [sum(shifted(i) for i in range(q, window, stride)) for q in range(stride)]
    found = jnp.stack([jnp.broadcast_to(s, shifted(0).shape) for s in sums], axis=axis + 1)
    found = found.reshape(*gradient.shape[:axis], -1, *gradient.shape[axis + 1 :])
    # What lies beyond the last window has no gradient.
    missing = [(0, 0)] * gradient.ndim
    missing[axis] = (0, max(0, pads[0] + size - found.shape[axis]))
    return (lax.slice_in_dim(jnp.pad(found, missing), pads[0], pads[0] + size, axis=axis),)


_max_along.defvjp(_max_and_place, _to_place)


def _windows(
    x: jax.Array, axis: int, window: int, stride: int, pads: tuple[int, int]
) -> list[jax.Array]:
    """The first value of every window along an axis, the second, …"""
    width = [(0, 0)] * x.ndim
    width[axis] = pads
    x = jnp.pad(x, width, constant_values=-jnp.inf)
    n_starts = x.shape[axis] - window + 1
    return [lax.slice_in_dim(x, i, i + n_starts, stride, axis) for i in range(window)]
