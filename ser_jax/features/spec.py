"""Feature definition: its settings, the planes that records hold, and the inputs of a model."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ser_jax.common.errors import UserError

if TYPE_CHECKING:
    import jax

Array: TypeAlias = "np.ndarray | jax.Array"

# What records hold, and the number of columns of each. A new plane of the waveform is a line here
# and one in spectral.WAVEFORM_PLANES.
PLANES: "dict[str, Callable[[FeatureSpec], int]]" = {
    "mfcc": lambda spec: spec.n_mfcc,
    "log_mel": lambda spec: spec.n_mels,
    "zero_crossing_rate": lambda spec: 1,
    "energy": lambda spec: 1,
    "embedding": lambda spec: spec.encoder.n_columns,
}
# Kinds of model input, and the planes that each is made of.
INPUTS = {
    "mfcc": ("mfcc",),
    "log_mel": ("log_mel",),
    "vector": ("mfcc", "zero_crossing_rate", "energy"),
    "embedding": ("embedding",),
}
WINDOWS = {"hamming": (0.54, 0.46), "hann": (0.5, 0.5)}  # a, b of a − b·cos


LONGEST_EMBEDDED = 30  # s of a clip that prediction embeds; records hold all of it
POOLINGS = ("statistics", "positions")


@dataclasses.dataclass(frozen=True)
class EncoderSpec:
    """A pretrained encoder, and what of its hidden states makes the plane "embedding".

    With pooling "statistics" a clip has one frame per hidden state: the mean of each dimension over
    its positions, then the standard deviations. With "positions" it has a frame per position, the
    hidden states side by side.
    """

    sha256: str  # of its file
    width: int  # of a hidden state
    n_states: int  # hidden states of a position
    hop_length: int  # samples from one position to the next
    pooling: str = "statistics"  # or "positions"
    states: tuple[int, ...] = ()  # numbers of the hidden states to keep; () keeps all
    context: float = 0.0  # s that positions see, silence after a shorter clip included
    least: int = 1  # samples that have one position; another one begins hop_length samples later

    def __post_init__(self):
        object.__setattr__(self, "states", tuple(self.states))  # JSON gives lists
        for violated, rule in (
            (self.pooling not in POOLINGS, f"pooling must be one of {', '.join(POOLINGS)}"),
            (
                not all(type(n) is int and 0 <= n < self.n_states for n in self.states),
                f"states must be numbers from 0 to {self.n_states - 1}",
            ),
            (len({*self.states}) < len(self.states), "states must not repeat"),
            (not 0 <= self.context <= 30, "context must be between 0 and 30 seconds"),
        ):
            if violated:
                raise UserError(f"the settings of the encoder do not fit: encoder.{rule}.")

    @property
    def kept(self) -> tuple[int, ...]:
        """The numbers of the hidden states that are kept."""
        return self.states or tuple(range(self.n_states))

    @property
    def n_columns(self) -> int:
        """The number of columns of the plane."""
        return self.width * (2 if self.pooling == "statistics" else len(self.kept))

    def n_positions(self, n_samples):
        """Return the number of positions in `n_samples` samples (an int or an array)."""
        return n_positions(n_samples, self.hop_length, self.least)


@dataclasses.dataclass(frozen=True)
class FeatureSpec:
    """Everything that determines the value of a feature."""

    sampling_rate: int = 16_000  # Hz; audio at another rate is resampled to it
    pre_emphasis: float = 0.97  # a in y[n] = x[n] − a·x[n−1]; 0 switches it off
    frame_length: int = 400  # samples
    hop_length: int = 160  # samples from one frame to the next
    n_fft: int = 512  # FFT length in samples, ≥ frame_length; the rest is zero-padded
    window: str = "hamming"  # or "hann"
    centered: bool = True  # frame t is centred on sample t·hop_length, else it starts there
    n_mels: int = 64  # mel bands
    f_min: float = 0.0  # lowest frequency of the filterbank, Hz
    f_max: float = 0.0  # highest frequency, Hz; 0 means half the sampling rate
    mel_scale: str = "slaney"  # linear up to 1 kHz, as in librosa; or "htk"
    top_db: float = 80.0  # floor of a clip's log-mel in dB below its peak; 0 sets no floor
    n_mfcc: int = 20  # number of cepstral coefficients, counted from the zeroth
    # To compute and store. An embedding stands alone: its frames are not those of the others.
    planes: tuple[str, ...] = tuple(plane for plane in PLANES if plane != "embedding")
    encoder: EncoderSpec | None = None  # of the plane "embedding"

    def __post_init__(self):
        object.__setattr__(self, "planes", tuple(self.planes))  # JSON gives lists
        if isinstance(self.encoder, Mapping):
            object.__setattr__(self, "encoder", EncoderSpec(**self.encoder))
        embeds = "embedding" in self.planes
        nyquist = self.sampling_rate / 2
        for violated, rule in (
            (self.sampling_rate < 1000, "sampling_rate must be at least 1000 Hz"),
            (not 0 <= self.pre_emphasis < 1, "pre_emphasis must be in [0, 1)"),
            (self.hop_length < 1, "hop_length must be at least one sample"),
            (not 2 <= self.frame_length <= self.n_fft, "frame_length must be in [2, n_fft]"),
            (self.frame_length % 2 or self.n_fft % 2, "frame_length and n_fft must be even"),
            (self.window not in WINDOWS, f"window must be one of {', '.join(WINDOWS)}"),
            (self.mel_scale not in ("slaney", "htk"), "mel_scale must be slaney or htk"),
            (not 1 <= self.n_mfcc <= self.n_mels, "n_mfcc must be in [1, n_mels]"),
            (not 0 <= self.f_min < (self.f_max or nyquist), "f_min must be in [0, f_max)"),
            (self.f_max > nyquist, "f_max must not exceed half the sampling rate"),
            (not set(self.planes) <= set(PLANES), f"planes must be among {', '.join(PLANES)}"),
            (not self.planes, "planes must not be empty"),
            (embeds and len(self.planes) > 1, "the plane embedding stands alone"),
            (embeds != bool(self.encoder), "the plane embedding needs encoder.path, no other does"),
        ):
            if violated:
                raise UserError(f"the feature settings do not fit together: {rule}.")

    @property
    def fixed_frames(self) -> bool:
        """Whether frames are the hidden states of an encoder, the same in every clip, not times."""
        return self.encoder is not None and self.encoder.pooling == "statistics"

    def width(self, plane: str) -> int:
        """Return the number of columns of a plane."""
        return PLANES[plane](self)

    def n_frames(self, n_samples):
        """Return the number of frames in `n_samples` samples (an int or an array)."""
        if self.fixed_frames:
            return 0 * n_samples + len(self.encoder.kept)
        if self.encoder:
            return self.encoder.n_positions(n_samples)
        if self.centered:
            return 1 + n_samples // self.hop_length
        beyond_first = (n_samples - self.frame_length) // self.hop_length
        return 1 + beyond_first * (beyond_first > 0)  # a shorter clip is padded to one frame

    def n_samples(self, n_frames: int) -> int:
        """Return the samples of the longest clip that is used completely as `n_frames` frames."""
        if self.fixed_frames:
            return LONGEST_EMBEDDED * self.sampling_rate
        if self.encoder:
            return n_frames * self.encoder.hop_length + self.encoder.least - 1
        return n_frames * self.hop_length + (0 if self.centered else self.frame_length)


def n_positions(n_samples, hop_length: int, least: int = 1):
    """Return an encoder's positions in `n_samples` samples (an int or an array): at least one."""
    positions = -(-(n_samples + 1 - least) // hop_length)
    return positions + (1 - positions) * (positions < 1)


def model_input(x_BxTxF: Array, kind: str) -> Array:
    """Return what a model of this input kind receives, given its planes side by side.

    These are the planes unchanged [B, T, F]; for "vector" the flattened MFCC, the zero-crossing
    rates, then the energies [B, T·F], as in the reference report.
    """
    if kind != "vector":
        return x_BxTxF
    mfcc_BxTxC, rate_BxT, energy_BxT = x_BxTxF[..., :-2], x_BxTxF[..., -2], x_BxTxF[..., -1]
    flat_BxL = mfcc_BxTxC.reshape(x_BxTxF.shape[0], -1)
    xp = x_BxTxF.__array_namespace__()
    return xp.concatenate([flat_BxL, rate_BxT, energy_BxT], axis=1)
