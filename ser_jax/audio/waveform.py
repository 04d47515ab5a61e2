"""Audio file → mono waveform. The only decoder: preparation and prediction both use it."""

import math
import os
from pathlib import Path

import numpy as np

from ser_jax.common import files
from ser_jax.common.errors import UserError

# What libsndfile opens and people have; a file's ending, lower case.
SUFFIXES = frozenset(".wav .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .caf .w64 .rf64".split())
LFS_POINTER = b"version https://git-lfs"
# −80 dB re full scale, about 3 steps of 16 bits. The quietest speech of RAVDESS is at −64 dB, of
# 16 clips of CREMA-D at −41 dB.
SILENT_RMS = 1e-4
LOUDEST = 1e6  # times full scale; what is beyond is no sound, and its power no float32
RATES = (1_000, 1_000_000)  # Hz, lowest and highest; what is beyond is a damaged header
RATES_TEXT = f"rates from {RATES[0]:,} to {RATES[1]:,} Hz are known"
_BLOCK = 2**18  # samples that are decoded at once
_MORE = 1.0  # s: what resampling hears of the samples behind


class AudioError(UserError):
    """An audio file that cannot be used."""


def is_lfs_pointer(path: Path) -> bool:
    """True for the 130-byte text that Git LFS leaves where the audio should be."""
    with path.open("rb") as file:
        return file.read(len(LFS_POINTER)) == LFS_POINTER


def load(path: Path, sampling_rate: int, seconds: float = math.inf) -> np.ndarray:
    """Decodes a file, averages its channels and resamples it (soxr, high quality).

    Args:
      path: any format that libsndfile reads.
      sampling_rate: wanted rate, Hz.
      seconds: after so many the rest need not be decoded; there may be somewhat more.

    Returns:
      float32 waveform of shape [samples], full scale ±1.

    Raises:
      AudioError: missing, an LFS pointer, not audio, or with a `flaw`.
    """
    import soundfile

    if not path.is_file():
        raise AudioError(f"{path} does not exist; check the path.")
    try:
        if is_lfs_pointer(path):
            raise AudioError(
                f"{path} is a Git LFS pointer, not audio; run `git lfs pull` in the clone, or "
                "`python -m data_prep.download`."
            )
        with soundfile.SoundFile(os.fspath(path)) as file:
            rate = file.samplerate
            if not is_rate(rate):
                raise AudioError(
                    f"{path} says that its rate is {rate:,} Hz, and {RATES_TEXT}; replace the file."
                )
            # Block by block, or a long recording would be there with all its channels.
            blocks = file.blocks(
                _BLOCK,
                frames=-1 if seconds == math.inf else math.ceil((seconds + _MORE) * rate),
                dtype="float32",
                always_2d=True,
            )
            waveform_S = np.concatenate([*(b.mean(axis=1) for b in blocks), np.zeros(0, "f4")])
    except (soundfile.SoundFileError, RuntimeError, TypeError, OSError) as error:
        raise AudioError(
            f"{path} cannot be decoded as audio ({str(error).rstrip('.')}); replace the file."
        ) from error
    if wrong := flaw(waveform_S):
        raise AudioError(f"{path} {wrong}; replace the file.")
    return resample(waveform_S, rate, sampling_rate)


def flaw(waveform_S: np.ndarray) -> str:
    """What keeps samples from being sound, in words; "" if nothing does."""
    if not waveform_S.size:
        return "holds no samples"
    loudest = max(waveform_S.max(), -waveform_S.min())
    if not np.isfinite(loudest):
        return "holds NaN or infinite samples"
    if loudest > LOUDEST:
        return f"holds samples of {loudest:.2g} times full scale"
    return ""


def is_rate(sampling_rate: float) -> bool:
    """Whether a number, Hz, can be the sampling rate of speech."""
    return RATES[0] <= sampling_rate <= RATES[1]


def resample(waveform_S: np.ndarray, rate: int, target_rate: int) -> np.ndarray:
    """Changes the sampling rate (Hz) of a waveform [samples]; the same array if nothing changes."""
    if rate == target_rate:
        return waveform_S
    import soxr

    return soxr.resample(waveform_S, rate, target_rate, quality="HQ")


def rms(waveform_S: np.ndarray) -> float:
    """Root mean square of a waveform, full scale ±1, without its DC offset."""
    return float(np.std(waveform_S, dtype=np.float64)) if len(waveform_S) else 0.0


def write(path: Path, waveform_S: np.ndarray, sampling_rate: int) -> None:
    """Writes float32 [samples], full scale ±1, as 16 bits.

    What exceeds full scale is clipped; nothing is normalised, so clips stay as loud as they are.
    """
    import soundfile

    clipped_S = np.clip(waveform_S, -1, 1 - 2**-15)
    with files.replacing(path) as temporary:
        soundfile.write(temporary, clipped_S, sampling_rate, format="FLAC", subtype="PCM_16")
