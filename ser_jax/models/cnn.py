"""The three CNNs of the reference report: feature vector or plane → logits.

Axes: B batch, L vector length, T frames, F coefficients, C classes.
"""

import functools
from collections.abc import Callable
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from ser_jax.common.errors import UserError
from ser_jax.models import convolution, layers
from ser_jax.models.network import Network, check_choice

PADDINGS = ("same", "valid")

Layer = Callable[[jax.Array], jax.Array]

# Keras's defaults, which the reference report used; Flax's differ.
Conv = functools.partial(nn.Conv, padding="SAME", kernel_init=nn.initializers.glorot_uniform())
Dense = functools.partial(nn.Dense, kernel_init=nn.initializers.glorot_uniform())
BatchNorm = functools.partial(nn.BatchNorm, epsilon=1e-3)


class CNN(Network):
    """Convolutions and pools, a hidden dense layer and the logits; subclasses define `body`.

    Convolutions always keep the size of their input; `padding` concerns the pools only. Keras
    pools "valid" by default, but four 4×4 pools of stride 2 then need 46 columns, and MFCCs have
    20 to 40. So the default is "same".
    """

    widths: tuple[int, ...]  # output channels of each convolution
    kernels: tuple[int, ...]  # kernel size along each axis, one per convolution
    dense: int  # width of the hidden dense layer
    pool: int = 4  # size of the pooling window along each axis
    stride: int = 2  # of the pools; that of the convolutions is 1
    padding: str = "same"  # of the pools, or "valid"
    # Of the running statistics, which validation uses. Keras's 0.99 needs hundreds of steps to
    # settle; use 0.9 for a small corpus.
    batch_norm_momentum: float = 0.99

    @nn.nowrap
    def check(self) -> None:
        self.check_sizes("widths", "kernels", "dense", "pool", "stride")
        check_choice("padding", self.padding, PADDINGS)
        if not 0 <= self.batch_norm_momentum < 1:
            raise UserError(
                f"model.batch_norm_momentum={self.batch_norm_momentum} must be in [0, 1)."
            )
        if len(self.widths) != len(self.kernels):
            raise UserError(
                f"model.widths={self.widths} and model.kernels={self.kernels} differ in length; "
                "give one of each per convolution."
            )

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *,
        train: bool,
        dropout_rate: float | jax.Array = 0.0,
        mask_B: jax.Array | None = None,
        n_frames_B: jax.Array | None = None,
    ) -> jax.Array:
        """Return the logits of a batch; see Network."""
        del n_frames_B  # the report's networks see the padding
        self._check_input(x.shape[1:])

        def norm(x: jax.Array) -> jax.Array:
            mask = None if mask_B is None else mask_B.reshape(-1, *(1,) * (x.ndim - 1))
            momentum = self.batch_norm_momentum
            layer = BatchNorm(momentum=momentum, use_running_average=not train, dtype=self.dtype)
            return layer(x, mask=mask)

        def drop(x: jax.Array) -> jax.Array:
            return layers.dropout(x, dropout_rate, self.make_rng("dropout")) if train else x

        x = self.body(x[..., None].astype(self.dtype), norm, drop)
        return Dense(self.n_classes, dtype=jnp.float32)(x)

    def body(self, x: jax.Array, norm: Layer, drop: Layer) -> jax.Array:
        """Apply all layers but the last: [batch, *space, 1] → [batch, dense]."""
        raise NotImplementedError

    def conv(self, x: jax.Array, i: int) -> jax.Array:
        """Apply convolution `i` and ReLU."""
        kernel = (self.kernels[i],) * (x.ndim - 2)
        convolve = lax.conv_general_dilated if self.portable else convolution.convolve
        layer = Conv(self.widths[i], kernel, dtype=self.dtype, conv_general_dilated=convolve)
        return nn.relu(layer(x))

    def hidden(self, x: jax.Array) -> jax.Array:
        """Apply flatten, dense layer and ReLU."""
        return nn.relu(Dense(self.dense, dtype=self.dtype)(x.reshape(x.shape[0], -1)))

    def max_pool(self, x: jax.Array) -> jax.Array:
        return layers.max_pool(x, self.pool, self.stride, self.padding)

    def avg_pool(self, x: jax.Array) -> jax.Array:
        return layers.avg_pool(x, self.pool, self.stride, self.padding)

    def _check_input(self, shape: tuple[int, ...]) -> None:
        least = 1
        for _ in self.widths:  # a pool follows each convolution
            least = (least - 1) * self.stride + self.pool
        if self.padding == "valid" and min(shape) < least:
            raise UserError(
                f"model.padding='valid' needs at least {least} values along each axis of a "
                f"{self.input_kind}, and the features are {'×'.join(map(str, shape))}; set "
                "model.padding='same' or make larger features."
            )


class CNN1D(CNN):
    """The reference report's 1D CNN, on a vector of flattened MFCC, zero-crossing rate, energy."""

    widths: tuple[int, ...] = (256, 256, 128)
    kernels: tuple[int, ...] = (5, 5, 3)
    dense: int = 512
    pool: int = 5

    input_kind: ClassVar[str] = "vector"

    def body(self, x: jax.Array, norm: Layer, drop: Layer) -> jax.Array:
        *inner, last = range(len(self.widths))
        for i in inner:
            x = self.max_pool(norm(self.conv(x, i)))
        x = self.max_pool(norm(self.conv(drop(x), last)))
        return norm(self.hidden(x))


class CNN2D(CNN):
    """The reference report's 2D CNN, on a plane of MFCC or log-mel."""

    widths: tuple[int, ...] = (256, 128, 128, 64)
    kernels: tuple[int, ...] = (6, 6, 6, 6)
    dense: int = 256

    def body(self, x: jax.Array, norm: Layer, drop: Layer) -> jax.Array:
        *inner, last = range(len(self.widths))
        for i in inner:
            x = self.avg_pool(norm(self.conv(x, i)))
        x = self.max_pool(self.conv(drop(x), last))
        return self.hidden(x)


class PaperCNN(CNN):
    """The CNN of Zielonka et al., Electronics 11(22):3831, 2022, as in the reference report.

    The report does not give all sizes. Assumed are the kernels after the first (5×5) and the
    pools after the first (4×4, stride 2). There is no batch normalisation, so `mask_B` and
    `batch_norm_momentum` have no effect.
    """

    widths: tuple[int, ...] = (75, 135, 75)
    kernels: tuple[int, ...] = (5, 5, 5)
    dense: int = 45

    def body(self, x: jax.Array, norm: Layer, drop: Layer) -> jax.Array:
        del norm
        *inner, last = range(len(self.widths))
        for i in inner:
            x = self.max_pool(self.conv(x, i))
        x = self.max_pool(self.conv(drop(x), last))
        return drop(self.hidden(x))
