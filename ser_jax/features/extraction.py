"""Waveform → feature planes: the only entry point, used by preparation, prediction and export.

A model therefore never sees features that differ from those it was trained on.

Shapes: B batch, S samples, T frames, F columns.
"""

import functools
from collections.abc import Callable
from typing import Protocol

import numpy as np

from ser_jax.features import spectral
from ser_jax.features.spec import Array, EncoderSpec, FeatureSpec


class Embedder(Protocol):
    """A pretrained encoder, see ser_jax.encoders, that computes the plane "embedding"."""

    def embed(self, spec: EncoderSpec, waveform_BxS: Array, n_samples_B: Array) -> Array:
        """Return x_BxTxF, zero past the last frame of a clip."""


def extract(
    spec: FeatureSpec, waveform_BxS: Array, n_samples_B: Array, encoder: Embedder | None = None
) -> dict[str, Array]:
    """Return the features of a padded batch of clips.

    Args:
      spec: what to compute.
      waveform_BxS: float32, full scale ±1; anything past the end of a clip is ignored.
      n_samples_B: length of each clip.
      encoder: the one that spec.encoder describes, if it does.

    Returns:
      {plane: float32 [B, T, F]} with T = spec.n_frames(S) and F = spec.width(plane); zero past the
      end of a clip. MFCC and log-mel are in dB, the zero-crossing rate is per sample, the energy is
      a mean square. NumPy arrays for NumPy waveforms on a CPU, else JAX arrays.
    """
    if spec.encoder:
        return {"embedding": encoder.embed(spec.encoder, waveform_BxS, n_samples_B)}
    import jax  # here, so that the processes that prepare records do without it

    if not isinstance(waveform_BxS, np.ndarray) or jax.default_backend() != "cpu":
        return _compiled()(spec, waveform_BxS, n_samples_B)
    # Clip by clip, the frames stay in the CPU's cache: half the time that XLA takes.
    shape = len(waveform_BxS), spec.n_frames(waveform_BxS.shape[1])
    planes = {name: np.zeros((*shape, spec.width(name)), np.float32) for name in spec.planes}
    for row, n_samples in enumerate(n_samples_B):
        for name, x_TxF in extract_clip(spec, waveform_BxS[row, :n_samples]).items():
            planes[name][row, : len(x_TxF)] = x_TxF
    return planes


def extract_clip(
    spec: FeatureSpec, waveform_S: np.ndarray, encoder: Embedder | None = None
) -> dict[str, np.ndarray]:
    """Return the features of one clip as `extract` does, [T, F], by NumPy on any machine."""
    if spec.encoder:
        one = waveform_S[None], np.array([len(waveform_S)], np.int32)
        return {name: x_1xTxF[0] for name, x_1xTxF in extract(spec, *one, encoder).items()}
    planes = spectral.planes(spec, waveform_S[None], np.array([len(waveform_S)]))
    return {name: x_1xTxF[0] for name, x_1xTxF in planes.items()}


@functools.cache
def _compiled() -> Callable[..., dict[str, Array]]:
    """Return `spectral.planes` compiled by XLA."""
    import jax

    exact = jax.default_matmul_precision("highest")
    return jax.jit(exact(spectral.planes), static_argnums=0)
