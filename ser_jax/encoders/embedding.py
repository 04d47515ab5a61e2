"""Hidden states of a pretrained encoder → the plane "embedding" of a clip.

Axes: B batch, S samples, P positions, D width, T frames, F columns, W windows.
"""

import abc
import collections
import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ser_jax.features.spec import Array, EncoderSpec, n_positions

# Clips are padded to a multiple of this, so that few lengths are compiled and little is wasted.
_POSITIONS_PER_STEP = 16
_CLIPS_PER_CALL = 32  # on an accelerator; on a CPU one clip fills a core


class Encoder(abc.ABC):
    """A pretrained encoder: waveforms → hidden states. A new one defines `states`.

    Attributes:
      sampling_rate: of the waveforms, Hz.
      hop_length: samples from one position to the next.
      least: samples that have one position.
      n_states: how many hidden states a position has, the input of the first layer included.
      width: D, of a hidden state.
      longest: positions of the longest input.
      takes_batches: whether several clips at once are faster, on an accelerator.
    """

    sampling_rate: int
    hop_length: int
    least: int = 1
    n_states: int
    width: int
    longest: int
    takes_batches: bool = True

    @abc.abstractmethod
    def states(
        self, waveform_BxS: Array, n_samples_B: Array, context: int, numbers: Sequence[int]
    ) -> list[Array]:
        """Return some hidden states of a padded batch, BxPxD each with P = n_positions(S).

        What lies past the end of a clip must not change the states of its own n_positions(n).

        Args:
          waveform_BxS: float32, full scale ±1.
          n_samples_B: length of each clip.
          context: positions that see one another, silence after a shorter clip included.
          numbers: of the hidden states to return, from 0 to n_states − 1.
        """

    def n_positions(self, n_samples):
        """Return the number of positions in `n_samples` samples (an int or an array)."""
        return n_positions(n_samples, self.hop_length, self.least)

    def embed(self, spec: EncoderSpec, waveform_BxS: Array, n_samples_B: Array) -> Array:
        """Return the plane of a padded batch of clips, BxTxF, zero past the end of a clip.

        NumPy clips are computed at about their own length, in windows where they are longer than
        the encoder takes; JAX arrays, traced or not, at the batch's length, and longer ones are
        cut.
        """
        if isinstance(waveform_BxS, np.ndarray):
            return self._embed_on_host(spec, waveform_BxS, n_samples_B)
        longest = self.longest * self.hop_length
        return self._embed(spec, waveform_BxS[:, :longest], jnp.minimum(n_samples_B, longest))

    def _embed(self, spec: EncoderSpec, waveform_BxS: Array, n_samples_B: Array) -> jax.Array:
        context = min(round(spec.context * self.sampling_rate / self.hop_length), self.longest)
        states = self.states(waveform_BxS, n_samples_B, context, spec.kept)
        return _POOLS[spec.pooling](states, self.n_positions(n_samples_B))

    def _embed_on_host(
        self, spec: EncoderSpec, waveform_BxS: np.ndarray, n_samples_B: np.ndarray
    ) -> np.ndarray:
        one = jax.default_backend() == "cpu" or not self.takes_batches
        n_at_once = 1 if one else _CLIPS_PER_CALL
        planes_of = [[] for _ in n_samples_B]  # of each clip's windows
        for length, windows in self._windows(n_samples_B).items():
            for first in range(0, len(windows), n_at_once):
                batch = windows[first : first + n_at_once]
                padded_BxS = np.zeros((n_at_once, length), np.float32)
                n_B = np.ones(n_at_once, np.int32)
                for row, (clip, start, n) in enumerate(batch):
                    padded_BxS[row, :n] = waveform_BxS[clip, start : start + n]
                    n_B[row] = n
                x_BxTxF = np.asarray(self._embed(spec, padded_BxS, n_B))
                for row, window in enumerate(batch):
                    planes_of[window.clip].append((window, x_BxTxF[row]))
        joined = [self._join(spec, planes) for planes in planes_of]
        x_BxTxF = np.zeros((len(joined), max(map(len, joined)), spec.n_columns), np.float32)
        for row, x_TxF in enumerate(joined):
            x_BxTxF[row, : len(x_TxF)] = x_TxF
        return x_BxTxF

    def _windows(self, n_samples_B: np.ndarray) -> dict[int, list["_Window"]]:
        """Cut clips into windows, and return them by the number of samples to pad them to."""
        step = _POSITIONS_PER_STEP * self.hop_length
        # The positions of the windows are those of the clip; the last one may see samples of the
        # next window.
        longest = self.longest * self.hop_length + self.least - 1
        windows = collections.defaultdict(list)
        for clip, n_samples in enumerate(map(int, n_samples_B)):
            for first in range(0, self.n_positions(n_samples), self.longest):
                start = first * self.hop_length
                n = max(1, min(longest, n_samples - start))
                windows[min(longest, -(-n // step) * step)].append(_Window(clip, start, n))
        return windows

    def _join(self, spec: EncoderSpec, planes: list[tuple["_Window", np.ndarray]]) -> np.ndarray:
        """Return the plane of a clip, TxF, from those of its windows."""
        if spec.pooling == "positions":
            planes = sorted(planes, key=lambda plane: plane[0].start)
            return np.concatenate([x_TxF[: self.n_positions(w.n)] for w, x_TxF in planes])
        if len(planes) == 1:
            return planes[0][1]
        share_W = np.array([window.n for window, _ in planes]) / sum(w.n for w, _ in planes)
        mean_WxTxD, sd_WxTxD = np.split(np.stack([x_TxF for _, x_TxF in planes]), 2, axis=-1)
        mean_TxD = np.tensordot(share_W, mean_WxTxD, axes=1)
        variance_TxD = np.tensordot(share_W, sd_WxTxD**2 + (mean_WxTxD - mean_TxD) ** 2, axes=1)
        return np.concatenate([mean_TxD, np.sqrt(variance_TxD)], axis=-1).astype(np.float32)


class _Window(NamedTuple):
    clip: int
    start: int  # sample
    n: int  # samples


@functools.partial(jax.jit, static_argnames="epsilon")
def statistics(
    states_BxPxD: list[jax.Array], n_positions_B: jax.Array, epsilon: float = 0.0
) -> jax.Array:
    """Return the mean and sd of each hidden state over a clip's positions, BxTx2D, float32.

    `epsilon` is added to the variances, whose roots then have a slope where one is 0.
    """
    inside_BxPx1 = _inside(states_BxPxD, n_positions_B)
    n_Bx1 = n_positions_B[:, None].astype(jnp.float32)
    rows = []
    for state_BxPxD in states_BxPxD:  # one by one: together they take a lot of memory
        state_BxPxD = state_BxPxD.astype(jnp.float32)
        mean_BxD = jnp.sum(state_BxPxD, axis=1, where=inside_BxPx1) / n_Bx1
        squares_BxPxD = (state_BxPxD - mean_BxD[:, None]) ** 2
        variance_BxD = jnp.sum(squares_BxPxD, axis=1, where=inside_BxPx1) / n_Bx1
        rows.append(jnp.concatenate([mean_BxD, jnp.sqrt(variance_BxD + epsilon)], axis=-1))
    return jnp.stack(rows, axis=1)


@jax.jit
def _positions(states_BxPxD: list[jax.Array], n_positions_B: jax.Array) -> jax.Array:
    inside_BxPx1 = _inside(states_BxPxD, n_positions_B)
    return jnp.where(inside_BxPx1, jnp.concatenate(states_BxPxD, axis=-1), 0.0)


def _inside(states_BxPxD: list[jax.Array], n_positions_B: jax.Array) -> jax.Array:
    return (jnp.arange(states_BxPxD[0].shape[1]) < n_positions_B[:, None])[..., None]


_POOLS = {"statistics": statistics, "positions": _positions}
