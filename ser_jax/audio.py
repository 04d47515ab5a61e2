"""Audio file → mono waveform. The only decoder: preparation and prediction both use it."""

import os
from pathlib import Path

import numpy as np

from ser_jax.errors import UserError

# What libsndfile opens and people have; a file's ending, lower case.
SUFFIXES = frozenset(".wav .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .caf .w64 .rf64".split())
LFS_POINTER = b"version https://git-lfs"
# −80 dB re full scale, about 3 steps of 16 bits. The quietest speech of RAVDESS is at −64 dB, of
# 16 clips of CREMA-D at −41 dB.
SILENT_RMS = 1e-4


class AudioError(UserError):
    """An audio file that cannot be used."""


def is_lfs_pointer(path: Path) -> bool:
    """True for the 130-byte text that Git LFS leaves where the audio should be."""
    with path.open("rb") as file:
        return file.read(len(LFS_POINTER)) == LFS_POINTER


def load(path: Path, sampling_rate: int) -> np.ndarray:
    """Decodes a file, averages its channels and resamples it (soxr, high quality).

    Args:
      path: any format that libsndfile reads.
      sampling_rate: wanted rate, Hz.

    Returns:
      float32 waveform of shape [samples], full scale ±1.

    Raises:
      AudioError: missing, an LFS pointer, not audio, empty, or not finite.
    """
    import soundfile

    if not path.is_file():
        raise AudioError(f"{path} does not exist; check the path.")
    if is_lfs_pointer(path):
        raise AudioError(
            f"{path} is a Git LFS pointer, not audio; run `git lfs pull` in the clone, or "
            "`python -m data_prep.download`."
        )
    try:
        samples_SxC, rate = soundfile.read(os.fspath(path), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise AudioError(
            f"{path} cannot be decoded as audio ({str(error).rstrip('.')}); replace the file."
        ) from error
    if not len(samples_SxC):
        raise AudioError(f"{path} holds no samples; replace the file.")
    if not np.isfinite(samples_SxC).all():
        raise AudioError(f"{path} holds NaN or infinite samples; replace the file.")
    waveform_S = samples_SxC.mean(axis=1)
    return resample(waveform_S, rate, sampling_rate)


def resample(waveform_S: np.ndarray, rate: int, target_rate: int) -> np.ndarray:
    """Changes the sampling rate (Hz) of a waveform [samples]; the same array if nothing changes."""
    if rate == target_rate:
        return waveform_S
    import soxr

    return soxr.resample(waveform_S, rate, target_rate, quality="HQ")


def rms(waveform_S: np.ndarray) -> float:
    """Root mean square of a waveform, full scale ±1, without its DC offset."""
    return float(np.std(waveform_S, dtype=np.float64)) if len(waveform_S) else 0.0
