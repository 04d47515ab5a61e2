"""Audio file → mono waveform: the only decoder, used by preparation and prediction alike."""

import math
import os
from pathlib import Path

import numpy as np

from ser_jax.common import files
from ser_jax.common.errors import UserError

# Common formats that libsndfile reads, in lower case.
SUFFIXES = frozenset(".wav .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .caf .w64 .rf64".split())
LFS_POINTER = b"version https://git-lfs"
# −80 dB re full scale, about 3 steps of 16 bits. The quietest clip of RAVDESS is at −64 dB, that
# of 16 clips of CREMA-D at −41 dB.
SILENT_RMS = 1e-4
LOUDEST = 1e6  # times full scale; the power of more would overflow float32
RATES = (1_000, 1_000_000)  # Hz, lowest and highest; others come from a damaged header
RATES_TEXT = f"only rates from {RATES[0]:,} to {RATES[1]:,} Hz are accepted"
_BLOCK = 2**18  # samples decoded at a time
_MARGIN = 1.0  # s decoded past the end for the resampling filter


class AudioError(UserError):
    """An audio file that cannot be used."""


def is_lfs_pointer(path: Path) -> bool:
    """Return whether a file is the 130-byte text that Git LFS leaves in place of the audio."""
    with path.open("rb") as file:
        return file.read(len(LFS_POINTER)) == LFS_POINTER


def load(path: Path, sampling_rate: int, seconds: float = math.inf) -> np.ndarray:
    """Decode a file, average its channels and resample it (soxr, high quality).

    Args:
      path: a file in any format that libsndfile reads.
      sampling_rate: rate of the result, Hz.
      seconds: the part from the start that is needed; slightly more may be returned.

    Returns:
      float32 waveform [samples], full scale ±1.

    Raises:
      AudioError: the file is missing, an LFS pointer, not audio, or has a `flaw`.
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
                    f"{path} claims a rate of {rate:,} Hz, but {RATES_TEXT}; replace the file."
                )
            # Block by block, so that a long recording is never in memory with all its channels.
            blocks = file.blocks(
                _BLOCK,
                frames=-1 if seconds == math.inf else math.ceil((seconds + _MARGIN) * rate),
                dtype="float32",
                always_2d=True,
            )
            mono = [block_SxK.mean(axis=1) for block_SxK in blocks]
            waveform_S = np.concatenate([*mono, np.zeros(0, np.float32)])
    except (soundfile.SoundFileError, RuntimeError, TypeError, OSError) as error:
        raise AudioError(
            f"{path} cannot be decoded as audio ({str(error).rstrip('.')}); replace the file."
        ) from error
    if defect := flaw(waveform_S):
        raise AudioError(f"{path} {defect}; replace the file.")
    return resample(waveform_S, rate, sampling_rate)


def flaw(waveform_S: np.ndarray) -> str:
    """Say why samples cannot be sound; "" if they can."""
    if not waveform_S.size:
        return "holds no samples"
    loudest = max(waveform_S.max(), -waveform_S.min())
    if not np.isfinite(loudest):
        return "holds NaN or infinite samples"
    if loudest > LOUDEST:
        return f"holds samples of {loudest:.2g} times full scale"
    return ""


def is_rate(sampling_rate: float) -> bool:
    """Return whether a rate in Hz is plausible for speech."""
    return RATES[0] <= sampling_rate <= RATES[1]


def resample(waveform_S: np.ndarray, rate: int, target_rate: int) -> np.ndarray:
    """Resample a waveform [samples] from `rate` to `target_rate`, Hz; no copy if they are equal."""
    if rate == target_rate:
        return waveform_S
    import soxr

    return soxr.resample(waveform_S, rate, target_rate, quality="HQ")


def rms(waveform_S: np.ndarray) -> float:
    """Return the root mean square of a waveform, full scale ±1, without its DC offset."""
    return float(np.std(waveform_S, dtype=np.float64)) if len(waveform_S) else 0.0


def write(path: Path, waveform_S: np.ndarray, sampling_rate: int) -> None:
    """Write a float32 waveform [samples], full scale ±1, as 16-bit FLAC.

    Samples beyond full scale are clipped; levels are kept, not normalised.
    """
    import soundfile

    clipped_S = np.clip(waveform_S, -1, 1 - 2**-15)
    with files.replacing(path) as temporary:
        soundfile.write(temporary, clipped_S, sampling_rate, format="FLAC", subtype="PCM_16")
