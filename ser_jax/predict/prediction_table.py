"""Predictions as a table for people, row by row."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from ser_jax.predict.formats import ERROR, Row

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
    return f"{100 * share:3.0f} %"


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
