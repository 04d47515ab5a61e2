"""The synthetic voice: pitch, resonances and limits; emotions differ as in the table."""

import dataclasses

import numpy as np
import pytest

from data_prep.synthetic import voice

RATE = 16000
SYLLABLES = "mo la wa no"


@pytest.fixture(scope="module")
def speakers():
    return [voice.make_speaker(i, np.random.default_rng([i, 1])) for i in range(10)]


def speak_all(emotion, speakers, rate=RATE):
    return [
        voice.speak(SYLLABLES, emotion, s, np.random.default_rng([i, 2]), rate)
        for i, s in enumerate(speakers)
    ]


def median_pitch(waveform):
    import librosa

    pitch = librosa.yin(waveform, fmin=60, fmax=500, sr=RATE, frame_length=1024)
    loudness = librosa.feature.rms(y=waveform, frame_length=1024, hop_length=256)[0]
    return np.median(pitch[loudness > np.median(loudness)])


def test_has_the_pitch_of_its_speaker(speakers):
    """The mean pitch varies by about a semitone between clips, and accents add to that."""
    semitones = [
        12 * np.log2(median_pitch(waveform) / speaker.pitch)
        for waveform, speaker in zip(speak_all("NEU", speakers[:6]), speakers, strict=False)
    ]
    assert np.abs(semitones).max() < 5
    assert abs(np.mean(semitones)) < 2


def test_men_and_women_differ(speakers):
    men, women = speakers[::2], speakers[1::2]
    assert {s.sex for s in men} == {"Male"}
    assert {s.sex for s in women} == {"Female"}
    assert np.mean([s.pitch for s in women]) > 1.4 * np.mean([s.pitch for s in men])
    assert np.mean([s.tract for s in women]) > 1.05 * np.mean([s.tract for s in men])


def test_anger_is_louder_brighter_and_quicker_than_sadness(speakers):
    def cues(emotion):
        waveforms = speak_all(emotion, speakers)
        power = [np.abs(np.fft.rfft(w)) ** 2 for w in waveforms]
        bright = [
            p[np.fft.rfftfreq(len(w), 1 / RATE) > 1000].sum() / p.sum()
            for p, w in zip(power, waveforms, strict=True)
        ]
        loud = [10 * np.log10(np.mean(w**2)) for w in waveforms]
        return np.mean(loud), np.mean(bright), -np.mean([len(w) for w in waveforms])

    anger, sadness = cues("ANG"), cues("SAD")
    assert anger[0] > sadness[0] + 6
    assert anger[1] > 2 * sadness[1]
    assert anger[2] > sadness[2]


@pytest.mark.parametrize("rate", [8000, 22050, 48000])
def test_speaks_at_any_rate(speakers, rate):
    """The clip is the same except for frequencies above half the rate."""
    (low,), (reference,) = speak_all("NEU", speakers[:1], rate), speak_all("NEU", speakers[:1])
    assert len(low) / rate == pytest.approx(len(reference) / RATE, abs=1e-3)
    assert low.std() == pytest.approx(reference.std(), rel=0.1)


def test_a_loud_speaker_does_not_clip(speakers):
    loud = dataclasses.replace(speakers[0], gain=40.0)
    (waveform,) = speak_all("ANG", [loud])
    assert np.abs(waveform).max() == pytest.approx(voice.PEAK)


@pytest.mark.parametrize(("rate", "seconds"), [(0.2, 2.2), (20.0, 1.0)])
def test_slow_and_fast_speakers_stay_within_the_limits(speakers, rate, seconds):
    (waveform,) = speak_all("NEU", [dataclasses.replace(speakers[0], rate=rate)])
    assert len(waveform) == round(seconds * RATE)


def test_starts_and_ends_in_near_silence(speakers):
    for waveform in speak_all("NEU", speakers):
        edges = np.concatenate([waveform[:400], waveform[-400:]])
        assert np.abs(edges).max() < 0.1 * np.abs(waveform).max()
        assert waveform[0] == waveform[-1] == 0


def test_tract_resonates_at_its_formants():
    hertz_B = np.arange(0, 8000, 5.0)
    formants = (500.0, 1500.0, 2500.0, *voice.HIGHER_FORMANTS)
    gain_B = np.abs(voice._tract(hertz_B, np.array([formants])))[0]
    inner = gain_B[1:-1]
    peaks = hertz_B[1:-1][(inner > gain_B[:-2]) & (inner > gain_B[2:])]
    assert gain_B[0] == pytest.approx(1)
    np.testing.assert_allclose(peaks[:3], formants[:3], atol=20)


def test_overlap_add_drops_samples_outside():
    pieces = np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0], [100.0, 200.0, 300.0]])
    sum_S = voice._overlap_add(pieces, np.array([-1, 1, 3]), 4)
    np.testing.assert_array_equal(sum_S, [2, 13, 20, 130])
