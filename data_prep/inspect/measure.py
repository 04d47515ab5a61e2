"""What can be measured of a clip without any feature: length, rate, level, silence.

Axes: S samples, K frames, L samples a frame.
"""

import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from data_prep import corpora, workers
from data_prep.workers import map_with_progress

FRAME_SECONDS = 0.025
QUIET_DB = 40.0  # a frame so far below the clip's loudest one counts as silence
SILENCE = (
    f"the share of a clip's {1000 * FRAME_SECONDS:.0f} ms frames whose level is {QUIET_DB:.0f} dB "
    "or more below that of its loudest frame"
)
FLOOR_DB = -120.0  # what an all-zero signal counts as


@dataclasses.dataclass(frozen=True)
class Measure:
    """One file as it lies on disk, its channels averaged.

    Attributes:
      seconds: duration.
      sampling_rate: Hz.
      channels: how many.
      peak_db: greatest sample, dB re full scale.
      rms_db: root mean square, dB re full scale.
      silence: see SILENCE; 1 for a clip of zeros.
    """

    seconds: float
    sampling_rate: int
    channels: int
    peak_db: float
    rms_db: float
    silence: float


def measure_all(
    utterances: Sequence[corpora.Utterance],
) -> tuple[dict[str, Measure], dict[str, str]]:
    """Measures every clip, under a progress bar.

    Returns:
      {id: Measure}, and {id: why} of those that cannot be decoded.
    """
    good, bad = {}, {}
    done = map_with_progress(_measured, utterances, workers.n_processors(), "measuring")
    for utterance, result in done:
        (bad if isinstance(result, str) else good)[utterance.id] = result
    return dict(sorted(good.items())), dict(sorted(bad.items()))


def measure(waveform_S: np.ndarray, sampling_rate: int, channels: int = 1) -> Measure:
    """The measures of a waveform, float32 [samples], full scale ±1."""
    size = max(1, round(FRAME_SECONDS * sampling_rate))
    # The last frame is shorter: zeros would make it quieter than it is.
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


def _measured(utterance: corpora.Utterance) -> Measure | str:
    import soundfile

    try:
        samples_SxC, rate = soundfile.read(
            os.fspath(utterance.path), dtype="float32", always_2d=True
        )
    except (OSError, RuntimeError) as error:  # soundfile's own error is a RuntimeError
        return f"cannot be decoded ({str(error).rstrip('.')})"
    if not len(samples_SxC):
        return "holds no samples"
    if not np.isfinite(samples_SxC).all():
        return "holds NaN or infinite samples"
    return measure(samples_SxC.mean(axis=1), rate, samples_SxC.shape[1])


def _decibel(power: float) -> float:
    return max(FLOOR_DB, 10 * float(np.log10(power))) if power > 0 else FLOOR_DB
