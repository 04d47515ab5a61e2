"""Measurements of a clip that need no features: duration, rate, level, silence.

Shapes: S samples, C channels, K frames.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from data_prep import corpora, workers
from ser_jax.audio.decoder import AudioError, Decoder
from ser_jax.audio.level import Level
from ser_jax.audio.waveform import cut_out, flaw
from ser_jax.common import interrupts

FRAME_SECONDS = 0.025
QUIET_DB = 40.0  # a frame this far below the clip's loudest frame counts as silence
SILENCE = (
    f"the share of a clip's {1000 * FRAME_SECONDS:.0f} ms frames whose level is {QUIET_DB:.0f} dB "
    "or more below that of its loudest frame"
)
FLOOR_DB = -120.0  # the level of an all-zero signal


@dataclasses.dataclass(frozen=True)
class Measure:
    """Measurements of a file as it is on disk, channels averaged; levels re full scale."""

    seconds: float  # duration
    sampling_rate: int  # Hz
    channels: int
    peak_db: float
    rms_db: float
    silence: float  # see SILENCE; 1 for a clip of zeros


@dataclasses.dataclass(frozen=True)
class Quantity:
    """How a field of Measure is shown."""

    title: str
    unit: str  # "s", "Hz", "dB", or "%" for a fraction
    digits: int  # after the decimal point
    axis: str  # label of its histogram's axis

    def shown(self, value: float) -> float:
        """Return a value in `unit`, rounded."""
        return round(value * (100 if self.unit == "%" else 1), self.digits) + 0.0  # no −0


QUANTITIES = {
    "seconds": Quantity("Duration", "s", 2, "seconds"),
    "sampling_rate": Quantity("Sampling rate", "Hz", 0, "Hz"),
    "peak_db": Quantity("Peak level", "dB", 1, "dB re full scale"),
    "rms_db": Quantity("RMS level", "dB", 1, "dB re full scale"),
    "silence": Quantity("Silence", "%", 1, "share of the frames"),
}


def measure_all(
    utterances: Sequence[corpora.Utterance],
) -> tuple[dict[str, Measure], dict[str, str]]:
    """Measure every clip, under a progress bar.

    Returns:
      {id: Measure}, and {id: reason} for clips that cannot be decoded.
    """
    measures, unreadable = {}, {}
    jobs = workers.n_processors()
    with interrupts.deferred():
        results = workers.map_with_progress(_measure_file, utterances, jobs, "measuring")
        for utterance, result in results:
            (unreadable if isinstance(result, str) else measures)[utterance.id] = result
    return dict(sorted(measures.items())), dict(sorted(unreadable.items()))


def _measure_file(utterance: corpora.Utterance) -> Measure | str:
    try:
        with Decoder(utterance.path) as file:
            level = Level()
            mono = [level.add(block_SxC) for block_SxC in file.blocks()]
            waveform_S = np.concatenate([*mono, np.zeros(0, np.float32)])
            rate, channels = file.rate, file.channels
        waveform_S = cut_out(utterance.segment, utterance.path, waveform_S, rate)
    except AudioError as error:
        return str(error).removeprefix(f"{utterance.path} ").rstrip(".")
    return flaw(waveform_S) or measure(waveform_S, rate, channels)


def measure(waveform_S: np.ndarray, sampling_rate: int, channels: int = 1) -> Measure:
    """Measure a waveform, float32 [S], full scale ±1."""
    size = max(1, round(FRAME_SECONDS * sampling_rate))
    # The last frame is shorter, not padded: zeros would make it quieter.
    starts = np.arange(0, len(waveform_S), size)
    squares_S = np.square(waveform_S, dtype=np.float64)
    lengths_K = np.minimum(starts + size, len(waveform_S)) - starts
    power_K = np.add.reduceat(squares_S, starts) / lengths_K
    loudest = power_K.max()
    quiet_K = power_K <= loudest / 10 ** (QUIET_DB / 10)
    return Measure(
        seconds=len(waveform_S) / sampling_rate,
        sampling_rate=sampling_rate,
        channels=channels,
        peak_db=_decibel(float(np.abs(waveform_S).max()) ** 2),
        rms_db=_decibel(float(squares_S.mean())),
        silence=float(quiet_K.mean()) if loudest else 1.0,
    )


def _decibel(power: float) -> float:
    return max(FLOOR_DB, 10 * float(np.log10(power))) if power > 0 else FLOOR_DB
