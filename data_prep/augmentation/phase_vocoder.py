"""Time stretch and pitch shift, equal to librosa.effects and faster.

The idea: a phase vocoder (Flanagan and Golden, 1966; in the form of D. P. W. Ellis, 2002) reads the
STFT at positions `rate` frames apart. Magnitudes are interpolated between the two frames around a
position, and the phase of each bin advances by the difference between those two frames.

Why it is fast: librosa takes angles, wraps each advance to ±π and accumulates it. Wrapping adds
whole turns only, so multiplying unit phasors gives the same phases without arctangent, sine or
cosine. The pitch shift and the time stretch of a clip share its STFT.

What it equals: librosa 0.11 in float64, up to rounding; librosa 1.0 lets the last frame go on where
both fade into silence. In float32 librosa accumulates phases up to 10⁵ radians, and its own
rounding error is 60 dB above the difference between the two.

Shapes: S samples, T frames, K frequency bins, L samples per frame, N hops, H samples per hop.
"""

import functools

import numpy as np

from ser_jax.audio import waveform

N_FFT = 2048  # librosa's defaults
HOP = N_FFT // 4


class PhaseVocoder:
    """Stretches and shifts one clip, whose STFT is computed once, on first use."""

    def __init__(self, waveform_S: np.ndarray):
        """Take a float32 waveform of at least one sample."""
        self._waveform_S = waveform_S

    def time_stretch(self, rate: float) -> np.ndarray:
        """Change the length and keep the pitch, as librosa.effects.time_stretch does.

        Args:
          rate: above 0; 2 is twice as fast.

        Returns:
          float32 [round(S / rate)].
        """
        n_samples = round(len(self._waveform_S) / rate)
        return _istft(self._stretch(rate)[: -(-(n_samples + N_FFT) // HOP)], n_samples)

    def pitch_shift(self, sampling_rate: int, semitones: float) -> np.ndarray:
        """Change the pitch and keep the length, as librosa.effects.pitch_shift does.

        Args:
          sampling_rate: Hz.
          semitones: above 0 is up.

        Returns:
          float32 [S].
        """
        rate = 2.0 ** (-semitones / 12)
        shifted_S = waveform.resample(self.time_stretch(rate), sampling_rate / rate, sampling_rate)
        return _fit(shifted_S, len(self._waveform_S))

    def _stretch(self, rate: float) -> np.ndarray:
        """Return the STFT read at every rate-th frame, complex64 [T, K]."""
        magnitude_TxK, growth_TxK, turn_TxK, first_K = self._frames
        position_T = np.arange(0, len(magnitude_TxK) - 2, rate, dtype=np.float64)
        before_T = position_T.astype(int)
        weight_T = (position_T - before_T).astype(np.float32)
        stretched_TxK = np.empty((len(position_T), len(first_K)), np.complex64)
        phasor_K, magnitude_K = first_K.copy(), np.empty(len(first_K), np.float32)
        # A frame stays in the fastest cache, so this loop beats the same steps on whole arrays.
        for t, (i, weight) in enumerate(zip(before_T, weight_T, strict=True)):
            np.multiply(growth_TxK[i], weight, out=magnitude_K)
            magnitude_K += magnitude_TxK[i]
            np.multiply(phasor_K, magnitude_K, out=stretched_TxK[t])
            phasor_K *= turn_TxK[i]
        return stretched_TxK

    @functools.cached_property
    def _frames(self) -> tuple[np.ndarray, ...]:
        """The clip's STFT in polar form, followed by two silent frames.

        Magnitudes [T, K], their growth and the turn of the phasors from each frame to the next
        [T - 1, K], and the phasors of the first frame [K].
        """
        bins_TxK = _stft(self._waveform_S)
        magnitude_TxK = np.sqrt(bins_TxK.real**2 + bins_TxK.imag**2)
        phasor_TxK = bins_TxK / np.maximum(magnitude_TxK, np.finfo(np.float32).tiny)
        silent = magnitude_TxK == 0
        if silent.any():  # the angle of +0 is 0, that of −0 is π
            phasor_TxK[silent] = np.copysign(1, bins_TxK.real[silent])
        magnitude_TxK = np.pad(magnitude_TxK, ((0, 2), (0, 0)))
        phasor_TxK = np.pad(phasor_TxK, ((0, 2), (0, 0)), constant_values=1)
        turn_TxK = phasor_TxK[1:] * phasor_TxK[:-1].conj()
        return magnitude_TxK, np.diff(magnitude_TxK, axis=0), turn_TxK, phasor_TxK[0]


def _stft(waveform_S: np.ndarray) -> np.ndarray:
    """Return the STFT of frames centred on every HOP-th sample, complex64 [T, K].

    It is computed in float64: the phase of a bin close to zero depends on rounding.
    """
    import scipy.fft

    padded_S = np.zeros(len(waveform_S) + N_FFT)
    padded_S[N_FFT // 2 : -N_FFT // 2] = waveform_S
    frames_TxL = np.lib.stride_tricks.sliding_window_view(padded_S, N_FFT)[::HOP]
    return scipy.fft.rfft(frames_TxL * _window(), overwrite_x=True).astype(np.complex64)


def _istft(bins_TxK: np.ndarray, n_samples: int) -> np.ndarray:
    """Return the waveform of an STFT, float32 [n_samples], by windowed overlap-add."""
    import scipy.fft

    frames_TxL = scipy.fft.irfft(bins_TxK, overwrite_x=True)
    frames_TxL *= _window().astype(np.float32)
    waveform_S = _overlap_add(frames_TxL) / _weight(len(frames_TxL))
    return _fit(waveform_S[N_FFT // 2 :], n_samples)


def _overlap_add(frames_TxL: np.ndarray) -> np.ndarray:
    n_frames, hops_per_frame = len(frames_TxL), N_FFT // HOP
    sum_NxH = np.zeros((n_frames + hops_per_frame - 1, HOP), np.float32)
    for k in range(hops_per_frame):
        sum_NxH[k : k + n_frames] += frames_TxL[:, k * HOP : (k + 1) * HOP]
    return sum_NxH.reshape(-1)


def _fit(waveform_S: np.ndarray, n_samples: int) -> np.ndarray:
    """Cut a waveform, or pad it with zeros at its end, to n_samples."""
    return np.pad(waveform_S[:n_samples], (0, max(0, n_samples - len(waveform_S))))


@functools.cache
def _window() -> np.ndarray:
    """Return the periodic Hann window, float64 [L]."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)


@functools.lru_cache(maxsize=64)
def _weight(n_frames: int) -> np.ndarray:
    """Return the overlap-add of n_frames squared windows, with 1 in place of 0."""
    square_TxL = np.broadcast_to(_window().astype(np.float32) ** 2, (n_frames, N_FFT))
    weight_S = _overlap_add(square_TxL)
    return np.where(weight_S > np.finfo(np.float32).tiny, weight_S, 1)
