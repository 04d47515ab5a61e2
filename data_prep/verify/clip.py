"""Checks one audio file, whatever corpus it belongs to. Axes: S samples, C channels."""

import dataclasses
import math
from pathlib import Path

import numpy as np

from ser_jax.audio import waveform
from ser_jax.audio.decoder import CutShortError, Decoder, is_lfs_pointer
from ser_jax.audio.level import Level
from ser_jax.common import files
from ser_jax.common.errors import UserError


@dataclasses.dataclass(frozen=True)
class ClipCheck:
    """The result for one file."""

    name: str  # relative to the corpus folder
    sha256: str = ""  # of the file's bytes, in hex; "" if it cannot be read
    seconds: float = 0.0  # duration; 0 if it cannot be decoded
    fault: str = ""  # a key of findings.REMEDIES, or "" for a sound clip
    detail: str = ""  # of the fault
    remarks: tuple[tuple[str, str], ...] = ()  # (key of findings.REMEDIES, detail)


def check_clip(folder: Path, name: str) -> ClipCheck:
    """Hash and decode one file; any error becomes a fault."""
    path, sha256 = folder / name, ""
    try:
        if not path.is_file():  # a broken link, or a device
            return ClipCheck(name, fault="unreadable", detail="not a regular file")
        sha256 = files.sha256_of(path)
        if is_lfs_pointer(path):
            return ClipCheck(name, sha256, fault="Git LFS pointer")
        if path.stat().st_size == 0:
            return ClipCheck(name, sha256, fault="empty", detail="0 bytes")
        return _check_samples(path, ClipCheck(name, sha256))
    except CutShortError as error:
        return ClipCheck(name, sha256, fault="cut short", detail=str(error))
    except UserError as error:
        return ClipCheck(name, sha256, fault="unreadable", detail=str(error))
    except Exception as error:  # one bad file must not end the verification
        detail = f"{type(error).__name__}: {error}"
        return ClipCheck(name, sha256, fault="unreadable", detail=detail)


def _check_samples(path: Path, check: ClipCheck) -> ClipCheck:
    """Decode a file block by block, and fill in its duration and any fault of its samples."""
    level, squares = Level(), 0.0
    with Decoder(path) as sound:
        for block_SxC in sound.blocks():
            if defect := waveform.flaw(block_SxC):
                fault = "unreadable" if np.isfinite(block_SxC).all() else "not finite"
                return dataclasses.replace(check, fault=fault, detail=defect)
            squares += np.square(level.add(block_SxC), dtype=np.float64).sum()
    remarks = [("remark", sound.note)] if sound.note else []
    if level.has_offset:
        remarks.append(("DC offset", f"{level.offset:+.2g} of full scale"))
    if level.n_clipped:
        remarks.append(("clipped", f"{100 * level.clipped_share:.2g} % of the samples"))
    check = dataclasses.replace(check, seconds=level.n_samples / sound.rate, remarks=tuple(remarks))
    if sound.cut:
        return dataclasses.replace(check, fault="cut short", detail=sound.cut)
    if not level.n_samples:
        return dataclasses.replace(check, fault="empty", detail="no samples")
    rms = math.sqrt(max(squares / level.n_samples - level.offset**2, 0.0))
    if rms < waveform.SILENT_RMS:
        return dataclasses.replace(check, fault="silent", detail=f"RMS {rms:.1e} of full scale")
    return check
