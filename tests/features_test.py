"""Every feature equals librosa's, clip by clip, in any batch."""

import dataclasses

import jax
import jax.numpy as jnp
import librosa
import numpy as np
import pytest

from ser_jax import features
from ser_jax.audio import waveform
from ser_jax.common.errors import UserError
from ser_jax.features import FeatureSpec, spectral

REFERENCE = FeatureSpec()
LIBROSA = FeatureSpec(
    pre_emphasis=0.0, frame_length=2048, hop_length=512, n_fft=2048, window="hann", n_mels=128
)
SPECS = {
    "reference": REFERENCE,
    "librosa": LIBROSA,
    "htk": dataclasses.replace(REFERENCE, mel_scale="htk", f_min=50.0, f_max=7000.0, top_db=0.0),
    "not centred": dataclasses.replace(LIBROSA, centered=False),
    "odd hop": dataclasses.replace(REFERENCE, hop_length=147, sampling_rate=22_050),
}


def voice(n_samples: int, seed: int) -> np.ndarray:
    """Return a harmonic sound with noise: sign changes, quiet stretches and a wide spectrum."""
    random = np.random.default_rng(seed)
    t = np.arange(n_samples) / 16_000
    tone = sum(np.sin(2 * np.pi * 140 * k * t + k) / k for k in range(1, 20))
    loudness = np.maximum(0, np.sin(2 * np.pi * 1.7 * t))
    return (0.1 * tone * loudness + 0.001 * random.standard_normal(n_samples)).astype(np.float32)


def librosa_features(spec: FeatureSpec, x: np.ndarray) -> dict[str, np.ndarray]:
    y = librosa.effects.preemphasis(x, coef=spec.pre_emphasis, zi=[0.0])
    mel = librosa.feature.melspectrogram(
        y=y,
        sr=spec.sampling_rate,
        n_fft=spec.n_fft,
        hop_length=spec.hop_length,
        win_length=spec.frame_length,
        window=spec.window,
        center=spec.centered,
        n_mels=spec.n_mels,
        fmin=spec.f_min,
        fmax=spec.f_max or None,
        htk=spec.mel_scale == "htk",
    )
    log_mel = librosa.power_to_db(mel, top_db=spec.top_db or None)
    frames = {"frame_length": spec.frame_length, "hop_length": spec.hop_length}
    frames["center"] = spec.centered
    return {
        "log_mel": log_mel.T,
        "mfcc": librosa.feature.mfcc(S=log_mel, n_mfcc=spec.n_mfcc).T,
        "zero_crossing_rate": librosa.feature.zero_crossing_rate(x, **frames).T,
        "energy": librosa.feature.rms(y=x, **frames).T ** 2,
    }


def assert_equals_librosa(spec: FeatureSpec, clips: list[np.ndarray]) -> None:
    lengths = np.array([len(x) for x in clips])
    batch = np.full((len(clips), lengths.max() + 777), 9.9, np.float32)  # garbage past the end
    for row, x in zip(batch, clips, strict=True):
        row[: len(x)] = x
    actual = jax.device_get(features.extract(spec, batch, lengths))  # else slicing compiles
    tolerance = {"log_mel": 2e-3, "mfcc": 5e-3, "zero_crossing_rate": 1e-7, "energy": 1e-8}
    for i, x in enumerate(clips):
        for name, expected in librosa_features(spec, x).items():
            n = spec.n_frames(len(x))
            assert expected.shape == (n, spec.width(name))
            np.testing.assert_allclose(
                actual[name][i, :n], expected, rtol=2e-5, atol=tolerance[name]
            )
            assert not np.any(actual[name][i, n:]), "frames past the end are zero"


@pytest.mark.parametrize("name", SPECS)
def test_equals_librosa(name):
    assert_equals_librosa(SPECS[name], [voice(24_000, 0), voice(31_111, 1), voice(8_001, 2)])


@pytest.mark.parametrize("name", SPECS)
def test_numpy_and_jax_compute_the_same(name):
    spec = SPECS[name]
    n_samples_B = np.array([24_000, 31_111, 300, 0])  # one shorter than a frame, one empty
    batch = np.full((4, 32_000), 9.9, np.float32)
    for seed, (row_S, n_samples) in enumerate(zip(batch, n_samples_B, strict=True)):
        row_S[:n_samples] = voice(n_samples, seed)
    by_numpy = features.extract(spec, batch, n_samples_B)
    by_jax = features.extract(spec, jnp.asarray(batch), jnp.asarray(n_samples_B))
    tolerance = {"log_mel": 2e-3, "mfcc": 5e-3, "zero_crossing_rate": 1e-7, "energy": 1e-8}
    for plane in spec.planes:
        assert isinstance(by_numpy[plane], np.ndarray) and by_numpy[plane].dtype == np.float32
        assert isinstance(by_jax[plane], jax.Array)
        np.testing.assert_allclose(
            by_numpy[plane], by_jax[plane], rtol=2e-5, atol=tolerance[plane], err_msg=plane
        )


def test_equals_librosa_on_real_recordings(shared_data):
    paths = sorted((shared_data / "crema_d" / "AudioWAV").glob("*.wav"))
    assert len(paths) == 16
    for spec in (REFERENCE, LIBROSA):
        assert_equals_librosa(spec, [waveform.load(p, spec.sampling_rate) for p in paths])


def test_librosa_mfcc_with_default_settings_can_be_reproduced():
    x = voice(20_000, 3)
    mfcc = features.extract(LIBROSA, x[None], np.array([len(x)]))["mfcc"][0]
    expected = librosa.feature.mfcc(y=x, sr=16_000).T
    np.testing.assert_allclose(mfcc, expected, rtol=2e-5, atol=5e-3)


def test_filterbank_equals_librosa():
    expected = librosa.filters.mel(sr=16_000, n_fft=512, n_mels=64)
    np.testing.assert_allclose(spectral.mel_filterbank(REFERENCE), expected.T, atol=1e-7)


def test_mel_groups_leave_out_most_zeros():
    for spec in (REFERENCE, LIBROSA):
        n_values = sum(triangle_KxM.size for _, triangle_KxM in spectral._mel_groups(spec))
        assert n_values < spectral.mel_filterbank(spec).size / 4


def test_silence_is_finite():
    planes = features.extract(REFERENCE, np.zeros((1, 4000), np.float32), np.array([4000]))
    assert all(np.isfinite(x).all() for x in planes.values())


def test_vector_is_mfcc_then_rates_then_energies():
    x_BxTxF = np.arange(2 * 3 * 6, dtype=np.float32).reshape(2, 3, 6)
    vector = np.asarray(features.model_input(x_BxTxF, "vector"))
    assert vector.shape == (2, 18)
    np.testing.assert_array_equal(
        vector[0], [0, 1, 2, 3, 6, 7, 8, 9, 12, 13, 14, 15, 4, 10, 16, 5, 11, 17]
    )


@pytest.mark.parametrize(
    "settings",
    [{"n_fft": 256}, {"n_mfcc": 65}, {"window": "kaiser"}, {"f_max": 9000.0}, {"planes": ("mfc",)}],
)
def test_inconsistent_settings_are_refused(settings):
    with pytest.raises(UserError, match="settings do not fit"):
        FeatureSpec(**settings)
