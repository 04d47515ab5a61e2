"""Time stretch and pitch shift equal those of librosa in double precision."""

import librosa
import numpy as np
import pytest

from data_prep.augmentation.phase_vocoder import PhaseVocoder
from ser_jax.audio import waveform

RATE = 16_000
STRETCHES = (0.85, 0.97, 1.0, 1.15, 2.0)
SEMITONES = (-2.0, -0.3, 0.0, 1.7, 12.0)


def chirp(n_samples: int) -> np.ndarray:
    """A voice-like sweep: harmonics of a rising pitch, noise and a pause."""
    t_S = np.arange(n_samples) / RATE
    phase_S = 2 * np.pi * (140 * t_S + 40 * t_S**2)
    x_S = sum(np.sin(k * phase_S) / k for k in range(1, 20))
    x_S += 0.05 * np.random.default_rng(0).standard_normal(n_samples)
    x_S[n_samples // 3 : n_samples // 2] = 0
    return (0.1 * x_S).astype(np.float32)


def difference_db(ours_S: np.ndarray, theirs_S: np.ndarray) -> float:
    """Level of the difference, dB re librosa's result."""
    assert ours_S.dtype == np.float32 and ours_S.shape == theirs_S.shape
    theirs_S = theirs_S.astype(np.float64)
    return 10 * np.log10(np.mean((ours_S - theirs_S) ** 2) / np.mean(theirs_S**2) + 1e-30)


def librosa_time_stretch(x_S: np.ndarray, rate: float) -> np.ndarray:
    """librosa.effects.time_stretch in float64, with silence after the last frame.

    Up to librosa 0.11 the phase vocoder appends the two silent frames; since 1.0 it does not.
    """
    bins_KxT = librosa.stft(x_S.astype(np.float64))
    n_frames = len(np.arange(0, bins_KxT.shape[1], rate))
    stretched_KxT = librosa.phase_vocoder(np.pad(bins_KxT, ((0, 0), (0, 2))), rate=rate)
    return librosa.istft(stretched_KxT[:, :n_frames], length=round(len(x_S) / rate))


@pytest.mark.parametrize("rate", STRETCHES)
@pytest.mark.parametrize("n_samples", [RATE + 123, 5_000])
def test_time_stretch_equals_librosa(rate, n_samples):
    x_S = chirp(n_samples)
    theirs_S = librosa_time_stretch(x_S, rate)
    assert difference_db(PhaseVocoder(x_S).time_stretch(rate), theirs_S) < -80


@pytest.mark.parametrize("semitones", SEMITONES)
def test_pitch_shift_equals_librosa(semitones):
    x_S, rate = chirp(RATE), 2.0 ** (-semitones / 12)
    theirs_S = librosa.resample(
        librosa_time_stretch(x_S, rate), orig_sr=RATE / rate, target_sr=RATE, res_type="soxr_hq"
    )
    theirs_S = librosa.util.fix_length(theirs_S, size=len(x_S))
    assert difference_db(PhaseVocoder(x_S).pitch_shift(RATE, semitones), theirs_S) < -60


def test_clips_shorter_than_a_frame_and_silence():
    assert len(PhaseVocoder(chirp(100)).time_stretch(0.5)) == 200
    assert len(PhaseVocoder(chirp(1)).pitch_shift(RATE, 2.0)) == 1
    assert not PhaseVocoder(np.zeros(3_000, np.float32)).time_stretch(1.1).any()


def test_time_stretch_of_real_recordings_equals_librosa(shared_data):
    for path in sorted((shared_data / "crema_d" / "AudioWAV").glob("*.wav"))[:4]:
        x_S = waveform.load(path, RATE)
        theirs_S = librosa_time_stretch(x_S, 0.93)
        assert difference_db(PhaseVocoder(x_S).time_stretch(0.93), theirs_S) < -80, path
