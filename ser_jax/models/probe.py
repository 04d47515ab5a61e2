"""Probes: small classifiers of a pretrained encoder's embedding.

Axes: B batch, T frames (hidden states, or positions), F columns, C classes.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from ser_jax.common.errors import UserError
from ser_jax.models import layers
from ser_jax.models.network import Network, check_choice

POOLINGS = ("weights", "attention")
_ATTENTION_WIDTH = 128  # of the hidden layer that scores a position


class Probe(Network):
    """Frames → one vector, dense layers, logits.

    "weights" learns one weight per frame, for frames that are the hidden states of an encoder
    (SUPERB, Yang et al., Interspeech 2021). "attention" weighs each position of a clip by a score
    that a small network gives it, and takes mean and standard deviation (Okabe et al., Interspeech
    2018).
    """

    pooling: str = "weights"
    hidden: tuple[int, ...] = (256,)  # units of each dense layer; () is a linear probe
    input_dropout: float = 0.3  # of the pooled vector; train.dropout is that of the hidden layers

    @nn.nowrap
    def check(self) -> None:
        check_choice("pooling", self.pooling, POOLINGS)
        if self.hidden:
            self.check_sizes("hidden")
        if not 0 <= self.input_dropout < 1:
            raise UserError(f"model.input_dropout={self.input_dropout} must be in [0, 1).")

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
        del mask_B  # there are no batch statistics

        def drop(x: jax.Array, rate: float | jax.Array) -> jax.Array:
            return layers.dropout(x, rate, self.make_rng("dropout")) if train else x

        x_BxTxF = x.astype(self.dtype)
        pool = self._by_weights if self.pooling == "weights" else self._by_attention
        x = drop(pool(x_BxTxF, n_frames_B), self.input_dropout)
        for width in self.hidden:
            x = drop(nn.gelu(nn.Dense(width, dtype=self.dtype)(x)), dropout_rate)
        return nn.Dense(self.n_classes, dtype=jnp.float32)(x)

    def _by_weights(self, x_BxTxF: jax.Array, n_frames_B: jax.Array | None) -> jax.Array:
        del n_frames_B  # every clip has all of them
        weight_T = self.param("frame_weights", nn.initializers.zeros, (x_BxTxF.shape[1],))
        return jnp.einsum("btf,t->bf", x_BxTxF, nn.softmax(weight_T).astype(x_BxTxF.dtype))

    def _by_attention(self, x_BxTxF: jax.Array, n_frames_B: jax.Array | None) -> jax.Array:
        hidden = nn.tanh(nn.Dense(_ATTENTION_WIDTH, dtype=self.dtype)(x_BxTxF))
        score_BxTx1 = nn.Dense(1, dtype=jnp.float32)(hidden)
        inside_BxT = jnp.ones(x_BxTxF.shape[:2], bool)
        if n_frames_B is not None:
            inside_BxT = jnp.arange(x_BxTxF.shape[1]) < n_frames_B[:, None]
        return layers.attentive_statistics(x_BxTxF, score_BxTx1, inside_BxT)
