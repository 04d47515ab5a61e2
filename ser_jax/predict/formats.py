"""Predictions as text, row by row: a table for people; CSV, JSON lines and Audacity's labels."""

import csv
import dataclasses
import io
import json
import math
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ser_jax.pages.numbers import percent

if TYPE_CHECKING:
    from ser_jax.predict.predictor import Prediction

OK, ERROR = "ok", "error"
_DIGITS = 6
_UNKNOWN = (math.inf, math.inf)  # s, left blank
_PATH_WIDTH = 24  # columns of a path, below which the table drops the probabilities of all classes


@dataclasses.dataclass(frozen=True)
class Row:
    """The result for a file or a part of it."""

    path: str  # of the file, as given by the user
    prediction: "Prediction | None"  # None for an error or silence
    note: str = ""  # a remark on the prediction, or why the file could not be read
    status: str = OK  # or ERROR
    span: tuple[float, float] | None = None  # start and end, s; an infinite end is the file's


class Format:
    """A text format for rows of predictions; if `timed`, rows have a span."""

    def __init__(self, labels: Sequence[str], timed: bool):
        self._labels, self._timed = labels, timed

    def header(self) -> str:
        """Return the text before the first row."""
        return ""

    def line(self, row: Row) -> str:
        """Return the text of a row, line end included; "" leaves it out."""
        raise NotImplementedError


class Table(Format):
    """Aligned columns, with the probabilities of all classes where the terminal is wide enough."""

    def __init__(self, labels: Sequence[str], timed: bool, paths: Sequence[str], width: int):
        """Fix the columns, because rows are written before the next ones are known.

        Args:
          labels: class names.
          timed: whether rows have a span.
          paths: all paths that rows will have.
          width: of the terminal, columns.
        """
        super().__init__(labels, timed)
        self._emotion = max(map(_width, ("emotion", *labels)))
        self._columns = [max(_width(label), len("100 %")) for label in labels]
        # Columns are separated by two spaces.
        fixed = len("  ") + self._emotion + len("  confidence  disagree") + (20 if timed else 0)
        all_classes = sum(self._columns) + 2 * len(labels)
        runner_up = self._emotion + len("    100 %")
        self._with_all_classes = width - fixed - all_classes >= _PATH_WIDTH
        room = width - fixed - (all_classes if self._with_all_classes else runner_up)
        longest = max((_width(_printable(path)) for path in paths), default=0)
        self._path = max(len("file"), min(longest, max(_PATH_WIDTH // 2, room)))

    def header(self) -> str:
        cells = [_padded("file", self._path)]
        cells += ["   start", "     end"] if self._timed else []
        cells += [_padded("emotion", self._emotion), "confidence", "disagree"]
        cells += self._right_aligned(self._labels) if self._with_all_classes else ["then"]
        return "  ".join(cells).rstrip() + "\n"

    def line(self, row: Row) -> str:
        cells = [_padded(_shortened(_printable(row.path), self._path), self._path)]
        if self._timed:
            cells += [f"{t:8.2f}" if t < math.inf else " " * 8 for t in row.span or _UNKNOWN]
        if row.status == ERROR:
            # The message may name the file without the "./" of the given path.
            reason = row.note.removeprefix(f"{row.path} ").removeprefix(f"{Path(row.path)} ")
            return "  ".join([*cells, f"{ERROR}: {_printable(reason)}"]) + "\n"
        prediction = row.prediction
        if not prediction:
            return "  ".join([*cells, _printable(row.note)]) + "\n"
        cells.append(_padded(prediction.emotion, self._emotion))
        cells.append(_percent(prediction.confidence).rjust(len("confidence")))
        cells.append(_percent(prediction.disagreement).rjust(len("disagree")))
        if self._with_all_classes:
            cells += self._right_aligned(map(_percent, prediction.probability_C))
        else:
            second = int(prediction.probability_C.argsort()[-2:][0])
            cells.append(_padded(self._labels[second], self._emotion))
            cells.append(_percent(prediction.probability_C[second]))
        return "  ".join([*cells, row.note]).rstrip() + "\n"

    def _right_aligned(self, texts: Iterable[str]) -> list[str]:
        columns = zip(texts, self._columns, strict=True)
        return [" " * (width - _width(text)) + text for text, width in columns]


def _percent(share: float | None) -> str:
    return percent(share, "3.0f")


def _printable(text: str) -> str:
    """Escape what could break a line or control the terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _width(text: str) -> int:
    """Return the columns that a text takes on a terminal."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))


def _shortened(path: str, width: int) -> str:
    """Keep the end of a path, which distinguishes files."""
    if _width(path) <= width:
        return path
    while _width(path) > width - 1:
        path = path[1:]
    return "…" + path


class Csv(Format):
    """Comma-separated values, as csv.DictReader reads them."""

    def header(self) -> str:
        times = ["start", "end"] if self._timed else []
        numbers = ["confidence", "disagreement"]
        return _csv_line(["path", "status", *times, "emotion", *numbers, *self._labels, "note"])

    def line(self, row: Row) -> str:
        cells = [row.path, row.status]
        if self._timed:
            cells += [f"{t:.3f}" if t < math.inf else "" for t in row.span or _UNKNOWN]
        prediction = row.prediction
        if prediction:
            values = prediction.confidence, prediction.disagreement, *prediction.probability_C
            cells.append(prediction.emotion)
            cells += ["" if value is None else f"{value:.{_DIGITS}f}" for value in values]
        else:
            cells += [""] * (3 + len(self._labels))
        return _csv_line([*cells, row.note])


def _csv_line(cells: Sequence[str]) -> str:
    # csv quotes a bare "\r" in a name only if its own terminator has one.
    text = io.StringIO(newline="")
    csv.writer(text).writerow(cells)
    return text.getvalue().removesuffix("\r\n") + "\n"


class JsonLines(Format):
    """One JSON object per line."""

    def line(self, row: Row) -> str:
        value: dict = {"path": row.path, "status": row.status}
        if self._timed:
            start, end = row.span or _UNKNOWN
            value["start"] = start if start < math.inf else None
            value["end"] = end if end < math.inf else None
        value |= dict.fromkeys(("emotion", "confidence", "disagreement", "probabilities"))
        prediction = row.prediction
        if prediction:
            value["emotion"] = prediction.emotion
            value["confidence"] = round(prediction.confidence, _DIGITS)
            if prediction.disagreement is not None:
                value["disagreement"] = round(prediction.disagreement, _DIGITS)
            probabilities = (round(float(p), _DIGITS) for p in prediction.probability_C)
            value["probabilities"] = dict(zip(self._labels, probabilities, strict=True))
        value["note"] = row.note
        return json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"


class Audacity(Format):
    """A label track: start, end and label, separated by tabs; rows without a span are left out."""

    def line(self, row: Row) -> str:
        if not row.span or row.status == ERROR:
            return ""
        label = row.prediction.emotion if row.prediction else row.note
        return f"{row.span[0]:.6f}\t{row.span[1]:.6f}\t{label}\n"
