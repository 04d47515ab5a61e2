"""Checks one audio file, whatever corpus it belongs to. Axes: S samples, C channels."""

import dataclasses
import math
import os
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from data_prep.verify.findings import CLIPPED_RUN
from ser_jax.audio import files as audio_files
from ser_jax.audio import waveform
from ser_jax.common import files

FULL_SCALE = 1 - 2**-15  # the largest positive 16-bit sample
BLOCK = 2**20  # samples decoded at a time, so that a recording of hours fits in memory


@dataclasses.dataclass(frozen=True)
class ClipCheck:
    """The result for one file."""

    name: str  # relative to the corpus folder
    sha256: str = ""  # of the file's bytes, in hex; "" if it cannot be read
    seconds: float = 0.0  # duration; 0 if it cannot be decoded
    fault: str = ""  # a key of findings.REMEDIES, or "" for a sound clip
    detail: str = ""  # of the fault
    clipped: bool = False  # whether CLIPPED_RUN consecutive samples are at full scale


def check_clip(folder: Path, name: str) -> ClipCheck:
    """Hash and decode one file; any error becomes a fault."""
    path, sha256 = folder / name, ""
    try:
        if not path.is_file():  # a broken link, or a device
            return ClipCheck(name, fault="unreadable", detail="not a regular file")
        sha256 = files.sha256_of(path)
        if waveform.is_lfs_pointer(path):
            return ClipCheck(name, sha256, fault="Git LFS pointer")
        if path.stat().st_size == 0:
            return ClipCheck(name, sha256, fault="empty", detail="0 bytes")
        return _check_samples(path, ClipCheck(name, sha256))
    except Exception as error:  # one bad file must not end the verification
        detail = f"{type(error).__name__}: {error}"
        return ClipCheck(name, sha256, fault="unreadable", detail=detail)


def _check_samples(path: Path, check: ClipCheck) -> ClipCheck:
    """Decode a file block by block, and fill in its duration and any fault of its samples."""
    import soundfile

    n_samples, total, squares, clipped = 0, 0.0, 0.0, False
    with soundfile.SoundFile(os.fspath(path)) as sound:
        # Blocks overlap, so that a run of clipped samples across a border is found.
        for block_SxC in sound.blocks(
            BLOCK, overlap=CLIPPED_RUN - 1, dtype="float32", always_2d=True
        ):
            if not np.isfinite(block_SxC).all():
                return dataclasses.replace(check, fault="not finite")
            mono_S = block_SxC.mean(axis=1, dtype=np.float64)  # as the features see it
            n_samples += len(mono_S)
            total += mono_S.sum()
            squares += np.square(mono_S).sum()
            clipped = clipped or _is_clipped(block_SxC)
        check = dataclasses.replace(check, seconds=sound.frames / sound.samplerate, clipped=clipped)
    if missing := audio_files.missing_bytes(path):
        return dataclasses.replace(check, fault="cut short", detail=f"{missing} bytes are missing")
    if not n_samples:
        return dataclasses.replace(check, fault="empty", detail="no samples")
    variance = squares / n_samples - (total / n_samples) ** 2  # ignores a DC offset
    rms = math.sqrt(max(variance, 0.0))
    if rms < waveform.SILENT_RMS:
        return dataclasses.replace(check, fault="silent", detail=f"RMS {rms:.1e} of full scale")
    return check


def _is_clipped(block_SxC: np.ndarray) -> bool:
    full_SxC = np.abs(block_SxC) >= FULL_SCALE
    if len(full_SxC) < CLIPPED_RUN or not full_SxC.any():
        return False
    return bool(sliding_window_view(full_SxC, CLIPPED_RUN, axis=0).all(axis=-1).any())
