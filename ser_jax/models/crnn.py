"""Small networks beyond the reference report: convolutions, a sequence layer, attentive pooling.

Padding changes no answer: what lies past a clip's end is zero before every layer, and neither the
batch norms nor the pooling count it.

Axes: B batch, T frames, F columns, C channels, H heads.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from ser_jax.common.errors import UserError
from ser_jax.encoders.network import HEAD_WIDTH, Layer, Size
from ser_jax.models import convolution, layers
from ser_jax.models.network import Network, check_choice
from ser_jax.models.recurrent import BidirectionalGRU

SEQUENCES = ("gru", "transformer", "none")
_ATTENTION_WIDTH = 128  # of the hidden layer that scores a frame
_TRANSFORMER_LAYERS = 2


class CRNN(Network):
    """Plane → convolutions → a layer along time → attentive statistics → logits.

    Each attention head takes the weighted mean and standard deviation of a clip's frames.
    """

    widths: tuple[int, ...] = (16, 32, 64, 128)  # channels; the first kernel is 5×5, stride 2
    sequence: str = "gru"  # both directions; or transformer, of two layers; or none
    width: int = 128  # of the GRU, each direction; of the transformer, twice it
    heads: int = 4  # of the pooling
    input_dropout: float = 0.2  # before the sequence layer; train.dropout is before the logits
    batch_norm_momentum: float = 0.9

    @nn.nowrap
    def check(self) -> None:
        self.check_sizes("widths", "width", "heads")
        check_choice("sequence", self.sequence, SEQUENCES)
        if self.sequence == "transformer" and 2 * self.width % HEAD_WIDTH:
            raise UserError(
                f"model.width={self.width} must be a multiple of {HEAD_WIDTH // 2} for a "
                "transformer."
            )
        for key in ("input_dropout", "batch_norm_momentum"):
            if not 0 <= getattr(self, key) < 1:
                raise UserError(f"model.{key}={getattr(self, key)} must be in [0, 1).")

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
        if n_frames_B is None:
            n_frames_B = jnp.full(x.shape[0], x.shape[1])

        def drop(x: jax.Array, rate: float | jax.Array) -> jax.Array:
            return layers.dropout(x, rate, self.make_rng("dropout")) if train else x

        x_BxTxFxC = x[..., None].astype(self.dtype)
        for number, channels in enumerate(self.widths):
            x_BxTxFxC, n_frames_B = self._block(
                x_BxTxFxC, n_frames_B, mask_B, number, channels, train
            )
        x_BxTxF = drop(x_BxTxFxC.reshape(*x_BxTxFxC.shape[:2], -1), self.input_dropout)
        inside_BxT = _inside(x_BxTxF, n_frames_B)
        if self.sequence == "gru":
            x_BxTxF = BidirectionalGRU(self.width, self.dtype, name="gru")(x_BxTxF, inside_BxT)
        elif self.sequence == "transformer":
            x_BxTxF = self._transformer(x_BxTxF, inside_BxT)
        hidden = nn.tanh(nn.Dense(_ATTENTION_WIDTH, dtype=self.dtype, name="attention")(x_BxTxF))
        score_BxTxH = nn.Dense(self.heads, dtype=jnp.float32, name="score")(hidden)
        pooled_BxF = layers.attentive_statistics(x_BxTxF, score_BxTxH, inside_BxT)
        logits = nn.Dense(self.n_classes, dtype=jnp.float32, name="logits")
        return logits(drop(pooled_BxF, dropout_rate))

    def _block(
        self,
        x_BxTxFxC: jax.Array,
        n_frames_B: jax.Array,
        mask_B: jax.Array | None,
        number: int,
        channels: int,
        train: bool,
    ) -> tuple[jax.Array, jax.Array]:
        """Apply convolution, batch norm, ReLU and max pool; return how many frames are left too."""
        side, stride = (5, 2) if number == 0 else (3, 1)
        # Not "SAME", whose alignment depends on the number of frames, padding included.
        pads = ((side // 2, side // 2),) * 2
        convolve = lax.conv_general_dilated if self.portable else convolution.convolve
        conv = nn.Conv(
            channels,
            (side, side),
            stride,
            pads,
            use_bias=False,
            dtype=self.dtype,
            conv_general_dilated=convolve,
        )
        x_BxTxFxC, n_frames_B = conv(x_BxTxFxC), -(-n_frames_B // stride)
        inside = _inside(x_BxTxFxC, n_frames_B)[..., None, None]
        counted = inside if mask_B is None else inside & mask_B[:, None, None, None]
        norm = nn.BatchNorm(
            momentum=self.batch_norm_momentum, use_running_average=not train, dtype=self.dtype
        )
        x_BxTxFxC = jnp.where(inside, nn.relu(norm(x_BxTxFxC, mask=counted)), 0)
        if number == 0:
            return x_BxTxFxC, n_frames_B
        is_last = number == len(self.widths) - 1  # which keeps its frames for the sequence layer
        pool = (1 if is_last else 2), 2
        return layers.max_pool_blocks(x_BxTxFxC, pool), -(-n_frames_B // pool[0])

    def _transformer(self, x_BxTxF: jax.Array, inside_BxT: jax.Array) -> jax.Array:
        size = Size(0, 2 * self.width, _TRANSFORMER_LAYERS, 4 * self.width, 0)
        x_BxTxF = nn.Dense(size.width, dtype=self.dtype, name="projection")(x_BxTxF)
        x_BxTxF += sinusoids(x_BxTxF.shape[1], size.width).astype(self.dtype)
        for number in range(size.n_layers):
            x_BxTxF = Layer(size, self.dtype, name=f"layer{number}")(x_BxTxF, inside_BxT)
        return x_BxTxF


def sinusoids(n_frames: int, width: int) -> jax.Array:
    """Return the positions of Vaswani et al. (NeurIPS 2017), sines then cosines: [T, width]."""
    rate = jnp.exp(-jnp.log(10_000.0) * jnp.arange(width // 2) / (width // 2))
    angle = jnp.arange(n_frames)[:, None] * rate
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=1)


def _inside(x_BxT___: jax.Array, n_frames_B: jax.Array) -> jax.Array:
    return jnp.arange(x_BxT___.shape[1]) < n_frames_B[:, None]
