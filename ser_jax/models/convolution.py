"""Convolutions for XLA:CPU, which are the library's in other words: the same sums, sooner.

`convolve` goes where Flax takes a `conv_general_dilated`. On accelerators, and wherever it would
not help, it is the library's own.

Axes: B batch, H height, W width, I input channels, O output channels, M tiles, S values of a tile,
P outputs of a tile, Q values of a kernel, K frequencies; Z real and imaginary part.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

TILE = 16  # side of the pieces that are transformed; measured best of 12, 16, 20 and 24
LEAST_CHANNELS = 32  # in and out; with fewer the transforms cost more than they save
LEAST_KERNEL = 5  # its side, likewise
LEAST_OUT_OF_ONE = 128  # output channels of a single one; with fewer the library is as quick


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    window_strides: Sequence[int],
    padding: Any,
    **options: Any,
) -> jax.Array:
    """lax.conv_general_dilated, for [batch, *space, channels] in the form that Flax calls it."""
    plain = functools.partial(
        lax.conv_general_dilated, x, kernel, window_strides, padding, **options
    )
    usual = (
        x.ndim == 4
        and set(window_strides) == {1}
        and padding == "SAME"
        and options.get("feature_group_count", 1) == 1
        and all(set(options.get(k) or (1,)) == {1} for k in ("lhs_dilation", "rhs_dilation"))
    )
    if jax.default_backend() != "cpu" or not usual or x.dtype != jnp.float32:
        return plain()
    *sides, n_in, n_out = kernel.shape
    if n_in == 1 and n_out >= LEAST_OUT_OF_ONE:
        return of_one_channel(x, kernel)
    if min(sides) >= LEAST_KERNEL and min(n_in, n_out) >= LEAST_CHANNELS:
        return by_frequency(x, kernel)
    return plain()


def of_one_channel(x_BxHxWx1: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution as one matrix product: a column of the matrix for each value of the kernel."""
    height, width = kernel.shape[:2]
    n_high, n_wide = x_BxHxWx1.shape[1:3]
    padded = jnp.pad(x_BxHxWx1[..., 0], ((0, 0), _same(height), _same(width)))
    patches_BxHxWxQ = jnp.stack(
        [padded[:, i : i + n_high, j : j + n_wide] for i in range(height) for j in range(width)],
        axis=-1,
    )
    return patches_BxHxWxQ @ kernel.reshape(height * width, -1)


def by_frequency(x_BxHxWxI: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution as products of Fourier transforms of overlapping tiles (overlap-save).

    A 6×6 kernel costs 36 multiplications an output and channel; here they are 5. The transforms
    are matrix products with constants, so gradients are too.
    """
    (n_batch, *space, n_in), (*sides, _, n_out) = x_BxHxWxI.shape, kernel.shape
    tile = tuple(min(n + side - 1, TILE) for n, side in zip(space, sides, strict=True))
    step = [t - side + 1 for t, side in zip(tile, sides, strict=True)]  # outputs of a tile
    n_tiles = [-(-n // s) for n, s in zip(space, step, strict=True)]
    forward_SxKxZ, kernel_QxKxZ, back_KxZxP = _transforms(tile, tuple(sides))

    pads = []
    for n, n_tile, s, side in zip(space, n_tiles, step, sides, strict=True):
        before, after = _same(side)
        pads.append((before, after + n_tile * s - n))
    x = jnp.pad(x_BxHxWxI, ((0, 0), *pads, (0, 0)))
    rows = [x[:, i * step[0] : i * step[0] + tile[0]] for i in range(n_tiles[0])]
    x = jnp.stack(rows, axis=1)
    columns = [x[:, :, :, j * step[1] : j * step[1] + tile[1]] for j in range(n_tiles[1])]
    x_MxSxI = jnp.stack(columns, axis=2).reshape(-1, tile[0] * tile[1], n_in)

    x_KxMxZxI = jnp.einsum("msi,skz->kmzi", x_MxSxI, forward_SxKxZ)
    w_KxZxIxO = jnp.einsum("qio,qkz->kzio", kernel.reshape(-1, n_in, n_out), kernel_QxKxZ)
    real, imaginary = w_KxZxIxO[:, 0], w_KxZxIxO[:, 1]
    # (a + bi)(c + di) for all channels in one real product.
    w_Kx2Ix2O = jnp.concatenate(
        [
            jnp.concatenate([real, imaginary], axis=-1),
            jnp.concatenate([-imaginary, real], axis=-1),
        ],
        axis=1,
    )
    y_KxMx2O = jnp.matmul(x_KxMxZxI.reshape(*x_KxMxZxI.shape[:2], -1), w_Kx2Ix2O)
    y_KxMxZxO = y_KxMx2O.reshape(*y_KxMx2O.shape[:2], 2, n_out)
    y = jnp.einsum("kmzo,kzp->mpo", y_KxMxZxO, back_KxZxP)
    y = y.reshape(n_batch, *n_tiles, *step, n_out).transpose(0, 1, 3, 2, 4, 5)
    y = y.reshape(n_batch, n_tiles[0] * step[0], n_tiles[1] * step[1], n_out)
    return y[:, : space[0], : space[1]]


@functools.cache
def _transforms(
    tile: tuple[int, int], sides: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Discrete Fourier transform of a tile, of a kernel (conjugate), and back to the outputs.

    A real signal's frequencies come in conjugate pairs, of which one is kept.
    """
    every = [(a, b) for a in range(tile[0]) for b in range(tile[1])]
    twin = {(a, b): (-a % tile[0], -b % tile[1]) for a, b in every}
    kept = [pair for pair in every if pair <= twin[pair]]
    turns_Kx2 = np.array(kept) / tile

    def waves(shape: Sequence[int]) -> np.ndarray:
        """Real and imaginary part of each frequency at each place: [places, K, Z]."""
        places_Sx2 = np.stack(np.indices(shape).reshape(2, -1), axis=1)
        angle_SxK = 2 * np.pi * places_Sx2 @ turns_Kx2.T
        return np.stack([np.cos(angle_SxK), -np.sin(angle_SxK)], axis=-1)

    # Each pair counts twice; a frequency that is its own twin once.
    weight_Kx1x1 = np.array([1 + (pair != twin[pair]) for pair in kept])[:, None, None]
    outputs = [t - side + 1 for t, side in zip(tile, sides, strict=True)]
    back_KxZxP = waves(outputs).transpose(1, 2, 0) * weight_Kx1x1 / (tile[0] * tile[1])
    found = waves(tile), waves(sides) * [1, -1], back_KxZxP
    return tuple(matrix.astype(np.float32) for matrix in found)


def _same(side: int) -> tuple[int, int]:
    """Zeros before and after, so that a kernel of this side keeps the size."""
    return (side - 1) // 2, side // 2
