"""Augmented views of a clip: additive noise, pitch shift, time stretch.

A view depends only on (seed, clip id, view), not on the order or the number of processes. Views are
computed before the corpus is split; a split uses only those of its training clips.
"""

import dataclasses
import hashlib
import math
from collections.abc import Iterator, Sequence

import numpy as np

from data_prep.augmentation.phase_vocoder import PhaseVocoder
from ser_jax.common.errors import UserError

ORIGINAL = "original"
VIEWS = ("noise", "pitch", "stretch")


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """The views to compute and the limits between which their parameters are drawn uniformly."""

    views: tuple[str, ...] = VIEWS
    snr_db: tuple[float, float] = (10.0, 30.0)  # signal-to-noise ratio of the white noise
    semitones: tuple[float, float] = (-2.0, 2.0)  # pitch shift at constant length
    rate: tuple[float, float] = (0.85, 1.15)  # time stretch at constant pitch; 1.1: 10 % faster
    seed: int = 0

    def __post_init__(self):
        for field in ("views", "snr_db", "semitones", "rate"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        if not set(self.views) <= set(VIEWS):
            raise UserError(f"augmentation.views are {', '.join(VIEWS)}; got {self.views}.")
        for field in ("snr_db", "semitones", "rate"):
            limits = getattr(self, field)
            if len(limits) != 2 or not -math.inf < limits[0] <= limits[1] < math.inf:
                raise UserError(f"augmentation.{field} must be (lowest, highest); got {limits}.")
        if self.rate[0] <= 0:
            raise UserError(f"augmentation.rate must be positive; got {self.rate}.")


def augment(
    augmentation: Augmentation, view: str, waveform_S: np.ndarray, sampling_rate: int, clip_id: str
) -> np.ndarray:
    """Return one view of a clip: float32 [samples] in, float32 [samples] out."""
    [(_, view_S)] = make_views(augmentation, (view,), waveform_S, sampling_rate, clip_id)
    return view_S


def make_views(
    augmentation: Augmentation,
    views: Sequence[str],
    waveform_S: np.ndarray,
    sampling_rate: int,
    clip_id: str,
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (name, waveform) for each view of a clip; the views share its STFT."""
    vocoder = PhaseVocoder(waveform_S)
    for view in views:
        key = f"{augmentation.seed}\0{clip_id}\0{view}".encode()
        rng = np.random.default_rng(int.from_bytes(hashlib.sha256(key).digest()))
        if view == ORIGINAL:
            yield view, waveform_S
        elif view == "noise":
            yield view, _add_noise(waveform_S, rng.uniform(*augmentation.snr_db), rng)
        elif view == "pitch":
            semitones = rng.uniform(*augmentation.semitones)
            yield view, vocoder.pitch_shift(sampling_rate, semitones)
        else:
            yield view, vocoder.time_stretch(rng.uniform(*augmentation.rate))


def _add_noise(waveform_S: np.ndarray, snr_db: float, rng: np.random.Generator) -> np.ndarray:
    """Add white Gaussian noise at a given ratio of mean powers; silence stays silent."""
    power = np.mean(waveform_S.astype(np.float64) ** 2)
    noise_S = rng.standard_normal(len(waveform_S)) * np.sqrt(power / 10 ** (snr_db / 10))
    return (waveform_S + noise_S).astype(np.float32)
