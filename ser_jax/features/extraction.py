"""Waveform → MFCC, log-mel, zero-crossing rate, energy: the one entrance.

Preparation, prediction and export all call `extract`, so a model never sees features that differ
from those it was trained on. On a CPU NumPy takes the clips one by one, whose frames stay in the
cache, and half the time of XLA. JAX is imported where it computes: the processes that prepare
records do without.

Shapes: B batch, S samples, T frames, F columns.
"""

import functools
from collections.abc import Callable

import numpy as np

from ser_jax.features import spectral
from ser_jax.features.spec import Array, FeatureSpec


def extract(spec: FeatureSpec, waveform_BxS: Array, n_samples_B: Array) -> dict[str, Array]:
    """Features of a padded batch of clips.

    Args:
      spec: what to compute.
      waveform_BxS: float32, full scale ±1; anything past a clip's end is ignored.
      n_samples_B: the clips' lengths.

    Returns:
      {plane: float32 [B, T, columns]} with T = spec.n_frames(S); frames past a clip's end are 0.
      log_mel is in dB, mfcc likewise; zero_crossing_rate per sample; energy is a mean square.
      Of NumPy's waveforms on a CPU NumPy's arrays, else JAX's.
    """
    import jax

    if not isinstance(waveform_BxS, np.ndarray) or jax.default_backend() != "cpu":
        return _compiled()(spec, waveform_BxS, n_samples_B)
    shape = len(waveform_BxS), spec.n_frames(waveform_BxS.shape[1])
    planes = {name: np.zeros((*shape, spec.width(name)), np.float32) for name in spec.planes}
    for row, n_samples in enumerate(n_samples_B):
        for name, x_TxF in extract_clip(spec, waveform_BxS[row, :n_samples]).items():
            planes[name][row, : len(x_TxF)] = x_TxF
    return planes


def extract_clip(spec: FeatureSpec, waveform_S: np.ndarray) -> dict[str, np.ndarray]:
    """Features of one clip in NumPy, whatever JAX would compute on.

    Args:
      spec: what to compute.
      waveform_S: float32, full scale ±1.

    Returns:
      {plane: float32 [T, columns]} with T = spec.n_frames(S), else as `extract`.
    """
    planes = spectral.planes(spec, waveform_S[None], np.array([len(waveform_S)]))
    return {name: x_1xTxF[0] for name, x_1xTxF in planes.items()}


@functools.cache
def _compiled() -> Callable[..., dict[str, Array]]:
    """`spectral.planes` of a whole batch in XLA."""
    import jax

    exact = jax.default_matmul_precision("highest")
    return jax.jit(exact(spectral.planes), static_argnums=0)
