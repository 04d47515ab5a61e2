"""The seven steps of an MFCC, and what else a frame is measured by.

Values agree with librosa's to float32 accuracy. The same lines compute in NumPy or in JAX, by what
the waveform is an array of.

Shapes: B batch, S samples, T frames, L samples a frame, K FFT bins, M mel bands, F columns.
"""

import functools
import math

import numpy as np

from ser_jax.features.spec import WINDOWS, Array, FeatureSpec

_SMALLEST_POWER = 1e-10  # below it power counts as silence, as in librosa.power_to_db
_SMALLEST_SAMPLE = 1e-10  # below it a sample has no sign, as in librosa.zero_crossings
_BANDS_AT_ONCE = 8


def planes(spec: FeatureSpec, waveform_BxS: Array, n_samples_B: Array) -> dict[str, Array]:
    """What `extraction.extract` returns, in arrays of the kind that it is given."""
    xp, n_samples = waveform_BxS.__array_namespace__(), waveform_BxS.shape[1]
    inside_BxS = xp.arange(n_samples) < n_samples_B[:, None]
    waveform_BxS = xp.where(inside_BxS, waveform_BxS, np.float32(0))
    n_frames_B = spec.n_frames(n_samples_B)
    inside_BxTx1 = (xp.arange(spec.n_frames(n_samples)) < n_frames_B[:, None])[..., None]

    plane = {}
    if "mfcc" in spec.planes or "log_mel" in spec.planes:
        # The seven steps of an MFCC; log-mel is what stands before the last.
        emphasised_BxS = xp.where(inside_BxS, pre_emphasise(spec, waveform_BxS), np.float32(0))
        windowed_BxTxL = frame(spec, emphasised_BxS) * window(spec)
        power_BxTxK = power(spec, windowed_BxTxL)
        log_mel_BxTxM = to_decibel(spec, to_mel(spec, power_BxTxK), inside_BxTx1)
        plane["log_mel"] = log_mel_BxTxM
        plane["mfcc"] = log_mel_BxTxM @ dct_matrix(spec)
    if "zero_crossing_rate" in spec.planes:
        plane["zero_crossing_rate"] = zero_crossing_rate(spec, waveform_BxS, inside_BxS)
    if "energy" in spec.planes:
        plane["energy"] = _sum_of_frames(spec, _blocks(spec, waveform_BxS**2)) / spec.frame_length
    return {name: xp.where(inside_BxTx1, plane[name], np.float32(0)) for name in spec.planes}


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
    a, b = WINDOWS[spec.window]
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
