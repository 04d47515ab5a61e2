"""Predictions as text, row by row, for programs: CSV, JSON lines, Audacity's labels."""

import csv
import dataclasses
import io
import json
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ser_jax.pages import numbers

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


_PATH_WIDTH = 24  # at least, for probabilities to be shown; and half of it in any case


class Table:
    """Aligned columns; probabilities stand in it where the terminal has room for them."""

    def __init__(self, labels: Sequence[str], timed: bool, paths: Sequence[str], width: int):
        """Fixes the columns, since rows are written before the next ones are known.

        Args:
          labels: class names.
          timed: whether rows have a span.
          paths: that will come.
          width: of the terminal, columns.
        """
        self._labels, self._timed = labels, timed
        self._emotion = max(map(_width, ("emotion", *labels)))
        self._columns = [max(_width(label), len("100 %")) for label in labels]
        # Columns are two apart.
        fixed = len("  ") + self._emotion + len("  100 %  disagree") + (20 if timed else 0)
        every, second = sum(self._columns) + 2 * len(labels), self._emotion + len("    100 %")
        self._all = width - fixed - every >= _PATH_WIDTH
        room = width - fixed - (every if self._all else second)
        longest = max((_width(_printable(path)) for path in paths), default=0)
        self._path = max(len("file"), min(longest, max(_PATH_WIDTH // 2, room)))

    def begin(self) -> str:
        cells = [_padded("file", self._path)]
        cells += ["   start", "     end"] if self._timed else []
        cells += [_padded("emotion", self._emotion), " sure", "disagree"]
        if self._all:
            cells += [
                " " * (width - _width(label)) + label
                for label, width in zip(self._labels, self._columns, strict=True)
            ]
        else:
            cells.append("then")
        return "  ".join(cells).rstrip() + "\n"

    def line(self, row: Row) -> str:
        cells = [_padded(_cut(_printable(row.path), self._path), self._path)]
        if self._timed:
            cells += [f"{t:8.2f}" for t in row.span] if row.span else [" " * 8] * 2
        if row.status == ERROR:
            # Its sentence may name the file without the "./" that was given.
            reason = row.note.removeprefix(f"{row.path} ").removeprefix(f"{Path(row.path)} ")
            return "  ".join([*cells, f"{ERROR}: {_printable(reason)}"]) + "\n"
        found = row.prediction
        if not found:
            return "  ".join([*cells, _printable(row.note)]) + "\n"
        cells += [_padded(found.emotion, self._emotion), _percent(found.confidence)]
        cells.append(_percent(found.disagreement).rjust(len("disagree")))
        if self._all:
            cells += [
                _percent(p).rjust(width)
                for p, width in zip(found.probability_C, self._columns, strict=True)
            ]
        else:
            second = int(found.probability_C.argsort()[-2:][0])
            chance = _percent(found.probability_C[second])
            cells.append(_padded(self._labels[second], self._emotion) + "  " + chance)
        return "  ".join([*cells, row.note]).rstrip() + "\n"


def _percent(share: float) -> str:
    return numbers.percent(share, "3.0f")


def _printable(text: str) -> str:
    """What could break a line or steer the terminal is spelt out."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _width(text: str) -> int:
    """Columns on a terminal."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _cut(text: str, width: int) -> str:
    """Its end, which tells files apart."""
    if _width(text) <= width:
        return text
    while _width(text) > width - 1:
        text = text[1:]
    return "…" + text
