"""The report's three networks: feature vector or plane → logits.

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

Layer = Callable[[jax.Array], jax.Array]

# As Keras has them, which the report used; Flax's own defaults differ.
Conv = functools.partial(nn.Conv, padding="SAME", kernel_init=nn.initializers.glorot_uniform())
Dense = functools.partial(nn.Dense, kernel_init=nn.initializers.glorot_uniform())
BatchNorm = functools.partial(nn.BatchNorm, epsilon=1e-3)


class Network(nn.Module):
    """What the three have in common; each adds its `body`.

    Convolutions are always padded to the size of their input. `padding` is that of the pools:
    Keras pools "valid" unless told otherwise, but a 4×4 pool of stride 2, four times over, then
    needs 46 columns, and MFCCs have 20 to 40. So the default is "same".

    Attributes:
      n_classes: number of logits.
      widths: channels of each convolution.
      kernels: side of each convolution's kernel; as many as `widths`.
      dense: width of the hidden dense layer.
      pool: side of the pooling window.
      stride: of the pools; that of the convolutions is 1.
      padding: of the pools, "same" or "valid".
      batch_norm_momentum: of the running statistics, which validation uses. With Keras's 0.99 they
        need some hundreds of steps; a small corpus wants 0.9.
      portable: convolve as the library does, whatever the machine: for programs that go elsewhere.
      dtype: of the arithmetic. Parameters, batch statistics and logits are float32 in any case.
      input_kind: "vector" (x_BxL) or "plane" (x_BxTxF).
    """

    n_classes: int
    widths: tuple[int, ...]
    kernels: tuple[int, ...]
    dense: int
    pool: int = 4
    stride: int = 2
    padding: str = "same"
    batch_norm_momentum: float = 0.99
    dtype: str = "float32"
    portable: bool = False

    input_kind: ClassVar[str] = "plane"

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *,
        train: bool,
        dropout_rate: float | jax.Array = 0.0,
        mask_B: jax.Array | None = None,
    ) -> jax.Array:
        """Logits.

        Args:
          x: x_BxL or x_BxTxF, see `input_kind`.
          train: normalise by the batch and drop, which takes an rng named "dropout".
          dropout_rate: 0 ≤ rate < 1. It may be traced, so a sweep of it compiles once.
          mask_B: False for the rows that only fill up the batch; batch statistics leave them out.

        Returns:
          logits_BxC, float32.

        Raises:
          UserError: `x` is too small for pools without padding.
        """
        self._check_size(x.shape[1:])

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
        """All layers but the last, from [batch, *space, 1] to [batch, dense]."""
        raise NotImplementedError

    def conv(self, x: jax.Array, layer: int) -> jax.Array:
        """Convolution number `layer`, then ReLU."""
        kernel = (self.kernels[layer],) * (x.ndim - 2)
        how = lax.conv_general_dilated if self.portable else convolution.convolve
        made = Conv(self.widths[layer], kernel, dtype=self.dtype, conv_general_dilated=how)
        return nn.relu(made(x))

    def hidden(self, x: jax.Array) -> jax.Array:
        """Flatten, dense layer, ReLU."""
        return nn.relu(Dense(self.dense, dtype=self.dtype)(x.reshape(x.shape[0], -1)))

    def max_pool(self, x: jax.Array) -> jax.Array:
        return layers.max_pool(x, self.pool, self.stride, self.padding)

    def avg_pool(self, x: jax.Array) -> jax.Array:
        return layers.avg_pool(x, self.pool, self.stride, self.padding)

    def _check_size(self, shape: tuple[int, ...]) -> None:
        least = 1
        for _ in self.widths:  # a pool after each convolution
            least = (least - 1) * self.stride + self.pool
        if self.padding == "valid" and min(shape) < least:
            raise UserError(
                f"model.padding='valid' needs at least {least} values along each axis of a "
                f"{self.input_kind}, and the features are {'×'.join(map(str, shape))}; set "
                "model.padding='same' or make larger features."
            )


class CNN1D(Network):
    """The report's 1D CNN, on the vector of flattened MFCC, zero-crossing rate and energy."""

    widths: tuple[int, ...] = (256, 256, 128)
    kernels: tuple[int, ...] = (5, 5, 3)
    dense: int = 512
    pool: int = 5

    input_kind: ClassVar[str] = "vector"

    def body(self, x: jax.Array, norm: Layer, drop: Layer) -> jax.Array:
        *first, last = range(len(self.widths))
        for layer in first:
            x = self.max_pool(norm(self.conv(x, layer)))
        x = self.max_pool(norm(self.conv(drop(x), last)))
        return norm(self.hidden(x))


class CNN2D(Network):
    """The report's 2D CNN, on a plane of MFCC or log-mel."""

    widths: tuple[int, ...] = (256, 128, 128, 64)
    kernels: tuple[int, ...] = (6, 6, 6, 6)
    dense: int = 256

    def body(self, x: jax.Array, norm: Layer, drop: Layer) -> jax.Array:
        *first, last = range(len(self.widths))
        for layer in first:
            x = self.avg_pool(norm(self.conv(x, layer)))
        x = self.max_pool(self.conv(drop(x), last))
        return self.hidden(x)


class PaperCNN(Network):
    """The CNN of Zielonka et al., Electronics 11(22):3831, 2022, as the report rebuilt it.

    Assumed, for the report does not give them: the kernels after the first (5×5) and the pools
    after the first (4×4, stride 2). There is no batch normalisation, so `mask_B` has no effect.
    """

    widths: tuple[int, ...] = (75, 135, 75)
    kernels: tuple[int, ...] = (5, 5, 5)
    dense: int = 45

    def body(self, x: jax.Array, norm: Layer, drop: Layer) -> jax.Array:
        del norm
        *first, last = range(len(self.widths))
        for layer in first:
            x = self.max_pool(self.conv(x, layer))
        x = self.max_pool(self.conv(drop(x), last))
        return drop(self.hidden(x))
