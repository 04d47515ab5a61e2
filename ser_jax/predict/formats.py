"""Predictions as text, row by row, for programs: CSV, JSON lines, Audacity's labels."""

import csv
import dataclasses
import io
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ser_jax.predict.predictor import Prediction

OK, ERROR = "ok", "error"
_DIGITS = 6  # as in predictions.csv


@dataclasses.dataclass(frozen=True)
class Row:
    """A file, or a stretch of one.

    Attributes:
      path: of the file, as it was given.
      prediction: None if there is none.
      note: what to know about it, or why the file could not be read.
      status: OK or ERROR.
      span: start and end, s; None for the whole file.
    """

    path: str
    prediction: "Prediction | None"
    note: str = ""
    status: str = OK
    span: tuple[float, float] | None = None


class Format(Protocol):
    """How rows are written."""

    def begin(self) -> str:
        """What stands before the rows."""

    def line(self, row: Row) -> str:
        """One row, with its end of line."""


class Csv:
    """Comma-separated, as csv.DictReader reads it."""

    def __init__(self, labels: Sequence[str], timed: bool):
        self._labels, self._timed = labels, timed

    def begin(self) -> str:
        times = ["start", "end"] if self._timed else []
        numbers = ["confidence", "disagreement"]
        return _csv_line(["path", "status", *times, "emotion", *numbers, *self._labels, "note"])

    def line(self, row: Row) -> str:
        cells = [row.path, row.status]
        if self._timed:
            cells += [f"{t:.3f}" for t in row.span] if row.span else ["", ""]
        found = row.prediction
        if found:
            values = (found.confidence, found.disagreement, *found.probability_C)
            cells += [found.emotion, *(f"{value:.{_DIGITS}f}" for value in values)]
        else:
            cells += [""] * (3 + len(self._labels))
        return _csv_line([*cells, row.note])


def _csv_line(cells: Sequence[str]) -> str:
    # With a terminator of its own, csv would leave a bare "\r" in a name unquoted.
    text = io.StringIO(newline="")
    csv.writer(text).writerow(cells)
    return text.getvalue().removesuffix("\r\n") + "\n"


class JsonLines:
    """An object a line."""

    def __init__(self, labels: Sequence[str], timed: bool):
        self._labels, self._timed = labels, timed

    def begin(self) -> str:
        return ""

    def line(self, row: Row) -> str:
        value: dict = {"path": row.path, "status": row.status}
        if self._timed:
            start, end = row.span or (None, None)
            value |= {"start": start, "end": end}
        found = row.prediction
        keys = ("emotion", "confidence", "disagreement", "probabilities")
        value |= dict.fromkeys(keys)
        if found:
            value["emotion"] = found.emotion
            value["confidence"] = round(found.confidence, _DIGITS)
            value["disagreement"] = round(found.disagreement, _DIGITS)
            probabilities = (round(float(p), _DIGITS) for p in found.probability_C)
            value["probabilities"] = dict(zip(self._labels, probabilities, strict=True))
        value["note"] = row.note
        return json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"


class Audacity:
    """A label track: start, end and label, between tabs; what could not be read is left out."""

    def begin(self) -> str:
        return ""

    def line(self, row: Row) -> str:
        if not row.span:
            return ""
        label = row.prediction.emotion if row.prediction else row.note
        return f"{row.span[0]:.6f}\t{row.span[1]:.6f}\t{label}\n"
