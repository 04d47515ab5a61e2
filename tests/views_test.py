"""Views have the stated noise, pitch and length, and are reproducible."""

import numpy as np
import pytest

from data_prep.augmentation.views import VIEWS, Augmentation, augment
from ser_jax.common.errors import UserError

RATE = 16_000


def tone(hz: float = 220.0, seconds: float = 1.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(int(RATE * seconds)) / RATE)).astype(np.float32)


def pitch(x: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(x * np.hanning(len(x)), n=8 * len(x)))
    return np.argmax(spectrum) * RATE / (8 * len(x))


def test_noise_has_the_requested_snr():
    x = tone()
    noise = augment(Augmentation(snr_db=(20.0, 20.0)), "noise", x, RATE, "a") - x
    assert 10 * np.log10(np.mean(x**2) / np.mean(noise**2)) == pytest.approx(20, abs=0.2)


def test_pitch_shift_changes_the_pitch_and_keeps_the_length():
    shifted = augment(Augmentation(semitones=(2.0, 2.0)), "pitch", tone(), RATE, "a")
    assert len(shifted) == RATE
    assert pitch(shifted) == pytest.approx(220 * 2 ** (2 / 12), rel=0.01)


def test_time_stretch_changes_the_length_and_keeps_the_pitch():
    stretched = augment(Augmentation(rate=(0.8, 0.8)), "stretch", tone(), RATE, "a")
    assert len(stretched) == pytest.approx(RATE / 0.8, rel=0.01)
    assert pitch(stretched) == pytest.approx(220, rel=0.01)


@pytest.mark.parametrize("view", VIEWS)
def test_depends_on_seed_and_clip_only(view):
    def make(seed: int, clip: str) -> np.ndarray:
        return augment(Augmentation(seed=seed), view, tone(), RATE, clip)

    first = make(0, "a")
    make(0, "b")  # must not change the next result
    np.testing.assert_array_equal(first, make(0, "a"))
    assert not np.array_equal(first, make(0, "b"))
    assert not np.array_equal(first, make(1, "a"))
    assert first.dtype == np.float32


@pytest.mark.parametrize("view", VIEWS)
def test_silence_stays_finite(view):
    assert np.isfinite(augment(Augmentation(), view, np.zeros(RATE, np.float32), RATE, "a")).all()


def test_unknown_view_and_reversed_range_are_refused():
    with pytest.raises(UserError, match="views"):
        Augmentation(views=("echo",))
    with pytest.raises(UserError, match="lowest, highest"):
        Augmentation(snr_db=(30.0, 10.0))
