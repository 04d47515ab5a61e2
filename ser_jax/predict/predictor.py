"""Waveform → emotion, by what a workdir or an exported file has learnt.

    predictor = Predictor("runs/cnn2d-tfds")
    predictor(waveform, sampling_rate).emotion

Axes: R replicas, B batch, S samples, K channels, T frames, C classes.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from ser_jax.audio import waveform as audio_waveform
from ser_jax.common.errors import UserError
from ser_jax.predict import backends
from ser_jax.predict.backends import Backend

_AT_ONCE = 64  # clips of `many`
LONGEST_SECONDS = 60  # of a clip, unless training had longer ones
_SECONDS_AT_ONCE = 600  # of audio in one batch: bounds the memory that features take
_TOO_LOUD = 10.0  # times full scale, as where samples of 16 bits came as floats; MP3s reach 1.5
SILENT = "silent: the label means nothing"


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """What the replicas say of a clip.

    Attributes:
      labels: class names.
      probability_RxC: of each replica.
      notes: what to know before using it.
    """

    labels: tuple[str, ...]
    probability_RxC: np.ndarray
    notes: tuple[str, ...] = ()

    @functools.cached_property
    def probability_C(self) -> np.ndarray:  # noqa: N802 — a shape
        """The mean over the replicas."""
        return self.probability_RxC.mean(axis=0)

    @property
    def emotion(self) -> str:
        """The most probable class."""
        return self.labels[self.probability_C.argmax()]

    @property
    def confidence(self) -> float:
        """Its probability."""
        return float(self.probability_C.max())

    @property
    def disagreement(self) -> float:
        """The share of replicas that name another emotion than the mean does."""
        named_R = self.probability_RxC.argmax(axis=1)
        return float(np.mean(named_R != self.probability_C.argmax()))


class Predictor:
    """Any audio → Prediction.

    Attributes:
      engine: what predicts.
      labels: class names.
      sampling_rate: Hz, that of training.
      seconds: what the network hears of a clip, counted from its start.
      least_seconds: of the shortest clip in training.
      longest: samples; what comes later in a clip changes nothing.
    """

    def __init__(self, source: str | os.PathLike):
        """Opens a run's folder, or a file that ser_jax.export wrote.

        Raises:
          UserError: there is no such thing, nothing is trained there, or it is damaged.
        """
        self.engine: Backend = backends.load(Path(source))
        self.labels = self.engine.labels
        spec = self.engine.spec
        self.sampling_rate = spec.sampling_rate
        beyond = 0 if spec.centered else spec.frame_length
        self.seconds = (self.engine.max_frames * spec.hop_length + beyond) / spec.sampling_rate
        self.least_seconds = (self.engine.min_frames - 1) * spec.hop_length / spec.sampling_rate
        lengths = _lengths(math.ceil(self.seconds))
        self._lengths = [length * self.sampling_rate for length in lengths]
        self._sizes, n_at_once = (
            backends.shares()
        )  # a program is compiled for each size that is met
        self._pool = concurrent.futures.ThreadPoolExecutor(n_at_once)
        # One frame more than counts, by which a clip that is cut here is known to be longer.
        self.longest = self._lengths[-1] + spec.hop_length + spec.frame_length

    def close(self) -> None:
        """Begins nothing more of what `begin` was given."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def __call__(self, waveform: np.ndarray, sampling_rate: int) -> Prediction:
        """One clip.

        Args:
          waveform: [samples] or [samples, channels], full scale ±1 (or of integers their own).
          sampling_rate: Hz, any.

        Raises:
          UserError: it is no waveform, or has an audio.flaw.
        """
        return self.batch([self.prepare(waveform, sampling_rate)])[0]

    def many(self, clips: Iterable[tuple[np.ndarray, int]]) -> Iterator[Prediction]:
        """Pairs of a waveform and its sampling rate → predictions in their order, batched."""
        clips = iter(clips)
        while some := list(itertools.islice(clips, _AT_ONCE)):
            yield from self.batch([self.prepare(*clip) for clip in some])

    def prepare(self, waveform: np.ndarray, sampling_rate: int) -> np.ndarray:
        """A waveform as the features take it: mono float32 [samples] at the rate of training.

        Raises:
          UserError: it is no waveform, or has an audio.flaw.
        """
        waveform = np.asarray(waveform)
        if waveform.ndim not in (1, 2) or waveform.dtype.kind not in "fiu":
            raise UserError(
                f"a waveform of shape {waveform.shape} and type {waveform.dtype} cannot be used; "
                "give numbers as [samples] or [samples, channels]."
            )
        if not audio_waveform.is_rate(sampling_rate):
            raise UserError(
                f"sampling_rate={sampling_rate} cannot be used; {audio_waveform.RATES_TEXT}."
            )
        if waveform.ndim == 2 and waveform.shape[1] > waveform.shape[0]:
            raise UserError(
                f"a waveform of shape {waveform.shape} has more channels than samples; transpose "
                "it to [samples, channels]."
            )
        waveform = _full_scale(waveform)
        if wrong := audio_waveform.flaw(waveform):
            raise UserError(f"the waveform {wrong}; repair it.")
        waveform_S = waveform.mean(axis=1) if waveform.ndim == 2 else waveform
        waveform_S = audio_waveform.resample(waveform_S, sampling_rate, self.sampling_rate)
        if not len(waveform_S):
            raise UserError("the waveform is shorter than one sample of the model's rate.")
        return waveform_S

    def batch(self, waveforms: Sequence[np.ndarray]) -> list[Prediction]:
        """Any number of waveforms as `prepare` gives them, of any lengths."""
        return self.begin(waveforms)()

    def begin(self, waveforms: Sequence[np.ndarray]) -> Callable[[], list[Prediction]]:
        """The same, without waiting: what is returned waits for the predictions."""
        of_length = collections.defaultdict(list)
        for i, waveform_S in enumerate(waveforms):
            fitting = [length for length in self._lengths if length >= len(waveform_S)]
            of_length[(fitting or self._lengths[-1:])[0]].append(i)
        members, futures = [], []
        for length, those in of_length.items():
            most = _SECONDS_AT_ONCE * self.sampling_rate // length
            for n_rows, some in _shared_out(those, self._sizes, most):
                clips = [waveforms[i] for i in some]
                futures.append(self._pool.submit(self._together, clips, n_rows, length))
                members += some

        def finish() -> list[Prediction]:
            found = itertools.chain.from_iterable(future.result() for future in futures)
            of_clip = dict(zip(members, found, strict=True))
            return [of_clip[i] for i in range(len(members))]

        return finish

    def _together(
        self, waveforms: Sequence[np.ndarray], n_rows: int, length: int
    ) -> list[Prediction]:
        """Some clips in one batch of `n_rows`, padded and cut to `length` samples."""
        waveform_BxS = np.zeros((n_rows, length), np.float32)
        n_samples_B = np.ones(n_rows, np.int32)
        for row, waveform_S in enumerate(waveforms):
            part_S = waveform_S[:length]
            waveform_BxS[row, : len(part_S)] = part_S
            n_samples_B[row] = len(part_S)
        probability_RxBxC = self.engine(waveform_BxS, n_samples_B)
        return [
            Prediction(self.labels, probability_RxBxC[:, row], self._notes(waveform_S))
            for row, waveform_S in enumerate(waveforms)
        ]

    def _notes(self, waveform_S: np.ndarray) -> tuple[str, ...]:
        notes, n_frames = [], self.engine.spec.n_frames(len(waveform_S))
        heard_S = waveform_S[: round(self.seconds * self.sampling_rate)]
        if audio_waveform.rms(heard_S) < audio_waveform.SILENT_RMS:
            notes.append(SILENT)
        if (peak := max(heard_S.max(), -heard_S.min())) > _TOO_LOUD:
            notes.append(f"samples reach {peak:,.0f} times full scale, where training had 1")
        if n_frames > self.engine.max_frames:
            notes.append(
                f"longer than what the model was trained on: only its first {self.seconds:.1f} s "
                "are used; --window hears all of it"
            )
        if n_frames < self.engine.min_frames:
            notes.append("shorter than any training clip")
        return tuple(notes)


def _full_scale(waveform: np.ndarray) -> np.ndarray:
    """float32, ±1; integers are taken for samples of their own width."""
    if waveform.dtype.kind == "f":
        return waveform.astype(np.float32)
    half = 2.0 ** (8 * waveform.dtype.itemsize - 1)
    offset = half if waveform.dtype.kind == "u" else 0.0  # as in WAV files of 8 bits
    return ((waveform - offset) / half).astype(np.float32)


def _lengths(seconds: int) -> tuple[int, ...]:
    """To which clips are padded, s: that of training, then doubled up to the longest that counts.

    Few, since the features are compiled for each.
    """
    longest, lengths = max(seconds, LONGEST_SECONDS), [seconds]
    while lengths[-1] < longest:
        lengths.append(min(2 * lengths[-1], longest))
    return tuple(lengths)


def _shared_out(
    members: list[int], sizes: Sequence[int], most: int
) -> Iterator[tuple[int, list[int]]]:
    """Members in batches of `sizes`, at most `most`, each at least half full."""
    while members:
        size = max(n for n in sizes if n == 1 or (n <= most and n <= 2 * len(members)))
        yield size, members[:size]
        members = members[size:]
