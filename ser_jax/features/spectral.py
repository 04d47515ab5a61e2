"""Waveform → MFCC, log-mel, zero-crossing rate, energy. The only definition of a feature.

Preparation, prediction and export all call `extract`, so a model never sees features that differ
from those it was trained on. Values agree with librosa's to float32 accuracy. The same lines
compute in NumPy or in JAX, by what the waveform is an array of: on a CPU NumPy takes the clips one
by one, whose frames stay in the cache, and half the time of XLA. JAX is imported where it computes:
the processes that prepare records do without.

Shapes: B batch, S samples, T frames, L samples a frame, K FFT bins, M mel bands, F columns.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
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
_SMALLEST_POWER = 1e-10  # below it power counts as silence, as in librosa.power_to_db
_SMALLEST_SAMPLE = 1e-10  # below it a sample has no sign, as in librosa.zero_crossings
_BANDS_AT_ONCE = 8
_WINDOWS = {"hamming": (0.54, 0.46), "hann": (0.5, 0.5)}


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
            (self.window not in _WINDOWS, f"window is one of {', '.join(_WINDOWS)}"),
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


def extract(spec: FeatureSpec, waveform_BxS: Array, n_samples_B: Array) -> dict[str, Array]:
    """Features of a padded batch of clips.

    Args:
      spec: what to compute.
      waveform_BxS: float32, full scale ±1; anything past a clip's end is ignored.
      n_samples_B: the clips' lengths.

    Returns:
      {plane: float32 [B, T, columns]} with T = spec.n_frames(S); frames past a clip's end are 0.
      log_mel is in dB, mfcc likewise; zero_crossing_rate per sample; energy is a mean square.
      Of NumPy's waveforms on a CPU NumPy's arrays, else JAX's.
    """
    import jax

    if not isinstance(waveform_BxS, np.ndarray) or jax.default_backend() != "cpu":
        return _compiled()(spec, waveform_BxS, n_samples_B)
    shape = len(waveform_BxS), spec.n_frames(waveform_BxS.shape[1])
    planes = {name: np.zeros((*shape, spec.width(name)), np.float32) for name in spec.planes}
    for row, n_samples in enumerate(n_samples_B):
        for name, x_TxF in extract_clip(spec, waveform_BxS[row, :n_samples]).items():
            planes[name][row, : len(x_TxF)] = x_TxF
    return planes


def extract_clip(spec: FeatureSpec, waveform_S: np.ndarray) -> dict[str, np.ndarray]:
    """Features of one clip in NumPy, whatever JAX would compute on.

    Args:
      spec: what to compute.
      waveform_S: float32, full scale ±1.

    Returns:
      {plane: float32 [T, columns]} with T = spec.n_frames(S), else as `extract`.
    """
    planes = _planes(spec, waveform_S[None], np.array([len(waveform_S)]))
    return {name: x_1xTxF[0] for name, x_1xTxF in planes.items()}


def _planes(spec: FeatureSpec, waveform_BxS: Array, n_samples_B: Array) -> dict[str, Array]:
    """What `extract` returns, in the arrays that it is given."""
    xp, n_samples = waveform_BxS.__array_namespace__(), waveform_BxS.shape[1]
    inside_BxS = xp.arange(n_samples) < n_samples_B[:, None]
    waveform_BxS = xp.where(inside_BxS, waveform_BxS, np.float32(0))
    n_frames_B = spec.n_frames(n_samples_B)
    inside_BxTx1 = (xp.arange(spec.n_frames(n_samples)) < n_frames_B[:, None])[..., None]

    planes = {}
    if "mfcc" in spec.planes or "log_mel" in spec.planes:
        # The seven steps of an MFCC; log-mel is what stands before the last.
        emphasised_BxS = xp.where(inside_BxS, pre_emphasise(spec, waveform_BxS), np.float32(0))
        windowed_BxTxL = frame(spec, emphasised_BxS) * window(spec)
        power_BxTxK = power(spec, windowed_BxTxL)
        log_mel_BxTxM = to_decibel(spec, to_mel(spec, power_BxTxK), inside_BxTx1)
        planes["log_mel"] = log_mel_BxTxM
        planes["mfcc"] = log_mel_BxTxM @ dct_matrix(spec)
    if "zero_crossing_rate" in spec.planes:
        planes["zero_crossing_rate"] = zero_crossing_rate(spec, waveform_BxS, inside_BxS)
    if "energy" in spec.planes:
        planes["energy"] = _sum_of_frames(spec, _blocks(spec, waveform_BxS**2)) / spec.frame_length
    return {name: xp.where(inside_BxTx1, planes[name], np.float32(0)) for name in spec.planes}


@functools.cache
def _compiled() -> Callable[..., dict[str, Array]]:
    """`_planes` of a whole batch in XLA."""
    import jax

    exact = jax.default_matmul_precision("highest")
    return jax.jit(exact(_planes), static_argnums=0)


def pre_emphasise(spec: FeatureSpec, waveform_BxS: Array) -> Array:
    """Step 1: y[n] = x[n] − a·x[n−1] lifts the high frequencies that the voice source lacks."""
    return waveform_BxS - spec.pre_emphasis * _between_zeros(waveform_BxS, 1, 0)[:, :-1]


def frame(spec: FeatureSpec, signal_BxS: Array) -> Array:
    """Step 2: [B, S] → overlapping frames [B, T, L], with zeros where a frame leaves the clip."""
    xp = signal_BxS.__array_namespace__()
    return xp.concatenate(_of_frames(spec, _blocks(spec, signal_BxS)), axis=-1)


def _sum_of_frames(spec: FeatureSpec, blocks_BxNxG: Array) -> Array:
    """The sum of each frame's samples [B, T, 1]."""
    # A block is added up once, however many frames it is in.
    return sum(_of_frames(spec, blocks_BxNxG.sum(-1, keepdims=True)))


def _blocks(spec: FeatureSpec, signal_BxS: Array) -> Array:
    """[B, S] → blocks [B, N, G] of the greatest length that divides both hop and frame.

    Frames are strided slices of them, which are far cheaper than a gather.
    """
    block = math.gcd(spec.hop_length, spec.frame_length)
    n_given = signal_BxS.shape[1]
    n_taken = spec.n_frames(n_given) * spec.hop_length + spec.frame_length
    left = spec.frame_length // 2 if spec.centered else 0
    padded = _between_zeros(signal_BxS, left, max(0, n_taken - n_given - left))[:, :n_taken]
    return padded.reshape(padded.shape[0], -1, block)


def _between_zeros(signal_BxS: Array, n_before: int, n_after: int) -> Array:
    xp, n = signal_BxS.__array_namespace__(), signal_BxS.shape[0]  # xp.pad takes four times as long
    before, after = (xp.zeros((n, k), signal_BxS.dtype) for k in (n_before, n_after))
    return xp.concatenate([before, signal_BxS, after], axis=1)


def _of_frames(spec: FeatureSpec, blocks_BxNx_: Array) -> list[Array]:
    """For each block of a frame, in order, those of all frames: [B, T, ...]."""
    block = math.gcd(spec.hop_length, spec.frame_length)
    blocks_a_hop, blocks_a_frame = spec.hop_length // block, spec.frame_length // block
    n_frames = (blocks_BxNx_.shape[1] - blocks_a_frame) // blocks_a_hop
    return [blocks_BxNx_[:, k::blocks_a_hop][:, :n_frames] for k in range(blocks_a_frame)]


@functools.cache
def window(spec: FeatureSpec) -> np.ndarray:
    """Step 3: the window [L], periodic as for spectral analysis."""
    a, b = _WINDOWS[spec.window]
    phase_L = 2 * np.pi * np.arange(spec.frame_length) / spec.frame_length
    return (a - b * np.cos(phase_L)).astype(np.float32)


def power(spec: FeatureSpec, windowed_BxTxL: Array) -> Array:
    """Step 4: the squared magnitude of the Fourier transform, [B, T, K]."""
    if not isinstance(windowed_BxTxL, np.ndarray):
        xp = windowed_BxTxL.__array_namespace__()
        return xp.abs(xp.fft.rfft(windowed_BxTxL, n=spec.n_fft)) ** 2
    from scipy import fft  # eight times as quick as NumPy's

    spectrum_BxTxK = fft.rfft(windowed_BxTxL, n=spec.n_fft)
    return spectrum_BxTxK.real**2 + spectrum_BxTxK.imag**2


@functools.cache
def mel_filterbank(spec: FeatureSpec) -> np.ndarray:
    """Step 5: triangles [K, M], evenly spaced in mel, each of unit area."""
    f_max = spec.f_max or spec.sampling_rate / 2
    low, high = hz_to_mel(np.array([spec.f_min, f_max]), spec.mel_scale)
    edges = mel_to_hz(np.linspace(low, high, spec.n_mels + 2), spec.mel_scale)
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    bin_Kx1 = np.fft.rfftfreq(spec.n_fft, 1 / spec.sampling_rate)[:, None]
    rising, falling = (bin_Kx1 - lower) / (centre - lower), (upper - bin_Kx1) / (upper - centre)
    triangle_KxM = np.maximum(0, np.minimum(rising, falling))
    return (triangle_KxM * 2 / (upper - lower)).astype(np.float32)


def to_mel(spec: FeatureSpec, power_BxTxK: Array) -> Array:
    """Step 5: the bins' power, summed up by the triangles, [B, T, M]."""
    if not isinstance(power_BxTxK, np.ndarray):
        return power_BxTxK @ mel_filterbank(spec)
    return np.concatenate(
        [power_BxTxK[..., bins] @ triangle_KxM for bins, triangle_KxM in _mel_groups(spec)], axis=-1
    )


@functools.cache
def _mel_groups(spec: FeatureSpec) -> list[tuple[slice, np.ndarray]]:
    """The filterbank, some bands at a time with the bins that they see: seven eighths are zeros.

    Such products are also small enough for BLAS to start no threads, which would be in each
    other's way where several clips are computed at once.
    """
    bank_KxM, groups = mel_filterbank(spec), []
    for first in range(0, spec.n_mels, _BANDS_AT_ONCE):
        some_KxM = bank_KxM[:, first : first + _BANDS_AT_ONCE]
        seen = np.flatnonzero(some_KxM.any(axis=1))
        bins = slice(seen[0], seen[-1] + 1) if len(seen) else slice(0)  # narrow ones see none
        groups.append((bins, np.ascontiguousarray(some_KxM[bins])))
    return groups


def to_decibel(spec: FeatureSpec, power_BxTxM: Array, inside_BxTx1: Array) -> Array:
    """Step 6: 10·log₁₀, with a floor `top_db` below the clip's own peak."""
    xp = power_BxTxM.__array_namespace__()
    decibel = 10 * xp.log10(xp.maximum(power_BxTxM, _SMALLEST_POWER))
    if not spec.top_db:
        return decibel
    peak_B = xp.max(decibel, axis=(1, 2), where=inside_BxTx1, initial=-xp.inf, keepdims=True)
    return xp.maximum(decibel, peak_B - spec.top_db)


@functools.cache
def dct_matrix(spec: FeatureSpec) -> np.ndarray:
    """Step 7: the orthonormal DCT-II [M, F], of which the first n_mfcc columns are kept."""
    angle_MxF = np.pi * np.outer(np.arange(spec.n_mels) + 0.5, np.arange(spec.n_mfcc)) / spec.n_mels
    scale_F = np.where(np.arange(spec.n_mfcc) == 0, 1, 2)
    return (np.cos(angle_MxF) * np.sqrt(scale_F / spec.n_mels)).astype(np.float32)


def zero_crossing_rate(spec: FeatureSpec, waveform_BxS: Array, inside_BxS: Array) -> Array:
    """Changes of sign within a frame, per sample: [B, T, 1]."""
    xp = waveform_BxS.__array_namespace__()
    negative_BxS = waveform_BxS < -_SMALLEST_SAMPLE
    before_BxS = xp.concatenate([negative_BxS[:, :1], negative_BxS[:, :-1]], axis=1)
    crossing_BxS = ((negative_BxS != before_BxS) & inside_BxS).astype(xp.float32)
    # A frame's first sample has no sample before it in the frame, so no crossing counts there.
    blocks_BxNxG = _blocks(spec, crossing_BxS)
    first_BxTx1 = _of_frames(spec, blocks_BxNxG)[0][..., :1]
    return (_sum_of_frames(spec, blocks_BxNxG) - first_BxTx1) / spec.frame_length


def hz_to_mel(hz: np.ndarray, scale: str) -> np.ndarray:
    """HTK: 2595·log₁₀(1 + f/700). Slaney (Auditory Toolbox, 1998): linear to 1 kHz, then log."""
    if scale == "htk":
        return 2595 * np.log10(1 + hz / 700)
    above = 15 + 27 * np.log(np.maximum(hz, 1000) / 1000) / np.log(6.4)
    return np.where(hz < 1000, hz * 3 / 200, above)


def mel_to_hz(mel: np.ndarray, scale: str) -> np.ndarray:
    """The inverse of `hz_to_mel`."""
    if scale == "htk":
        return 700 * (10 ** (mel / 2595) - 1)
    return np.where(mel < 15, mel * 200 / 3, 1000 * 6.4 ** ((np.maximum(mel, 15) - 15) / 27))


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
