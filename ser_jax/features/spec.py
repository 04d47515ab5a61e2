"""What a feature is: its settings, the planes that records hold, and what a model is fed."""

import dataclasses
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ser_jax.common.errors import UserError

if TYPE_CHECKING:
    import jax

Array: TypeAlias = "np.ndarray | jax.Array"


PLANES = ("mfcc", "log_mel", "zero_crossing_rate", "energy")


# What a model may be fed, and the planes that it is made of.
INPUTS = {
    "mfcc": ("mfcc",),
    "log_mel": ("log_mel",),
    "vector": ("mfcc", "zero_crossing_rate", "energy"),
}


WINDOWS = {"hamming": (0.54, 0.46), "hann": (0.5, 0.5)}


@dataclasses.dataclass(frozen=True)
class FeatureSpec:
    """Everything that determines a feature's value.

    Attributes:
      sampling_rate: Hz; audio at another rate is resampled to it.
      pre_emphasis: a in y[n] = x[n] − a·x[n−1]; 0 switches it off.
      frame_length: samples.
      hop_length: samples from one frame to the next.
      n_fft: FFT length in samples, ≥ frame_length; the rest is zeros.
      window: "hamming" or "hann".
      centered: frame t is centred on sample t·hop_length (librosa's default), else it starts there.
      n_mels: mel bands.
      f_min: lowest frequency of the filterbank, Hz.
      f_max: highest, Hz; 0 means half the sampling rate.
      mel_scale: "slaney" (linear up to 1 kHz; librosa's default) or "htk".
      top_db: a clip's log-mel ends this far below its peak, dB; 0 sets no floor.
      n_mfcc: cepstral coefficients that are kept, counted from the zeroth.
      planes: what is stored, of PLANES.
    """

    sampling_rate: int = 16_000
    pre_emphasis: float = 0.97
    frame_length: int = 400
    hop_length: int = 160
    n_fft: int = 512
    window: str = "hamming"
    centered: bool = True
    n_mels: int = 64
    f_min: float = 0.0
    f_max: float = 0.0
    mel_scale: str = "slaney"
    top_db: float = 80.0
    n_mfcc: int = 20
    planes: tuple[str, ...] = PLANES

    def __post_init__(self):
        object.__setattr__(self, "planes", tuple(self.planes))  # JSON gives lists
        nyquist = self.sampling_rate / 2
        for wrong, advice in (
            (self.sampling_rate < 1000, "sampling_rate is in Hz, 1000 or more"),
            (not 0 <= self.pre_emphasis < 1, "pre_emphasis lies in [0, 1)"),
            (self.hop_length < 1, "hop_length is at least one sample"),
            (not 2 <= self.frame_length <= self.n_fft, "2 ≤ frame_length ≤ n_fft"),
            (self.frame_length % 2 or self.n_fft % 2, "frame_length and n_fft are even"),
            (self.window not in WINDOWS, f"window is one of {', '.join(WINDOWS)}"),
            (self.mel_scale not in ("slaney", "htk"), "mel_scale is slaney or htk"),
            (not 1 <= self.n_mfcc <= self.n_mels, "1 ≤ n_mfcc ≤ n_mels"),
            (not 0 <= self.f_min < (self.f_max or nyquist), "f_min lies below f_max"),
            (self.f_max > nyquist, "f_max is at most half the sampling rate"),
            (not set(self.planes) <= set(PLANES), f"planes are among {', '.join(PLANES)}"),
            (not self.planes, "at least one plane is stored"),
        ):
            if wrong:
                raise UserError(f"the features' settings do not fit together: {advice}.")

    def width(self, plane: str) -> int:
        """Columns of a plane."""
        return {"mfcc": self.n_mfcc, "log_mel": self.n_mels}.get(plane, 1)

    def n_frames(self, n_samples):
        """Frames of a clip of `n_samples` (an int or an array of them)."""
        if self.centered:
            return 1 + n_samples // self.hop_length
        beyond_first = (n_samples - self.frame_length) // self.hop_length
        return 1 + beyond_first * (beyond_first > 0)  # a shorter clip is padded to one frame


def model_input(x_BxTxF: Array, kind: str) -> Array:
    """What a model is fed: the plane itself, or the report's one vector.

    The vector is the flattened MFCC, then the zero-crossing rates, then the energies: [B, T·F].
    """
    if kind != "vector":
        return x_BxTxF
    mfcc_BxTxC, rate_BxT, energy_BxT = x_BxTxF[..., :-2], x_BxTxF[..., -2], x_BxTxF[..., -1]
    flat_BxL = mfcc_BxTxC.reshape(x_BxTxF.shape[0], -1)
    xp = x_BxTxF.__array_namespace__()
    return xp.concatenate([flat_BxL, rate_BxT, energy_BxT], axis=1)
