"""Waveform → FLAC, which every browser plays and which loses nothing but the seventeenth bit."""

from pathlib import Path

import numpy as np

from ser_jax.common import files


def write(path: Path, waveform_S: np.ndarray, sampling_rate: int) -> None:
    """Writes float32 [samples], full scale ±1, as 16 bits.

    What exceeds full scale is clipped; nothing is normalised, so clips stay as loud as they are.
    """
    import soundfile

    clipped_S = np.clip(waveform_S, -1, 1 - 2**-15)
    with files.replacing(path) as temporary:
        soundfile.write(temporary, clipped_S, sampling_rate, format="FLAC", subtype="PCM_16")
