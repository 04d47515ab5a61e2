"""Whisper's audio encoder (Radford et al., ICML 2023): log-mel → hidden states of every layer.

Two convolutions, sinusoidal positions, transformer layers with the norm before each block.

Axes: B batch, T frames, M mel bands, P positions (two frames each), D width, H heads, K values of
a head, L layers.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

HEAD_WIDTH = 64  # of all sizes; a file of weights does not tell it
KERNEL = 3  # frames, of both convolutions
STRIDE = 2  # frames a position, of the second convolution
EPSILON = 1e-5  # of the layer norms


@dataclasses.dataclass(frozen=True)
class Size:
    """The sizes that a file of weights has."""

    n_mels: int  # M
    width: int  # D
    n_layers: int  # L
    mlp_width: int  # of the hidden layer in each block
    n_positions: int  # the longest input


class Encoder(nn.Module):
    """The network, without the front end."""

    size: Size
    dtype: str = "float32"  # of the arithmetic
    n_trained: int = -1  # upper layers that have gradients; −1 is all, and what is below
    rematerialise: bool = False  # compute each layer again for its gradient, to save memory

    @nn.compact
    def __call__(self, mel_BxTxM: jax.Array, n_attended_B: jax.Array) -> list[jax.Array]:
        """Return the hidden states of a batch.

        Args:
          mel_BxTxM: scaled log-mel, T even and at most 2·size.n_positions.
          n_attended_B: how many positions of each clip the others see; the rest are padding.

        Returns:
          L + 2 arrays BxPxD: the input of the first layer, the output of each, and that of the
          last after the final norm.
        """
        width = self.size.width
        x = mel_BxTxM.astype(self.dtype)
        for name, stride in (("conv1", 1), ("conv2", STRIDE)):
            # Both sides, also with a stride, where "SAME" would pad the right side alone.
            conv = nn.Conv(width, (KERNEL,), stride, padding=((1, 1),), dtype=self.dtype, name=name)
            x = gelu(conv(x))
        # A constant in Whisper; a parameter here, so that it is read as it is.
        shape = self.size.n_positions, width
        position_PxD = self.param("positions", nn.initializers.zeros, shape)
        # Not a slice, whose size must be proved to suffice when the length is symbolic.
        number_P = jnp.arange(x.shape[1])
        x = x + jnp.take(position_PxD, number_P, axis=0, mode="clip").astype(self.dtype)
        is_seen_BxP = number_P < n_attended_B[:, None]
        states, layer = [x], nn.remat(Layer) if self.rematerialise else Layer
        n_frozen = self.size.n_layers - self.n_trained if self.n_trained >= 0 else -1
        for number in range(self.size.n_layers + 1):
            if number == n_frozen:
                states = jax.lax.stop_gradient(states)
            if number < self.size.n_layers:
                block = layer(self.size, self.dtype, name=f"layer{number}")
                states.append(block(states[-1], is_seen_BxP))
        return [*states, norm(self.dtype, "final_norm")(states[-1])]


class Layer(nn.Module):
    """One transformer layer."""

    size: Size
    dtype: str

    @nn.compact
    def __call__(self, x_BxPxD: jax.Array, is_seen_BxP: jax.Array) -> jax.Array:
        y = norm(self.dtype, "attention_norm")(x_BxPxD)
        x_BxPxD = x_BxPxD + Attention(self.size, self.dtype, name="attention")(y, is_seen_BxP)
        y = norm(self.dtype, "mlp_norm")(x_BxPxD)
        y = gelu(nn.Dense(self.size.mlp_width, dtype=self.dtype, name="mlp1")(y))
        return x_BxPxD + nn.Dense(self.size.width, dtype=self.dtype, name="mlp2")(y)


class Attention(nn.Module):
    """Multi-head self-attention; keys have no bias."""

    size: Size
    dtype: str

    @nn.compact
    def __call__(self, x_BxPxD: jax.Array, is_seen_BxP: jax.Array) -> jax.Array:
        heads = (*x_BxPxD.shape[:2], self.size.width // HEAD_WIDTH, HEAD_WIDTH)

        def project(name: str, use_bias: bool = True) -> jax.Array:
            dense = nn.Dense(self.size.width, use_bias=use_bias, dtype=self.dtype, name=name)
            return dense(x_BxPxD).reshape(heads)

        query, key, value = project("query"), project("key", use_bias=False), project("value")
        mixed_BxPxHxK = jax.nn.dot_product_attention(
            query, key, value, mask=is_seen_BxP[:, None, None, :]
        )
        dense = nn.Dense(self.size.width, dtype=self.dtype, name="out")
        return dense(mixed_BxPxHxK.reshape(x_BxPxD.shape))


def gelu(x: jax.Array) -> jax.Array:
    """Return the exact GELU, x·Φ(x)."""
    return jax.nn.gelu(x, approximate=False)


def norm(dtype: str, name: str) -> nn.LayerNorm:
    # The direct variance: E[x²] − E[x]² loses the digits that parity with the original needs.
    return nn.LayerNorm(epsilon=EPSILON, dtype=dtype, use_fast_variance=False, name=name)
