"""The seven steps of the MFCC, zero-crossing rate and energy of frames.

Values agree with librosa's to float32 accuracy. The same code runs in NumPy or JAX, depending on
the type of the waveform.

Shapes: B batch, S samples, T frames, L samples per frame, K FFT bins, M mel bands, F columns,
N blocks, G samples per block.
"""

import functools
import math

import numpy as np

from ser_jax.features.spec import WINDOWS, Array, FeatureSpec

_SMALLEST_POWER = 1e-10  # as in librosa.power_to_db
_SMALLEST_SAMPLE = 1e-10  # smaller samples count as zero, as in librosa.zero_crossings
_BANDS_PER_GROUP = 8


def planes(spec: FeatureSpec, waveform_BxS: Array, n_samples_B: Array) -> dict[str, Array]:
    """Return the planes of a batch as `extraction.extract` does, in arrays of the input's type."""
    xp, n_samples = waveform_BxS.__array_namespace__(), waveform_BxS.shape[1]
    inside_BxS = xp.arange(n_samples) < n_samples_B[:, None]
    waveform_BxS = xp.where(inside_BxS, waveform_BxS, np.float32(0))
    n_frames_B = spec.n_frames(n_samples_B)
    inside_BxTx1 = (xp.arange(spec.n_frames(n_samples)) < n_frames_B[:, None])[..., None]

    plane = {}
    if "mfcc" in spec.planes or "log_mel" in spec.planes:
        # The log-mel spectrogram is the MFCC without the last step.
        emphasised_BxS = xp.where(inside_BxS, pre_emphasise(spec, waveform_BxS), np.float32(0))
        windowed_BxTxL = frame(spec, emphasised_BxS) * window(spec)
        power_BxTxK = power(spec, windowed_BxTxL)
        log_mel_BxTxM = to_decibel(spec, to_mel(spec, power_BxTxK), inside_BxTx1)
        plane["log_mel"] = log_mel_BxTxM
        plane["mfcc"] = log_mel_BxTxM @ dct_matrix(spec)
    for name in WAVEFORM_PLANES.keys() & set(spec.planes):
        plane[name] = WAVEFORM_PLANES[name](spec, waveform_BxS, inside_BxS)
    return {name: xp.where(inside_BxTx1, plane[name], np.float32(0)) for name in spec.planes}


def pre_emphasise(spec: FeatureSpec, waveform_BxS: Array) -> Array:
    """Step 1: y[n] = x[n] − a·x[n−1] compensates for the spectral tilt of the voice source."""
    return waveform_BxS - spec.pre_emphasis * _zero_padded(waveform_BxS, 1, 0)[:, :-1]


def frame(spec: FeatureSpec, signal_BxS: Array) -> Array:
    """Step 2: split [B, S] into overlapping frames [B, T, L], zero-padded at the ends of a clip."""
    xp = signal_BxS.__array_namespace__()
    return xp.concatenate(_of_frames(spec, _blocks(spec, signal_BxS)), axis=-1)


def _sum_of_frames(spec: FeatureSpec, blocks_BxNxG: Array) -> Array:
    """Return the sum of the samples of each frame [B, T, 1]."""
    # Sums of blocks are shared by the frames that overlap.
    return sum(_of_frames(spec, blocks_BxNxG.sum(-1, keepdims=True)))


def _blocks(spec: FeatureSpec, signal_BxS: Array) -> Array:
    """Split [B, S] into blocks [B, N, G], with G the greatest common divisor of hop and frame.

    Frames are then strided slices of blocks, far cheaper than a gather.
    """
    block = math.gcd(spec.hop_length, spec.frame_length)
    n_given = signal_BxS.shape[1]
    n_taken = spec.n_frames(n_given) * spec.hop_length + spec.frame_length
    left = spec.frame_length // 2 if spec.centered else 0
    padded = _zero_padded(signal_BxS, left, max(0, n_taken - n_given - left))[:, :n_taken]
    return padded.reshape(padded.shape[0], -1, block)


def _zero_padded(signal_BxS: Array, n_before: int, n_after: int) -> Array:
    xp, n = signal_BxS.__array_namespace__(), signal_BxS.shape[0]  # xp.pad is four times slower
    before, after = (xp.zeros((n, k), signal_BxS.dtype) for k in (n_before, n_after))
    return xp.concatenate([before, signal_BxS, after], axis=1)


def _of_frames(spec: FeatureSpec, blocks_BxNx_: Array) -> list[Array]:
    """Return, for each block position in a frame, the blocks of all frames [B, T, ...]."""
    block = math.gcd(spec.hop_length, spec.frame_length)
    blocks_per_hop, blocks_per_frame = spec.hop_length // block, spec.frame_length // block
    n_frames = (blocks_BxNx_.shape[1] - blocks_per_frame) // blocks_per_hop
    return [blocks_BxNx_[:, k::blocks_per_hop][:, :n_frames] for k in range(blocks_per_frame)]


@functools.cache
def window(spec: FeatureSpec) -> np.ndarray:
    """Step 3: return the window [L], periodic as is usual in spectral analysis."""
    a, b = WINDOWS[spec.window]
    phase_L = 2 * np.pi * np.arange(spec.frame_length) / spec.frame_length
    return (a - b * np.cos(phase_L)).astype(np.float32)


def power(spec: FeatureSpec, windowed_BxTxL: Array) -> Array:
    """Step 4: return the power spectrum [B, T, K]."""
    if not isinstance(windowed_BxTxL, np.ndarray):
        xp = windowed_BxTxL.__array_namespace__()
        return xp.abs(xp.fft.rfft(windowed_BxTxL, n=spec.n_fft)) ** 2
    from scipy import fft  # eight times faster than NumPy's

    spectrum_BxTxK = fft.rfft(windowed_BxTxL, n=spec.n_fft)
    return spectrum_BxTxK.real**2 + spectrum_BxTxK.imag**2


@functools.cache
def mel_filterbank(spec: FeatureSpec) -> np.ndarray:
    """Step 5: return the triangular filters [K, M], evenly spaced in mel, each of unit area."""
    f_max = spec.f_max or spec.sampling_rate / 2
    low, high = hz_to_mel(np.array([spec.f_min, f_max]), spec.mel_scale)
    edges = mel_to_hz(np.linspace(low, high, spec.n_mels + 2), spec.mel_scale)
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    bin_Kx1 = np.fft.rfftfreq(spec.n_fft, 1 / spec.sampling_rate)[:, None]
    rising, falling = (bin_Kx1 - lower) / (centre - lower), (upper - bin_Kx1) / (upper - centre)
    triangle_KxM = np.maximum(0, np.minimum(rising, falling))
    return (triangle_KxM * 2 / (upper - lower)).astype(np.float32)


def to_mel(spec: FeatureSpec, power_BxTxK: Array) -> Array:
    """Step 5: apply the mel filterbank, [B, T, K] → [B, T, M]."""
    if not isinstance(power_BxTxK, np.ndarray):
        return power_BxTxK @ mel_filterbank(spec)
    return np.concatenate(
        [power_BxTxK[..., bins] @ triangle_KxM for bins, triangle_KxM in _mel_groups(spec)], axis=-1
    )


@functools.cache
def _mel_groups(spec: FeatureSpec) -> list[tuple[slice, np.ndarray]]:
    """Return the filterbank by groups of bands, each with its non-zero range of bins.

    Seven eighths of the full matrix are zeros. The products are also too small for BLAS to start
    threads, which would compete where several clips are computed at once.
    """
    bank_KxM, groups = mel_filterbank(spec), []
    for first in range(0, spec.n_mels, _BANDS_PER_GROUP):
        group_KxM = bank_KxM[:, first : first + _BANDS_PER_GROUP]
        nonzero = np.flatnonzero(group_KxM.any(axis=1))
        # Very narrow bands may lie between two bins.
        bins = slice(nonzero[0], nonzero[-1] + 1) if len(nonzero) else slice(0)
        groups.append((bins, np.ascontiguousarray(group_KxM[bins])))
    return groups


def to_decibel(spec: FeatureSpec, power_BxTxM: Array, inside_BxTx1: Array) -> Array:
    """Step 6: convert power to dB, with a floor `top_db` below the peak of the clip."""
    xp = power_BxTxM.__array_namespace__()
    decibel = 10 * xp.log10(xp.maximum(power_BxTxM, _SMALLEST_POWER))
    if not spec.top_db:
        return decibel
    peak_B = xp.max(decibel, axis=(1, 2), where=inside_BxTx1, initial=-xp.inf, keepdims=True)
    return xp.maximum(decibel, peak_B - spec.top_db)


@functools.cache
def dct_matrix(spec: FeatureSpec) -> np.ndarray:
    """Step 7: return the first n_mfcc columns of the orthonormal DCT-II [M, F]."""
    angle_MxF = np.pi * np.outer(np.arange(spec.n_mels) + 0.5, np.arange(spec.n_mfcc)) / spec.n_mels
    scale_F = np.where(np.arange(spec.n_mfcc) == 0, 1, 2)
    return (np.cos(angle_MxF) * np.sqrt(scale_F / spec.n_mels)).astype(np.float32)


def zero_crossing_rate(spec: FeatureSpec, waveform_BxS: Array, inside_BxS: Array) -> Array:
    """Return the sign changes within each frame, per sample [B, T, 1]."""
    xp = waveform_BxS.__array_namespace__()
    negative_BxS = waveform_BxS < -_SMALLEST_SAMPLE
    before_BxS = xp.concatenate([negative_BxS[:, :1], negative_BxS[:, :-1]], axis=1)
    crossing_BxS = ((negative_BxS != before_BxS) & inside_BxS).astype(xp.float32)
    # A crossing between a frame's first sample and the one before it is not within the frame.
    blocks_BxNxG = _blocks(spec, crossing_BxS)
    first_BxTx1 = _of_frames(spec, blocks_BxNxG)[0][..., :1]
    return (_sum_of_frames(spec, blocks_BxNxG) - first_BxTx1) / spec.frame_length


def energy(spec: FeatureSpec, waveform_BxS: Array, inside_BxS: Array) -> Array:
    """Return the mean square of each frame [B, T, 1]."""
    del inside_BxS  # samples past the end of a clip are zero
    return _sum_of_frames(spec, _blocks(spec, waveform_BxS**2)) / spec.frame_length


# Planes that are computed from the waveform: (spec, waveform_BxS, inside_BxS) → [B, T, F].
WAVEFORM_PLANES = {"zero_crossing_rate": zero_crossing_rate, "energy": energy}


def hz_to_mel(hz: np.ndarray, scale: str) -> np.ndarray:
    """HTK: 2595·log₁₀(1 + f/700). Slaney (Auditory Toolbox, 1998): linear to 1 kHz, then log."""
    if scale == "htk":
        return 2595 * np.log10(1 + hz / 700)
    above = 15 + 27 * np.log(np.maximum(hz, 1000) / 1000) / np.log(6.4)
    return np.where(hz < 1000, hz * 3 / 200, above)


def mel_to_hz(mel: np.ndarray, scale: str) -> np.ndarray:
    """Invert `hz_to_mel`."""
    if scale == "htk":
        return 700 * (10 ** (mel / 2595) - 1)
    return np.where(mel < 15, mel * 200 / 3, 1000 * 6.4 ** ((np.maximum(mel, 15) - 15) / 27))
