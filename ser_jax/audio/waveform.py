"""Audio file → mono waveform: the only decoder, used by preparation and prediction alike."""

import dataclasses
import io
import math
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ser_jax.audio.decoder import AudioError, Decoder
from ser_jax.audio.level import Level
from ser_jax.common import files

# −80 dB re full scale, about 3 steps of 16 bits. The quietest clip of RAVDESS is at −64 dB, that
# of 16 clips of CREMA-D at −41 dB.
SILENT_RMS = 1e-4
LOUDEST = 1e6  # times full scale; the power of more would overflow float32
_CUT = "cut short: "
_MARGIN = 1.0  # s decoded past the end for the resampling filter
_SECONDS = r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?|end)"
_ID = re.compile(rf"(.*)@{_SECONDS}-{_SECONDS}", re.DOTALL)
SLACK = 0.05  # s that a segment may reach beyond its file or into the next: times are rounded


class Segment(NamedTuple):
    """A part of a file, in seconds from its start."""

    start: float = 0.0
    end: float = math.inf  # of the file where it is infinite

    def outside(self, length: float) -> str:
        """Say why the segment is not in a file of this length, s; "" if it is."""
        ends_late = self.end != math.inf and self.end > length + SLACK
        if self.start < length and not ends_late:
            return ""
        return f"is {length:.3f} s long, and a segment of it is {self}"

    def id_of(self, name: str) -> str:
        """Return the id of this segment of the file `name`."""
        return name if self == WHOLE else f"{name}@{self}"

    @staticmethod
    def split_id(clip_id: str) -> tuple[str, "Segment"]:
        """Return the file and segment of an id."""
        if not (match := _ID.fullmatch(clip_id)):
            return clip_id, WHOLE
        name, start, end = match.groups()
        start, end = (math.inf if text == "end" else float(text) for text in (start, end))
        return name, Segment(start, end)

    def __str__(self) -> str:
        start, end = (str(seconds).removesuffix(".0") for seconds in self)
        return f"{start}-{'end' if end == 'inf' else end}"


WHOLE = Segment()


def load(
    path: Path,
    sampling_rate: int,
    seconds: float = math.inf,
    notes: list[str] | None = None,
    segment: Segment = WHOLE,
) -> np.ndarray:
    """Decode a file, average its channels and resample it (soxr, high quality).

    Args:
      path: a file in any format that libsndfile reads, or /dev/stdin.
      sampling_rate: rate of the result, Hz.
      seconds: the part from the start that is needed; slightly more may be returned.
      notes: receives remarks on the file, such as that it is cut short.
      segment: the part of the file to return, to the sample.

    Returns:
      float32 waveform [samples], full scale ±1.

    Raises:
      AudioError: the file is missing, an LFS pointer, not audio, has a `flaw` or lacks the segment.
    """
    recording = decode(path, min(seconds, segment.end))
    waveform_S = recording.cut_out(segment, sampling_rate)
    if notes is not None:
        notes += recording.notes
    return waveform_S


@dataclasses.dataclass(frozen=True, eq=False)
class Recording:
    """A decoded file, from which any number of segments can be cut."""

    path: Path
    waveform_S: np.ndarray  # mono, at the file's rate
    rate: int  # Hz
    notes: tuple[str, ...]  # remarks on the file, such as that it is cut short

    @property
    def seconds(self) -> float:
        return len(self.waveform_S) / self.rate

    def cut_out(self, segment: Segment, sampling_rate: int) -> np.ndarray:
        """Return a segment [samples] at another rate, Hz.

        Raises:
          AudioError: the segment is outside the file, has a `flaw`, or is too short.
        """
        waveform_S = cut_out(segment, self.path, self.waveform_S, self.rate)
        defect = flaw(waveform_S)
        if not defect:
            waveform_S = resample(waveform_S, self.rate, sampling_rate)
            if not waveform_S.size:
                defect = f"is shorter than one sample at {sampling_rate:,} Hz"
        if defect:
            cut = "".join(f" ({note})" for note in self.notes if note.startswith(_CUT))
            raise AudioError(f"{self.path} {defect}{cut}; replace the file.")
        return waveform_S


def decode(path: Path, seconds: float = math.inf) -> Recording:
    """Decode a file, and average its channels, as far as its first `seconds` need.

    Raises:
      AudioError: the file is missing, an LFS pointer or not audio.
    """
    level = Level()
    with Decoder(path) as file:
        # Block by block, so that a long recording is never in memory with all its channels.
        mono = [level.add(block_SxC) for block_SxC in file.blocks(seconds + _MARGIN)]
        waveform_S = np.concatenate([*mono, np.zeros(0, np.float32)])
        notes = filter(None, (file.note, *level.notes(), file.cut and _CUT + file.cut))
        return Recording(path, waveform_S, file.rate, tuple(notes))


def cut_out(segment: Segment, path: Path, waveform_S: np.ndarray, rate: int) -> np.ndarray:
    """Return a segment of a file's waveform [samples].

    Raises:
      AudioError: the segment is outside the file.
    """
    if segment == WHOLE:
        return waveform_S
    length = len(waveform_S) / rate
    if reason := segment.outside(length):
        raise AudioError(f"{path} {reason}; correct the table.")
    start, end = (round(min(seconds, length) * rate) for seconds in segment)
    return waveform_S[start : max(end, start + 1)].copy()  # which lets go of the file's


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
        # Not by libsndfile, whose errors do not say that a disk is full.
        flac = io.BytesIO()
        soundfile.write(flac, clipped_S, sampling_rate, format="FLAC", subtype="PCM_16")
        temporary.write_bytes(flac.getbuffer())
