"""Source-filter synthesis of babble in an emotion.

A glottal pulse train with jitter, shimmer and spectral tilt, and noise are filtered by a vocal
tract of resonators (Fant, Acoustic Theory of Speech Production, 1960; Klatt, JASA 67(3):971, 1980).
Each pulse is filtered in the frequency domain by the tract at its instant and added in place.

The signs in EMOTIONS largely follow the reviews of Scherer (Speech Communication 40:227, 2003) and
Juslin & Laukka (Psychological Bulletin 129:770, 2003). The magnitudes, and all of disgust, are
arbitrary: they make a corpus that can be learnt, not a model of human voices.

Shapes: S samples, T control steps, P pulses, B frequency bins, K resonances, N samples of one
response.
"""

import dataclasses

import numpy as np
from scipy.fft import next_fast_len
from scipy.ndimage import gaussian_filter1d

STEP = 0.005  # seconds between control values
SHORTEST, LONGEST = 1.0, 2.2  # seconds per clip
PEAK = 0.95  # of full scale; louder clips are scaled down to it
LEVEL = -31.0  # dB re full scale: RMS of a neutral clip before the speaker's gain


@dataclasses.dataclass(frozen=True)
class Manner:
    """How a clip differs from its speaker's neutral voice; 0 is neutral."""

    pitch: float  # mean, semitones
    pitch_range: float  # octaves (1 doubles the pitch excursions)
    slope: float  # pitch, end minus start, semitones
    energy: float  # dB
    tempo: float  # octaves (1 doubles the syllable rate)
    tilt: float  # cutoff of the source's spectral tilt, octaves
    breath: float  # aspiration noise, dB
    jitter: float  # octaves
    pause: float  # octaves
    formants: float  # all resonances, per cent
    f1: float  # the first resonance in addition, per cent


#                      pitch range slope energy tempo tilt breath jitter pause formants f1
EMOTIONS = {
    "ANG": Manner(4.0, 0.7, -1.0, 7.0, 0.20, 1.4, -3.0, 0.4, -1.0, 0.0, 10.0),
    "DIS": Manner(-2.0, 0.2, -3.0, -1.0, -0.25, 0.5, 0.0, 1.0, 0.3, -7.0, 6.0),
    "FEA": Manner(5.0, -0.6, 2.0, -3.0, 0.30, -0.5, 7.0, 1.0, 0.3, 3.0, -8.0),
    "HAP": Manner(4.0, 1.0, 3.0, 4.0, 0.10, 0.6, -1.0, -0.3, -0.5, 7.0, 3.0),
    "NEU": Manner(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    "SAD": Manner(-2.0, -0.8, -2.0, -6.0, -0.30, -1.3, 6.0, 0.3, 1.0, -2.0, -4.0),
}
# Standard deviations: of a speaker's habits per emotion, and between clips of the same kind.
HABIT = Manner(0.7, 0.2, 0.7, 1.0, 0.05, 0.2, 1.0, 0.2, 0.2, 0.8, 1.2)
CHANCE = Manner(1.0, 0.3, 1.5, 1.6, 0.08, 0.3, 1.5, 0.3, 0.4, 1.2, 2.0)
INTENSITY = (1.0, 0.22)  # mean and standard deviation of the factor on a row of EMOTIONS


@dataclasses.dataclass(frozen=True)
class Speaker:
    """A synthetic speaker: a voice, a microphone and a room."""

    sex: str  # "Male" or "Female"
    age: int  # years
    pitch: float  # Hz
    tract: float  # factor on all resonances, above 1 for a short tract
    rate: float  # factor on the syllable rate
    tilt: float  # octaves, see Manner
    breath: float  # aspiration noise, dB re the voice
    gain: float  # dB
    room_noise: float  # dB re full scale
    habits: dict[str, np.ndarray]  # emotion code → offsets, in the order of Manner's fields


def make_speaker(index: int, rng: np.random.Generator) -> Speaker:
    """Draw a speaker: a man for an even index, a woman for an odd one."""
    is_female = index % 2
    return Speaker(
        sex="Female" if is_female else "Male",
        age=int(rng.integers(20, 75)),
        pitch=(205.0 if is_female else 115.0) * 2 ** (rng.normal(0, 2.0) / 12),
        tract=(1.13 if is_female else 0.98) * np.exp(rng.normal(0, 0.035)),
        rate=0.92 * np.exp(rng.normal(0, 0.08)),
        tilt=rng.normal(-0.3 if is_female else 0.0, 0.3),
        breath=rng.normal(-22.0 if is_female else -25.0, 2.0),
        gain=rng.normal(0, 1.2),
        room_noise=rng.uniform(-68, -58),
        habits={code: rng.normal(0, dataclasses.astuple(HABIT)) for code in EMOTIONS},
    )


@dataclasses.dataclass(frozen=True)
class Phone:
    """A sound: its length, the formant targets and the excitation of the tract."""

    seconds: float
    formants: tuple[float, float, float]  # Hz, of an average adult man
    voice: float  # amplitude of the pulses
    noise: float = 0.0  # amplitude of the frication noise
    hiss: float = 4000.0  # Hz, the peak of that noise


VOWELS = {
    "a": Phone(0.13, (730, 1150, 2450), 1.0),
    "e": Phone(0.12, (500, 1850, 2500), 0.9),
    "i": Phone(0.11, (290, 2250, 2950), 0.7),
    "o": Phone(0.12, (490, 880, 2400), 0.9),
    "u": Phone(0.11, (310, 860, 2250), 0.7),
}
CONSONANTS = {
    "b": (Phone(0.05, (200, 900, 2200), 0.12), Phone(0.01, (300, 900, 2200), 0.2, 0.1, 900)),
    "d": (Phone(0.05, (200, 1700, 2600), 0.12), Phone(0.01, (300, 1700, 2600), 0.2, 0.1, 3500)),
    "k": (Phone(0.06, (250, 1900, 2300), 0.0), Phone(0.03, (350, 1900, 2300), 0.0, 0.3, 2000)),
    "p": (Phone(0.06, (250, 900, 2200), 0.0), Phone(0.02, (350, 900, 2200), 0.0, 0.2, 1000)),
    "t": (Phone(0.06, (250, 1700, 2600), 0.0), Phone(0.025, (350, 1700, 2600), 0.0, 0.3, 4200)),
    "s": (Phone(0.09, (300, 1700, 2600), 0.0, 0.35, 6000),),
    "f": (Phone(0.08, (300, 1000, 2200), 0.0, 0.12, 5000),),
    "l": (Phone(0.06, (350, 1200, 2700), 0.5),),
    "m": (Phone(0.06, (250, 1000, 2200), 0.35),),
    "n": (Phone(0.06, (250, 1600, 2500), 0.35),),
    "w": (Phone(0.06, (300, 700, 2200), 0.5),),
}
SILENCE = Phone(0.1, (500, 1500, 2500), 0.0)
HIGHER_FORMANTS = (3500.0, 4500.0, 5500.0, 6500.0, 7500.0)  # Hz, the same for all phones
BANDWIDTHS = (80.0, 90.0, 120.0, 180.0, 250.0, 300.0, 350.0, 400.0)  # Hz
PAUSES = 0.1  # seconds: total silence between the syllables of a neutral clip


def speak(
    syllables: str, code: str, speaker: Speaker, rng: np.random.Generator, sampling_rate: int
) -> np.ndarray:
    """Babble `syllables` ("ba di su") as `speaker` in the emotion `code`, a key of EMOTIONS.

    Returns:
      float64 waveform [S], 1.0 to 2.2 s at `sampling_rate` Hz, within ±PEAK.
    """
    offsets = rng.normal(*INTENSITY) * np.array(dataclasses.astuple(EMOTIONS[code]))
    offsets += speaker.habits[code]
    manner = Manner(*(offsets + rng.normal(0, dataclasses.astuple(CHANCE))))
    phones, seconds = _timeline(syllables, speaker, manner, rng)
    ends = np.cumsum(seconds)
    times_T = np.arange(round(ends[-1] / STEP)) * STEP
    phone_T = np.searchsorted(ends[:-1], times_T, side="right")  # index of the phone
    voice_T = gaussian_filter1d(np.array([p.voice for p in phones])[phone_T], 0.012 / STEP)
    hiss_T = gaussian_filter1d(np.array([p.noise for p in phones])[phone_T], 0.004 / STEP)
    centre_T = np.array([p.hiss for p in phones])[phone_T]
    pitch_T = _pitch(voice_T, speaker, manner, rng)
    cutoff = 2000 * 2 ** (speaker.tilt + manner.tilt)  # Hz, of the source's spectral tilt

    n_samples = round(ends[-1] * sampling_rate)
    n_fft = 2 ** int(np.ceil(np.log2(0.03 * sampling_rate)))
    hertz_B = np.fft.rfftfreq(n_fft, 1 / sampling_rate)
    tract_TxB = _tract(hertz_B, _formants(phones, phone_T, speaker, manner))

    # Voice: one response per pulse; the fraction of a sample in its onset becomes a phase.
    pulses_P, amplitude_P = _pulses(pitch_T, voice_T, manner, rng)
    first_P, fraction_P = np.divmod(pulses_P * sampling_rate, 1)
    voice_PxB = _glottal(hertz_B, np.interp(pulses_P, times_T, pitch_T), cutoff)
    voice_PxB *= np.exp(-2j * np.pi / sampling_rate * fraction_P[:, None] * hertz_B)
    voice_PxB *= tract_TxB[(pulses_P / STEP).astype(int)] * amplitude_P[:, None]
    voice_S = _overlap_add(np.fft.irfft(voice_PxB, n_fft), first_P.astype(int), n_samples)

    # Noise: breath from the glottis and frication, in Hann windows one control step apart.
    breath_T = voice_T * 10 ** ((speaker.breath + manner.breath) / 20)
    breath_TxB = tract_TxB * breath_T[:, None] * (hertz_B / (hertz_B + 1500))
    octaves_TxB = np.log2((hertz_B + 50) / centre_T[:, None])
    hiss_TxB = hiss_T[:, None] * np.exp(-((octaves_TxB / 0.6) ** 2))
    width = 4 * round(STEP * sampling_rate)
    white_TxN = rng.standard_normal((len(times_T), width)) * np.hanning(width)
    noise_TxB = np.fft.rfft(white_TxN, n_fft) * (breath_TxB + hiss_TxB)
    first_T = np.round(times_T * sampling_rate).astype(int) - width // 2
    noise_S = _overlap_add(np.fft.irfft(noise_TxB, n_fft), first_T, n_samples)

    speech_S = (_unit(voice_S) + noise_S) * 10 ** ((LEVEL + speaker.gain + manner.energy) / 20)
    waveform_S = speech_S + _room(n_samples, sampling_rate, rng) * 10 ** (speaker.room_noise / 20)
    fade = np.linspace(0, 1, round(0.02 * sampling_rate))
    waveform_S[: len(fade)] *= fade
    waveform_S[-len(fade) :] *= fade[::-1]
    return waveform_S * min(1.0, PEAK / np.abs(waveform_S).max())


def _timeline(
    syllables: str, speaker: Speaker, manner: Manner, rng: np.random.Generator
) -> tuple[list[Phone], np.ndarray]:
    """Return phones and their lengths in seconds, with silence at both ends and pauses between."""
    words = syllables.split()
    phones, lengths = [SILENCE], [rng.uniform(0.05, 0.15)]
    rate = speaker.rate * 2**manner.tempo
    pauses = rng.dirichlet(np.full(len(words) - 1, 0.5)) * PAUSES * 2**manner.pause
    for word, pause in zip(words, [*pauses, 0.0], strict=True):
        sounds = (*CONSONANTS[word[0]], VOWELS[word[1]])
        phones += [*sounds, SILENCE]
        stretch = np.exp(rng.normal(0, 0.12, len(sounds)))
        lengths += [*(stretch * [p.seconds for p in sounds] / rate), pause]
    lengths[-2] *= 1.3  # final lengthening of the last vowel
    lengths[-1] = rng.uniform(0.05, 0.15)
    seconds = np.array(lengths)
    return phones, seconds * np.clip(seconds.sum(), SHORTEST, LONGEST) / seconds.sum()


def _formants(
    phones: list[Phone], phone_T: np.ndarray, speaker: Speaker, manner: Manner
) -> np.ndarray:
    """Return resonances [T, K] in Hz, smoothed between the targets of the phones."""
    targets = np.array([(*p.formants, *HIGHER_FORMANTS) for p in phones])
    scale = speaker.tract * (1 + manner.formants / 100)
    targets[:, 0] *= 1 + manner.f1 / 100
    return gaussian_filter1d(targets[phone_T] * scale, 0.018 / STEP, axis=0)


def _pitch(
    voice_T: np.ndarray, speaker: Speaker, manner: Manner, rng: np.random.Generator
) -> np.ndarray:
    """Return the pitch contour [T] in Hz: slow accents on a slope with the usual declination."""
    n = len(voice_T)
    accents_T = gaussian_filter1d(rng.standard_normal(n), 0.07 / STEP)
    accents_T *= 1.5 * 2**manner.pitch_range / accents_T.std()
    line_T = np.linspace(-0.5, 0.5, n) * (manner.slope - 2.0)
    semitones_T = manner.pitch + line_T + accents_T
    return np.clip(speaker.pitch * 2 ** (semitones_T / 12), 55, 550)


def _pulses(
    pitch_T: np.ndarray, voice_T: np.ndarray, manner: Manner, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return instants (seconds) and amplitudes [P] of glottal closures; neutral jitter is 0.8 %."""
    times_T = np.arange(len(pitch_T)) * STEP
    phase_T = np.cumsum(pitch_T) * STEP
    instants = np.interp(np.arange(1, int(phase_T[-1])), phase_T, times_T)
    jitter = 0.008 * 2**manner.jitter
    pitch = np.interp(instants, times_T, pitch_T)
    instants += rng.normal(0, jitter, len(instants)) / pitch
    amplitude = np.interp(instants, times_T, voice_T)
    amplitude *= np.exp(rng.normal(0, 5 * jitter, len(amplitude)))  # shimmer
    audible = (amplitude > 1e-3) & (instants > 0) & (instants < times_T[-1])
    return instants[audible], amplitude[audible]


def _glottal(hertz_B: np.ndarray, pitch_P: np.ndarray, cutoff: float) -> np.ndarray:
    """Return spectra [P, B] of the glottal flow derivative: a glottal formant and a tilt low-pass.

    After Doval, d'Alessandro & Henrich (Acta Acustica 92:1026, 2006).
    """
    peak_Px1 = 0.9 * pitch_P[:, None]
    resonance = peak_Px1**2 - hertz_B**2 + 1.2j * peak_Px1 * hertz_B
    return 1j * hertz_B * peak_Px1 / resonance / (1 + 1j * hertz_B / cutoff)


def _tract(hertz_B: np.ndarray, formants_xK: np.ndarray) -> np.ndarray:
    """Return the transfer function [·, B] of cascaded resonances [·, K], 1 at 0 Hz."""
    inverse = np.ones((len(formants_xK), len(hertz_B)), complex)
    for f, width in zip(formants_xK.T[:, :, None], BANDWIDTHS, strict=True):
        pole = f**2 + width**2 / 4
        inverse *= 1 + (1j * width * hertz_B - hertz_B**2) / pole
    return 1 / inverse


def _overlap_add(pieces_xN: np.ndarray, starts: np.ndarray, n_samples: int) -> np.ndarray:
    """Add pieces [·, N] at their first samples, dropping samples outside [0, n_samples)."""
    length = pieces_xN.shape[1]
    padded = np.zeros(n_samples + 2 * length)
    for piece, start in zip(pieces_xN, starts + length, strict=True):
        padded[start : start + length] += piece
    return padded[length : length + n_samples]


def _unit(x_S: np.ndarray) -> np.ndarray:
    """Scale to an RMS of 1; silence stays silent."""
    return x_S / max(np.sqrt(np.mean(x_S**2)), 1e-12)


def _room(n_samples: int, sampling_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Return room noise [S] of unit RMS, which falls with frequency."""
    n_fft = next_fast_len(n_samples, real=True)
    spectrum = np.fft.rfft(rng.standard_normal(n_fft))
    spectrum /= np.sqrt(1 + np.fft.rfftfreq(n_fft, 1 / sampling_rate) / 100)
    return _unit(np.fft.irfft(spectrum, n_fft)[:n_samples])
