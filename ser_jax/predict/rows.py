"""Audio files → rows of predictions: one per file, or one per window or segment of a file."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ser_jax.audio import waveform
from ser_jax.audio.files import AudioFile, load_ahead
from ser_jax.common.concurrency import map_ahead
from ser_jax.predict import segments
from ser_jax.predict.formats import ERROR, Row
from ser_jax.predict.predictor import SILENT, Prediction, Predictor

_SPANS_PER_CHUNK = 64  # files or windows
_CHUNKS_AHEAD = 2  # so that no core waits while the rows of one are written
_SILENT_SPAN = "silent"


@dataclasses.dataclass(frozen=True)
class Windowing:
    """How recordings are split into windows."""

    window: float  # s
    hop: float  # from one window to the next, s
    merged: bool  # whether windows are merged into segments


@dataclasses.dataclass(frozen=True)
class _Clip:
    """A file, its waveform (None: unreadable) and the spans to predict."""

    file: AudioFile
    note: str  # on the whole file
    waveform_S: np.ndarray | None
    spans: list[tuple[int, int]]  # samples: start, end


def predict_files(
    predictor: Predictor, files: Sequence[AudioFile], windowing: Windowing | None
) -> Iterator[tuple[int, list[Row]]]:
    """Yield, chunk by chunk, the number of files and their rows, in order; errors are rows too."""

    def predict(chunk: list[_Clip]) -> tuple[list[_Clip], list[Prediction]]:
        spans = [clip.waveform_S[start:end] for clip in chunk for start, end in clip.spans]
        return chunk, predictor.batch(spans)

    chunks = _chunks(predictor, files, windowing)
    for chunk, predictions in map_ahead(
        predict, chunks, ahead=_CHUNKS_AHEAD, n_threads=_CHUNKS_AHEAD
    ):
        remaining, rows = iter(predictions), []
        for clip in chunk:
            own = [next(remaining) for _ in clip.spans]
            rows += _rows(clip, own, predictor.sampling_rate, windowing)
        yield len(chunk), rows


def _chunks(
    predictor: Predictor, files: Sequence[AudioFile], windowing: Windowing | None
) -> Iterator[list[_Clip]]:
    """Load files and group them by about the same number of spans."""
    rate = predictor.sampling_rate
    split = windowing and (round(windowing.window * rate), round(windowing.hop * rate))

    def load(path: Path) -> tuple[np.ndarray, str]:
        seconds = math.inf if windowing else predictor.longest / rate
        notes: list[str] = []
        waveform_S = predictor.prepare(waveform.load(path, rate, seconds, notes), rate)
        # A copy, so that the rest does not stay in memory.
        waveform_S = waveform_S if windowing else waveform_S[: predictor.longest].copy()
        return waveform_S, "; ".join(notes)

    chunk, n_spans = [], 0
    for file, loaded in load_ahead(files, load):
        waveform_S, note = loaded or (None, "")
        spans = []
        if waveform_S is not None:
            n = len(waveform_S)
            spans = segments.windows(n, *split) if split else [(0, n)]
        chunk.append(_Clip(file, note, waveform_S, spans))
        n_spans += max(1, len(spans))
        if n_spans >= _SPANS_PER_CHUNK:
            yield chunk
            chunk, n_spans = [], 0
    if chunk:
        yield chunk


def _rows(
    clip: _Clip, predictions: list[Prediction], rate: int, windowing: Windowing | None
) -> list[Row]:
    path, error = clip.file.path, clip.file.error
    if not error and not all(np.isfinite(p.probability_RxC).all() for p in predictions):
        error = f"{path} makes the model overflow; check its samples."
    if error:
        return [Row(path, None, error, ERROR)]
    if windowing is None:
        rows = [Row(path, predictions[0], "; ".join(predictions[0].notes))]
    else:
        rows = list(_rows_of_parts(clip, predictions, rate, windowing.merged))
    if clip.note:
        note = "; ".join(filter(None, [rows[-1].note, clip.note]))
        rows[-1] = dataclasses.replace(rows[-1], note=note)
    return rows


def _rows_of_parts(
    clip: _Clip, predictions: list[Prediction], rate: int, merged: bool
) -> Iterator[Row]:
    """Yield a row per window or, if `merged`, per segment."""
    probabilities = [prediction.probability_RxC for prediction in predictions]
    silent_W = np.array([SILENT in prediction.notes for prediction in predictions])
    if merged:
        parts = segments.merge(clip.spans, np.stack(probabilities), silent_W)
    else:
        probabilities = [None if s else p for s, p in zip(silent_W, probabilities, strict=True)]
        parts = map(segments.Segment, *zip(*clip.spans, strict=True), probabilities)
    # For several windows, the command prints one note about their length.
    note = "; ".join(predictions[0].notes) if len(predictions) == 1 else ""
    for part in parts:
        span = (part.start / rate, part.end / rate)
        if part.probability_RxC is None:
            yield Row(clip.file.path, None, _SILENT_SPAN, span=span)
        else:
            prediction = Prediction(predictions[0].labels, part.probability_RxC)
            yield Row(clip.file.path, prediction, note, span=span)
