"""Waveform → emotion, with a trained run or an exported file.

    predictor = Predictor("runs/cnn2d-tfds")
    predictor(waveform, sampling_rate).emotion

Axes: R replicas, B batch, S samples, C classes.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import itertools
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from ser_jax.audio.decoder import RATES_TEXT, is_rate
from ser_jax.audio.waveform import SILENT_RMS, flaw, resample, rms
from ser_jax.common.concurrency import result_of
from ser_jax.common.errors import UserError
from ser_jax.predict import backends
from ser_jax.predict.backends import Backend

LONGEST_SECONDS = 60  # limit of a clip's length, unless training had longer ones
_CLIPS_PER_CALL = 64  # of `many`
_SECONDS_PER_BATCH = 600  # of audio; bounds the memory for features
_TOO_LOUD = 10.0  # times full scale, such as 16-bit integers cast to float; MP3s reach 1.5
SILENT = "silent: the label means nothing"


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """The emotion of a clip."""

    labels: tuple[str, ...]  # class names
    probability_RxC: np.ndarray  # of each replica
    notes: tuple[str, ...] = ()  # warnings about the clip
    features_TxF: np.ndarray | None = None  # what the network saw, if the predictor keeps it

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
        """The probability of `emotion`."""
        return float(self.probability_C.max())

    @property
    def disagreement(self) -> float | None:
        """The share of replicas whose most probable class is not `emotion`; None for only one."""
        if len(self.probability_RxC) == 1:
            return None
        class_R = self.probability_RxC.argmax(axis=1)
        return float(np.mean(class_R != self.probability_C.argmax()))


class Predictor:
    """Predicts the emotion of any audio.

    Attributes:
      backend: computes the probabilities.
      labels: class names.
      sampling_rate: of the model, Hz.
      seconds: length of the model's input; the rest of a longer clip is ignored.
      least_seconds: length of the shortest training clip.
      longest: samples after which the rest of a clip changes neither predictions nor notes.
    """

    def __init__(self, source: str | os.PathLike, *, keep_features: bool = False):
        """Open the workdir of a run, or a file written by ser_jax.export; see backends.load.

        With `keep_features`, each prediction has what the network saw.

        Raises:
          UserError: there is no model, or it cannot keep its features.
        """
        self.backend: Backend = backends.load(Path(source))
        self._keeps_features = keep_features
        if keep_features and not hasattr(self.backend, "with_features"):
            raise UserError(
                f"{source} is an exported file, which gives probabilities alone; embeddings need "
                "the workdir of the run."
            )
        self.labels = self.backend.labels
        spec = self.backend.spec
        self.sampling_rate = spec.sampling_rate
        self.seconds = spec.n_samples(self.backend.max_frames) / spec.sampling_rate
        self.least_seconds = 0.0
        if not spec.encoder:
            shortest = (self.backend.min_frames - 1) * spec.hop_length
            self.least_seconds = shortest / spec.sampling_rate
        # The lengths to which clips are padded: the model's input, doubled up to the limit. Few,
        # because the features are compiled for each. An encoder costs by the length, and is
        # compiled elsewhere.
        lengths, longest = [math.ceil(self.seconds)], LONGEST_SECONDS
        if spec.encoder:
            lengths, longest = [1], lengths[0]
        while lengths[-1] < longest:
            lengths.append(min(2 * lengths[-1], longest))
        self._lengths = [length * self.sampling_rate for length in lengths]
        # One frame more than the model uses shows that a clip is too long.
        self.longest = self._lengths[-1] + spec.hop_length + spec.frame_length
        self._batch_sizes, n_threads = backends.batching()
        self._pool = concurrent.futures.ThreadPoolExecutor(n_threads)

    def close(self) -> None:
        """Cancel the batches that have not started."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def __call__(self, waveform: np.ndarray, sampling_rate: int) -> Prediction:
        """Predict the emotion of one clip.

        Args:
          waveform: [samples] or [samples, channels]; floats with full scale ±1, or integers.
          sampling_rate: any rate, Hz.

        Raises:
          UserError: it is not a waveform, or has a `flaw`.
        """
        return self.batch([self.prepare(waveform, sampling_rate)])[0]

    def many(self, clips: Iterable[tuple[np.ndarray, int]]) -> Iterator[Prediction]:
        """Yield a prediction for each pair of waveform and sampling rate, in order, batched."""
        clips = iter(clips)
        while chunk := list(itertools.islice(clips, _CLIPS_PER_CALL)):
            yield from self.batch([self.prepare(*clip) for clip in chunk])

    def prepare(self, waveform: np.ndarray, sampling_rate: int) -> np.ndarray:
        """Return a waveform as mono float32 [samples] at the model's rate.

        Raises:
          UserError: it is not a waveform, or has a `flaw`.
        """
        waveform = np.asarray(waveform)
        if waveform.ndim not in (1, 2) or waveform.dtype.kind not in "fiu":
            raise UserError(
                f"a waveform of shape {waveform.shape} and type {waveform.dtype} cannot be used; "
                "give numbers as [samples] or [samples, channels]."
            )
        if not is_rate(sampling_rate):
            raise UserError(f"sampling_rate={sampling_rate} cannot be used; {RATES_TEXT}.")
        if waveform.ndim == 2 and waveform.shape[1] > waveform.shape[0]:
            raise UserError(
                f"a waveform of shape {waveform.shape} has more channels than samples; transpose "
                "it to [samples, channels]."
            )
        waveform = _to_full_scale(waveform)
        if defect := flaw(waveform):
            raise UserError(f"the waveform {defect}; repair it.")
        waveform_S = waveform.mean(axis=1) if waveform.ndim == 2 else waveform
        waveform_S = resample(waveform_S, sampling_rate, self.sampling_rate)
        if not len(waveform_S):
            raise UserError("the waveform is shorter than one sample at the model's rate.")
        return waveform_S

    def batch(self, waveforms: Sequence[np.ndarray]) -> list[Prediction]:
        """Predict any number of waveforms of any length, each as `prepare` returns it."""
        clips_of_length = collections.defaultdict(list)
        for clip, waveform_S in enumerate(waveforms):
            sufficient = [length for length in self._lengths if length >= len(waveform_S)]
            clips_of_length[(sufficient or self._lengths[-1:])[0]].append(clip)
        order, futures = [], []
        for length, clips in clips_of_length.items():
            limit = _SECONDS_PER_BATCH * self.sampling_rate // length
            for n_rows, members in _in_batches(clips, self._batch_sizes, limit):
                batch = [waveforms[clip] for clip in members]
                futures.append(self._pool.submit(self._predict, batch, n_rows, length))
                order += members
        predictions = itertools.chain.from_iterable(map(result_of, futures))
        prediction_of = dict(zip(order, predictions, strict=True))
        return [prediction_of[clip] for clip in range(len(order))]

    def _predict(
        self, waveforms: Sequence[np.ndarray], n_rows: int, length: int
    ) -> list[Prediction]:
        """Predict clips as one batch of `n_rows`, each padded or cut to `length` samples."""
        waveform_BxS = np.zeros((n_rows, length), np.float32)
        n_samples_B = np.ones(n_rows, np.int32)
        for row, waveform_S in enumerate(waveforms):
            part_S = waveform_S[:length]
            waveform_BxS[row, : len(part_S)] = part_S
            n_samples_B[row] = len(part_S)
        kept: Sequence[np.ndarray | None] = [None] * n_rows
        if self._keeps_features:
            probability_RxBxC, x_BxTxF = self.backend.with_features(waveform_BxS, n_samples_B)
            kept = np.array(x_BxTxF)  # a copy: on a CPU the array may be JAX's own
        else:
            probability_RxBxC = self.backend(waveform_BxS, n_samples_B)
        return [
            Prediction(self.labels, probability_RxBxC[:, row], self._notes(waveform_S), kept[row])
            for row, waveform_S in enumerate(waveforms)
        ]

    def _notes(self, waveform_S: np.ndarray) -> tuple[str, ...]:
        notes, n_frames = [], self.backend.spec.n_frames(len(waveform_S))
        input_S = waveform_S[: round(self.seconds * self.sampling_rate)]
        if rms(input_S) < SILENT_RMS:
            notes.append(SILENT)
        if (peak := max(input_S.max(), -input_S.min())) > _TOO_LOUD:
            notes.append(f"samples reach {peak:,.0f} times full scale, in training 1")
        is_cut = self.backend.spec.fixed_frames and len(waveform_S) > len(input_S)
        if n_frames > self.backend.max_frames or is_cut:
            notes.append(
                f"longer than the model's input: only its first {self.seconds:.1f} s are used; "
                "--window covers all of it"
            )
        if n_frames < self.backend.min_frames:
            notes.append("shorter than any training clip")
        return tuple(notes)


def _to_full_scale(waveform: np.ndarray) -> np.ndarray:
    """Convert to float32 with full scale ±1; integers are scaled by the range of their type."""
    if waveform.dtype.kind == "f":
        return waveform.astype(np.float32)
    half = 2.0 ** (8 * waveform.dtype.itemsize - 1)
    offset = half if waveform.dtype.kind == "u" else 0.0  # as in 8-bit WAV files
    return ((waveform - offset) / half).astype(np.float32)


def _in_batches(
    clips: list[int], sizes: Sequence[int], limit: int
) -> Iterator[tuple[int, list[int]]]:
    """Split clips into batches of the given sizes, at most `limit`, each at least half full."""
    while clips:
        size = max(n for n in sizes if n == 1 or (n <= limit and n <= 2 * len(clips)))
        yield size, clips[:size]
        clips = clips[size:]
