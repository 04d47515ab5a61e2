"""Time stretch and pitch shift as librosa.effects makes them, without its loop over angles.

A phase vocoder (Flanagan and Golden, 1966; the form of D. P. W. Ellis, 2002): magnitudes are
interpolated between frames, and each bin turns on from one frame of the result to the next as far
as it turned between the two frames of the clip. librosa takes angles, wraps the turn and adds it
up. Wrapping adds whole turns, so here unit phasors are multiplied instead: the same result with no
angle, and no sum that grows. librosa adds the phase up in float32, where it reaches 10⁵ radians:
its results lie 60 dB above the difference between these and what librosa gives for float64.

Shapes: S samples, T frames, K FFT bins, L samples a frame.
"""

import functools

import numpy as np

from ser_jax.audio import waveform

N_FFT = 2048  # librosa's defaults
HOP = N_FFT // 4


class PhaseVocoder:
    """A clip, analysed once, when it is first asked for anything."""

    def __init__(self, waveform_S: np.ndarray):
        """Takes float32, not empty."""
        self._waveform_S = waveform_S

    def time_stretch(self, rate: float) -> np.ndarray:
        """Changes the length and keeps the pitch, as librosa.effects.time_stretch.

        Args:
          rate: above 0; 2 is twice as fast.

        Returns:
          float32 [round(S / rate)].
        """
        n_samples = round(len(self._waveform_S) / rate)
        bins_TxK = self._stretch(rate)
        return _synthesise(bins_TxK[: -(-(n_samples + N_FFT) // HOP)], n_samples)

    def pitch_shift(self, sampling_rate: int, semitones: float) -> np.ndarray:
        """Moves the pitch and keeps the length, as librosa.effects.pitch_shift.

        Args:
          sampling_rate: Hz.
          semitones: above 0 is up.

        Returns:
          float32 [S].
        """
        rate = 2.0 ** (-semitones / 12)
        shifted_S = waveform.resample(self.time_stretch(rate), sampling_rate / rate, sampling_rate)
        return _fit(shifted_S, len(self._waveform_S))

    @functools.cached_property
    def _moves(self) -> tuple[np.ndarray, ...]:
        """Of each frame its magnitude, and how far that grows and the phasor turns to the next.

        Two silent frames stand after the last. The phasor of the first comes as the last array.
        """
        bins_TxK = _analyse(self._waveform_S)
        magnitude_TxK = np.sqrt(bins_TxK.real**2 + bins_TxK.imag**2)
        phasor_TxK = bins_TxK / np.maximum(magnitude_TxK, np.finfo(np.float32).tiny)
        silent = magnitude_TxK == 0
        if silent.any():  # the angle of +0 is 0, of −0 it is π
            phasor_TxK[silent] = np.copysign(1, bins_TxK.real[silent])
        magnitude_TxK = np.pad(magnitude_TxK, ((0, 2), (0, 0)))
        phasor_TxK = np.pad(phasor_TxK, ((0, 2), (0, 0)), constant_values=1)
        turn_TxK = phasor_TxK[1:] * phasor_TxK[:-1].conj()
        return magnitude_TxK, np.diff(magnitude_TxK, axis=0), turn_TxK, phasor_TxK[0]

    def _stretch(self, rate: float) -> np.ndarray:
        """The STFT at every rate-th frame, magnitude and turn between the frames on either side."""
        magnitude_TxK, growth_TxK, turn_TxK, first_K = self._moves
        position_T = np.arange(0, len(magnitude_TxK) - 2, rate, dtype=np.float64)
        before_T = position_T.astype(int)
        weight_T = (position_T - before_T).astype(np.float32)
        stretched_TxK = np.empty((len(position_T), len(first_K)), np.complex64)
        phase_K, row_K = first_K.copy(), np.empty(len(first_K), np.float32)
        # A row is small enough to stay in the nearest cache through all of its steps, so this loop
        # is faster than the same steps on whole arrays.
        for t, (i, weight) in enumerate(zip(before_T, weight_T, strict=True)):
            np.multiply(growth_TxK[i], weight, out=row_K)
            row_K += magnitude_TxK[i]
            np.multiply(phase_K, row_K, out=stretched_TxK[t])
            phase_K *= turn_TxK[i]
        return stretched_TxK


def _analyse(waveform_S: np.ndarray) -> np.ndarray:
    """STFT of frames centred on every HOP-th sample, complex64 [T, K].

    In float64: where a bin all but vanishes, its phase is what rounding has left of it.
    """
    import scipy.fft

    padded_S = np.zeros(len(waveform_S) + N_FFT)
    padded_S[N_FFT // 2 : -N_FFT // 2] = waveform_S
    frames_TxL = np.lib.stride_tricks.sliding_window_view(padded_S, N_FFT)[::HOP]
    return scipy.fft.rfft(frames_TxL * _window(), overwrite_x=True).astype(np.complex64)


def _synthesise(bins_TxK: np.ndarray, n_samples: int) -> np.ndarray:
    """The inverse of _analyse, float32 [n_samples]: overlapping frames, weighted and added."""
    import scipy.fft

    frames_TxL = scipy.fft.irfft(bins_TxK, overwrite_x=True)
    frames_TxL *= _window().astype(np.float32)
    waveform_S = _overlap_add(frames_TxL) / _weight(len(frames_TxL))
    return _fit(waveform_S[N_FFT // 2 :], n_samples)


def _overlap_add(frames_TxL: np.ndarray) -> np.ndarray:
    n_frames, hops_a_frame = len(frames_TxL), N_FFT // HOP
    sum_NxH = np.zeros((n_frames + hops_a_frame - 1, HOP), np.float32)
    for k in range(hops_a_frame):
        sum_NxH[k : k + n_frames] += frames_TxL[:, k * HOP : (k + 1) * HOP]
    return sum_NxH.reshape(-1)


def _fit(waveform_S: np.ndarray, n_samples: int) -> np.ndarray:
    """Cuts a waveform, or puts zeros after it."""
    return np.pad(waveform_S[:n_samples], (0, max(0, n_samples - len(waveform_S))))


@functools.cache
def _window() -> np.ndarray:
    """Hann, periodic: float64 [L]."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)


@functools.lru_cache(maxsize=64)
def _weight(n_frames: int) -> np.ndarray:
    """The sum of the squared windows over the samples of some frames; 1 where it vanishes."""
    square_TxL = np.broadcast_to(_window().astype(np.float32) ** 2, (n_frames, N_FFT))
    weight_S = _overlap_add(square_TxL)
    return np.where(weight_S > np.finfo(np.float32).tiny, weight_S, 1)
