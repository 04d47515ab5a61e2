"""Audio files → rows of predictions: one per file, or one per window or segment of a file."""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from ser_jax.audio import waveform
from ser_jax.audio.files import AudioFile, load_ahead, try_to_load
from ser_jax.audio.waveform import WHOLE, Recording
from ser_jax.common.concurrency import map_ahead
from ser_jax.predict import segments
from ser_jax.predict.formats import ERROR, Row
from ser_jax.predict.predictor import SILENT, Prediction, Predictor

_SPANS_PER_CHUNK = 64  # files or windows
_THREADS = 4  # that cut and resample
_CUT_AHEAD = 16  # clips, or minutes if they are longer
_CHUNKS_AHEAD = 2  # so that no core waits while the rows of one are written
_SILENT_SPAN = "silent"


@dataclasses.dataclass(frozen=True)
class Windowing:
    """How recordings are split into windows."""

    window: float  # s
    hop: float  # from one window to the next, s
    merged: bool  # whether windows are merged into segments


_Part = tuple[int, AudioFile, Recording | None]  # place in the order of the files, and what it is


@dataclasses.dataclass(frozen=True)
class _Clip:
    """A file or segment, its waveform (None: unreadable) and the spans to predict."""

    place: int  # in the order of the files that were asked for
    file: AudioFile
    seconds: float  # length of the whole file
    notes: tuple[str, ...]  # on the whole file
    waveform_S: np.ndarray | None
    spans: list[tuple[int, int]]  # samples: start, end


def predict_files(
    predictor: Predictor, files: Sequence[AudioFile], windowing: Windowing | None
) -> Iterator[tuple[int, list[Row]]]:
    """Yield, chunk by chunk, the number of files and their rows, in order; errors are rows too.

    All segments of a file are predicted together, wherever they stand, so that it is decoded once.
    """

    def predict(chunk: list[_Clip]) -> list[tuple[int, list[Row]]]:
        spans = [clip.waveform_S[start:end] for clip in chunk for start, end in clip.spans]
        remaining = iter(predictor.batch(spans))
        rate = predictor.sampling_rate
        return [
            (clip.place, _rows(clip, [next(remaining) for _ in clip.spans], rate, windowing))
            for clip in chunk
        ]

    chunks = _chunks(_clips(predictor, files, windowing))
    predicted: dict[int, list[Row]] = {}  # whose turn has not come
    turn = 0
    for results in map_ahead(predict, chunks, ahead=_CHUNKS_AHEAD, n_threads=_CHUNKS_AHEAD):
        predicted.update(results)
        rows: list[Row] = []
        while turn in predicted:
            rows += predicted.pop(turn)
            turn += 1
        yield len(results), rows


def _clips(
    predictor: Predictor, files: Sequence[AudioFile], windowing: Windowing | None
) -> Iterator[_Clip]:
    """Decode each file once, as far as it is needed, and cut out what is asked for of it."""
    rate = predictor.sampling_rate
    split = windowing and (round(windowing.window * rate), round(windowing.hop * rate))
    to_the_end = windowing or any(file.segment != WHOLE for file in files)
    longest = math.inf if to_the_end else predictor.longest / rate
    places_of: dict[tuple[Path, str], list[int]] = {}
    for place, file in enumerate(files):
        places_of.setdefault((Path(file.path), file.error), []).append(place)

    def decode(path: Path) -> Recording:
        ends = [files[place].segment.end for place in places_of[path, ""]]
        return waveform.decode(path, min(longest, max(ends)))

    def parts() -> Iterator[_Part]:
        firsts = [files[places[0]] for places in places_of.values()]
        loaded = load_ahead(firsts, decode)
        for places, (first, recording) in zip(places_of.values(), loaded, strict=True):
            for place in places:
                file = dataclasses.replace(files[place], error=first.error)
                yield place, file, recording

    def cut_out(part: _Part) -> _Clip:
        place, file, recording = part

        def load() -> np.ndarray:
            waveform_S = predictor.prepare(recording.cut_out(file.segment, rate), rate)
            # A copy, so that the rest does not stay in memory.
            return waveform_S if windowing else waveform_S[: predictor.longest].copy()

        file, waveform_S = try_to_load(file, load)
        if waveform_S is None:
            return _Clip(place, file, 0, (), None, [])
        n = len(waveform_S)
        spans = segments.windows(n, *split) if split else [(0, n)]
        return _Clip(place, file, recording.seconds, recording.notes, waveform_S, spans)

    def minutes(part: _Part) -> float:
        _, file, recording = part
        seconds = min(file.segment.end, recording.seconds) - file.segment.start if recording else 0
        return max(1, seconds / 60)

    return map_ahead(cut_out, parts(), ahead=_CUT_AHEAD, n_threads=_THREADS, cost=minutes)


def _chunks(clips: Iterable[_Clip]) -> Iterator[list[_Clip]]:
    """Group clips by about the same number of spans."""
    chunk, n_spans = [], 0
    for clip in clips:
        chunk.append(clip)
        n_spans += max(1, len(clip.spans))
        if n_spans >= _SPANS_PER_CHUNK:
            yield chunk
            chunk, n_spans = [], 0
    if chunk:
        yield chunk


def _rows(
    clip: _Clip, predictions: list[Prediction], rate: int, windowing: Windowing | None
) -> list[Row]:
    path, segment, error = clip.file.path, clip.file.segment, clip.file.error
    if not error and not all(np.isfinite(p.probability_RxC).all() for p in predictions):
        error = f"{path} makes the model overflow; check its samples."
    if error:
        message = f"{clip.file.row}: {error}" if clip.file.row else error
        return [Row(path, None, message, ERROR, None if segment == WHOLE else segment)]
    if windowing is None:
        end = segment.end if segment.end < math.inf else clip.seconds
        (prediction,) = predictions
        rows = [Row(path, prediction, "; ".join(prediction.notes), span=(segment.start, end))]
    else:
        rows = list(_rows_of_parts(clip, predictions, rate, windowing.merged))
    note = "; ".join(filter(None, [rows[-1].note, *clip.notes]))
    return [*rows[:-1], dataclasses.replace(rows[-1], note=note)]


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
    offset = clip.file.segment.start
    for part in parts:
        span = (offset + part.start / rate, offset + part.end / rate)
        if part.probability_RxC is None:
            yield Row(clip.file.path, None, _SILENT_SPAN, span=span)
        else:
            prediction = Prediction(predictions[0].labels, part.probability_RxC)
            yield Row(clip.file.path, prediction, note, span=span)
