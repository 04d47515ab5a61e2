"""Audio files → rows of predictions: one a file, or one a window or segment of it."""

import collections
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from ser_jax.audio import files, waveform
from ser_jax.audio.files import AudioFile
from ser_jax.predict import segments
from ser_jax.predict.formats import ERROR, Row
from ser_jax.predict.predictor import SILENT, Prediction, Predictor

_AT_ONCE = 64  # files, or windows, that are predicted together
_SILENT_STRETCH = "silent"


@dataclasses.dataclass(frozen=True)
class Windowing:
    """How a recording is cut into windows.

    Attributes:
      window: s.
      hop: from one to the next, s.
      merged: whether windows are merged into segments.
    """

    window: float
    hop: float
    merged: bool


def rows(
    predictor: Predictor, found: Sequence[AudioFile], cut: Windowing | None
) -> Iterator[tuple[int, list[Row]]]:
    """Some files at a time: how many, and their rows, in order; a file's error is a row."""
    rate = predictor.sampling_rate

    def load(path: Path) -> np.ndarray:
        seconds = math.inf if cut else predictor.longest / rate
        waveform_S = predictor.prepare(waveform.load(path, rate, seconds), rate)
        # A copy, so that what is past it does not stay in memory.
        return waveform_S if cut else waveform_S[: predictor.longest].copy()

    begun: collections.deque = collections.deque()
    chunk, n_spans = [], 0
    for one, waveform_S in files.load_ahead(found, load):
        spans = [] if waveform_S is None else _spans(len(waveform_S), rate, cut)
        chunk.append((one, waveform_S, spans))
        n_spans += max(1, len(spans))
        if n_spans >= _AT_ONCE:
            begun.append((chunk, _begin(chunk, predictor)))
            chunk, n_spans = [], 0
            if len(begun) > 1:  # no core waits while the rows of one chunk are made
                yield _finished(*begun.popleft(), rate, cut)
    begun.append((chunk, _begin(chunk, predictor)))
    for one in begun:
        yield _finished(*one, rate, cut)


def _spans(n_samples: int, rate: int, cut: Windowing | None) -> list[tuple[int, int]]:
    if cut is None:
        return [(0, n_samples)]
    return segments.windows(n_samples, round(cut.window * rate), round(cut.hop * rate))


def _begin(chunk: list[tuple], predictor: Predictor) -> Callable[[], list[Prediction]]:
    return predictor.begin(
        [waveform_S[start:end] for _, waveform_S, spans in chunk for start, end in spans]
    )


def _finished(
    chunk: list[tuple], finish: Callable[[], list[Prediction]], rate: int, cut: Windowing | None
) -> tuple[int, list[Row]]:
    predictions, written = iter(finish()), []
    for one, _, spans in chunk:
        own = [next(predictions) for _ in spans]
        if one.error or not all(np.isfinite(each.probability_RxC).all() for each in own):
            error = one.error or f"{one.path} makes the model overflow; look at its samples."
            written.append(Row(one.path, None, error, ERROR))
            continue
        if cut is None:
            rows = [Row(one.path, own[0], "; ".join(own[0].notes))]
        else:
            make = _segments if cut.merged else _windows
            rows = list(make(one.path, spans, own, rate))
        if one.note:  # of its end
            rows[-1] = dataclasses.replace(
                rows[-1], note="; ".join(filter(None, [rows[-1].note, one.note]))
            )
        written += rows
    return len(chunk), written


def _windows(
    path: str, spans: list[tuple[int, int]], own: list[Prediction], rate: int
) -> Iterator[Row]:
    for (start, end), prediction in zip(spans, own, strict=True):
        silent = SILENT in prediction.notes
        note = _SILENT_STRETCH if silent else _note_of_all(own)
        span = (start / rate, end / rate)
        yield Row(path, None if silent else prediction, note, span=span)


def _segments(
    path: str, spans: list[tuple[int, int]], own: list[Prediction], rate: int
) -> Iterator[Row]:
    probability_WxRxC = np.stack([prediction.probability_RxC for prediction in own])
    silent_W = np.array([SILENT in prediction.notes for prediction in own])
    for segment in segments.merge(spans, probability_WxRxC, silent_W):
        span = (segment.start / rate, segment.end / rate)
        if segment.probability_RxC is None:
            yield Row(path, None, _SILENT_STRETCH, span=span)
        else:
            prediction = Prediction(own[0].labels, segment.probability_RxC)
            yield Row(path, prediction, _note_of_all(own), span=span)


def _note_of_all(own: list[Prediction]) -> str:
    """That windows are shorter than training clips is said once, not once a row."""
    return "; ".join(own[0].notes) if len(own) == 1 else ""
