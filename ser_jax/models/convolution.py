"""Convolutions that are faster on XLA:CPU, equal to lax's convolution up to rounding.

`convolve` is passed to Flax as its `conv_general_dilated`. On accelerators, and for sizes where
the alternatives would not help, it is lax's own.

Axes: B batch, H height, W width, I input channels, O output channels, M tiles, S values of a tile
or of a few clips, P outputs of a tile, Q values of a kernel, K frequencies; Z real and imaginary
part.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# Below these sizes lax is at least as fast.
MIN_CHANNELS = 32  # of overlap_save, input and output
MIN_KERNEL = 5  # of overlap_save, the kernel's shorter side
MIN_OUTPUTS_IM2COL = 128  # of im2col, output channels
MIN_INPUTS_SHIFTED = 8  # of shifted, input channels
TILE = 16  # side of overlap_save's tiles; the fastest of 12, 16, 20 and 24
CLIPS_AT_ONCE = 4  # of shifted; what they take stays in the cache


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    window_strides: Sequence[int],
    padding: Any,
    **options: Any,
) -> jax.Array:
    """Replace lax.conv_general_dilated, for [batch, *space, channels] as Flax calls it."""
    plain = (
        x.ndim == 4
        and x.dtype == jnp.float32
        and set(window_strides) == {1}
        and padding in ("SAME", [_same_pads(side) for side in kernel.shape[:-2]])
        and options.get("feature_group_count", 1) == 1
        and all(set(options.get(k) or (1,)) == {1} for k in ("lhs_dilation", "rhs_dilation"))
    )
    if plain and jax.default_backend() == "cpu":
        *sides, n_in, n_out = kernel.shape
        if n_in == 1 and n_out >= MIN_OUTPUTS_IM2COL:
            return im2col(x, kernel)
        if min(sides) >= MIN_KERNEL and min(n_in, n_out) >= MIN_CHANNELS:
            return overlap_save(x, kernel)
        if sides == [3, 3] and n_in >= MIN_INPUTS_SHIFTED:
            return shifted(x, kernel)
    return lax.conv_general_dilated(x, kernel, window_strides, padding, **options)


@jax.custom_vjp
def shifted(x_BxHxWxI: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve as lax does, with another way to the kernel's gradient.

    To lax that gradient is a convolution whose kernel is as large as a plane.
    """
    return _lax_same(x_BxHxWxI, kernel)


def _shifted_forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple]:
    return _lax_same(x, kernel), (x, kernel)


def _shifted_backward(saved: tuple, y_BxHxWxO: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the gradients of input and kernel, y that of the output.

    A value of the kernel connects each output with an input at a constant distance, if all rows
    have the zeros of the padding between them and lie end to end. So its gradient is one matrix
    product of inputs and outputs that are shifted against each other.
    """
    x_BxHxWxI, kernel = saved
    [x_gradient] = jax.vjp(lambda x: _lax_same(x, kernel), x_BxHxWxI)[1](y_BxHxWxO)
    *sides, n_in, n_out = kernel.shape
    pads = [_same_pads(side) for side in sides]
    clips = (0, -len(x_BxHxWxI) % CLIPS_AT_ONCE)
    x = jnp.pad(x_BxHxWxI, (clips, *pads, (0, 0)))
    y = jnp.pad(y_BxHxWxO, (clips, *((0, side - 1) for side in sides), (0, 0)))
    row = x.shape[2]
    shifts = [i * row + j for i in range(sides[0]) for j in range(sides[1])]

    def add(total: jax.Array, few: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        x_SxI, y_SxO = few[0].reshape(-1, n_in), few[1].reshape(-1, n_out)
        n = len(x_SxI) - shifts[-1]  # beyond are zeros
        return total + jnp.stack([x_SxI[s : s + n].T @ y_SxO[:n] for s in shifts]), None

    few = [values.reshape(-1, CLIPS_AT_ONCE, *values.shape[1:]) for values in (x, y)]
    kernel_gradient, _ = lax.scan(add, jnp.zeros((len(shifts), n_in, n_out)), tuple(few))
    return x_gradient, kernel_gradient.reshape(kernel.shape)


shifted.defvjp(_shifted_forward, _shifted_backward)


def _lax_same(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def im2col(x_BxHxWx1: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve one input channel by a matrix product with a column per value of the kernel."""
    height, width = kernel.shape[:2]
    n_high, n_wide = x_BxHxWx1.shape[1:3]
    padded = jnp.pad(x_BxHxWx1[..., 0], ((0, 0), _same_pads(height), _same_pads(width)))
    patches_BxHxWxQ = jnp.stack(
        [padded[:, i : i + n_high, j : j + n_wide] for i in range(height) for j in range(width)],
        axis=-1,
    )
    return patches_BxHxWxQ @ kernel.reshape(height * width, -1)


def overlap_save(x_BxHxWxI: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve by products of discrete Fourier transforms of overlapping tiles (overlap-save).

    The product of two transforms is a convolution that wraps around the tile. Its first
    tile - side + 1 outputs along each axis are free of that, so tiles that overlap by side - 1
    give all outputs. A 6×6 kernel takes 36 multiplications per output and pair of channels; this
    takes about 5. The transforms are matrix products with constants, and so are their gradients.
    """
    (n_batch, *space, n_in), (*sides, _, n_out) = x_BxHxWxI.shape, kernel.shape
    tile = tuple(min(n + side - 1, TILE) for n, side in zip(space, sides, strict=True))
    step = [t - side + 1 for t, side in zip(tile, sides, strict=True)]  # outputs per tile
    n_tiles = [-(-n // s) for n, s in zip(space, step, strict=True)]
    forward_SxKxZ, kernel_QxKxZ, inverse_KxZxP = _transforms(tile, tuple(sides))

    # Zeros on the right complete the last tile.
    pads = [(0, n_tile * s - n) for n, n_tile, s in zip(space, n_tiles, step, strict=True)]
    pads = np.array(pads) + [_same_pads(side) for side in sides]
    x = jnp.pad(x_BxHxWxI, ((0, 0), *pads, (0, 0)))
    rows = [x[:, i * step[0] : i * step[0] + tile[0]] for i in range(n_tiles[0])]
    x = jnp.stack(rows, axis=1)
    columns = [x[:, :, :, j * step[1] : j * step[1] + tile[1]] for j in range(n_tiles[1])]
    x_MxSxI = jnp.stack(columns, axis=2).reshape(-1, tile[0] * tile[1], n_in)

    x_KxMxZxI = jnp.einsum("msi,skz->kmzi", x_MxSxI, forward_SxKxZ)
    w_KxZxIxO = jnp.einsum("qio,qkz->kzio", kernel.reshape(-1, n_in, n_out), kernel_QxKxZ)
    real, imaginary = w_KxZxIxO[:, 0], w_KxZxIxO[:, 1]
    # (a + bi)(c + di), summed over input channels, as one real matrix product per frequency.
    w_Kx2Ix2O = jnp.block([[real, imaginary], [-imaginary, real]])
    y_KxMx2O = jnp.matmul(x_KxMxZxI.reshape(*x_KxMxZxI.shape[:2], -1), w_Kx2Ix2O)
    y_KxMxZxO = y_KxMx2O.reshape(*y_KxMx2O.shape[:2], 2, n_out)
    y = jnp.einsum("kmzo,kzp->mpo", y_KxMxZxO, inverse_KxZxP)
    y = y.reshape(n_batch, *n_tiles, *step, n_out).transpose(0, 1, 3, 2, 4, 5)
    y = y.reshape(n_batch, n_tiles[0] * step[0], n_tiles[1] * step[1], n_out)
    return y[:, : space[0], : space[1]]


@functools.cache
def _transforms(
    tile: tuple[int, int], sides: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the DFT matrices of a tile, of a kernel (conjugate), and back to the outputs.

    The frequencies of a real signal come in conjugate pairs; one of each pair is kept.
    """
    frequencies = [(a, b) for a in range(tile[0]) for b in range(tile[1])]
    conjugate = {(a, b): (-a % tile[0], -b % tile[1]) for a, b in frequencies}
    kept = [pair for pair in frequencies if pair <= conjugate[pair]]
    cycles_Kx2 = np.array(kept) / tile  # per sample

    def waves(shape: Sequence[int]) -> np.ndarray:
        """Return each frequency's real and imaginary part at each place: [places, K, Z]."""
        places_Sx2 = np.stack(np.indices(shape).reshape(2, -1), axis=1)
        angle_SxK = 2 * np.pi * places_Sx2 @ cycles_Kx2.T
        return np.stack([np.cos(angle_SxK), -np.sin(angle_SxK)], axis=-1)

    # A pair counts twice; a frequency that is its own conjugate counts once.
    weight_Kx1x1 = np.array([1 + (pair != conjugate[pair]) for pair in kept])[:, None, None]
    outputs = [t - side + 1 for t, side in zip(tile, sides, strict=True)]
    inverse_KxZxP = waves(outputs).transpose(1, 2, 0) * weight_Kx1x1 / (tile[0] * tile[1])
    matrices = waves(tile), waves(sides) * [1, -1], inverse_KxZxP
    return tuple(matrix.astype(np.float32) for matrix in matrices)


def _same_pads(side: int) -> tuple[int, int]:
    """Return the zeros before and after an axis with which a kernel keeps its size."""
    return (side - 1) // 2, side // 2
