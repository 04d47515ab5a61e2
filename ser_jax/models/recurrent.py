"""A bidirectional recurrent layer: both directions in one scan over time.

Axes: B batch, T frames, F input columns, D directions (forward, backward), H hidden units, G = 3·H
(reset, update and candidate).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax


class BidirectionalGRU(nn.Module):
    """Gated recurrent units (Cho et al., EMNLP 2014), reset after the product as in cuDNN."""

    width: int  # H
    dtype: str = "float32"  # of the arithmetic

    @nn.compact
    def __call__(self, x_BxTxF: jax.Array, is_inside_BxT: jax.Array) -> jax.Array:
        """Return the states of both directions side by side, BxTx2H.

        Frames outside a clip leave the state as it is, so that the backward direction begins at the
        clip's own end.
        """
        n_clips, n_frames, _ = x_BxTxF.shape
        # All products that do not depend on the state are one, before the scan.
        gates_BxTxG2 = nn.Dense(6 * self.width, dtype=self.dtype, name="input")(x_BxTxF)
        gates_TxDxBxG = gates_BxTxG2.reshape(n_clips, n_frames, 2, -1).transpose(1, 2, 0, 3)
        gates_TxDxBxG = _one_backwards(gates_TxDxBxG)
        inside_TxDxB = _one_backwards(
            jnp.broadcast_to(is_inside_BxT.T[:, None], (n_frames, 2, n_clips))
        )
        shape = 2, self.width, 3 * self.width
        kernel_DxHxG = self.param("kernel", _orthogonal_gates, shape).astype(self.dtype)
        bias_Dx1xH = self.param("candidate_bias", nn.initializers.zeros, (2, 1, self.width))

        def step(h_DxBxH: jax.Array, at_t: tuple[jax.Array, jax.Array]) -> tuple:
            gates_DxBxG, inside_DxB = at_t
            reset, update, candidate = jnp.split(gates_DxBxG, 3, axis=-1)
            products = jnp.einsum("dbh,dhg->dbg", h_DxBxH, kernel_DxHxG)
            of_reset, of_update, of_candidate = jnp.split(products, 3, axis=-1)
            reset, update = nn.sigmoid(reset + of_reset), nn.sigmoid(update + of_update)
            new = jnp.tanh(candidate + reset * (of_candidate + bias_Dx1xH.astype(self.dtype)))
            new = (1 - update) * new + update * h_DxBxH
            h_DxBxH = jnp.where(inside_DxB[..., None], new, h_DxBxH)
            return h_DxBxH, h_DxBxH

        start_DxBxH = jnp.zeros((2, n_clips, self.width), self.dtype)
        _, h_TxDxBxH = lax.scan(step, start_DxBxH, (gates_TxDxBxG, inside_TxDxB))
        h_BxTxDxH = _one_backwards(h_TxDxBxH).transpose(2, 0, 1, 3)
        return h_BxTxDxH.reshape(n_clips, n_frames, 2 * self.width)


def _one_backwards(x_TxD___: jax.Array) -> jax.Array:
    """Reverse the second direction in time."""
    return jnp.stack([x_TxD___[:, 0], x_TxD___[::-1, 1]], axis=1)


def _orthogonal_gates(key: jax.Array, shape: tuple[int, int, int]) -> jax.Array:
    """Return an orthogonal matrix for each direction and gate, side by side: [D, H, 3·H]."""
    n_directions, width, _ = shape
    matrices = nn.initializers.orthogonal()(key, (n_directions * 3 * width, width))
    gates = matrices.reshape(n_directions, 3, width, width)
    return gates.transpose(0, 2, 1, 3).reshape(shape)
