"""The blocks of a page. A bare text is a paragraph.

All texts are plain; `markdown` and `html` escape and render them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Strong:
    text: str


@dataclass(frozen=True)
class Code:
    text: str


@dataclass(frozen=True)
class Link:
    text: str | Code
    target: str


Text = str | Strong | Code | Link | tuple[str | Strong | Code | Link, ...]  # one line


@dataclass(frozen=True)
class Heading:
    text: str
    level: int = 2


@dataclass(frozen=True)
class Bullets:
    items: Sequence[Text]


@dataclass(frozen=True)
class Listing:
    """Lines of code or commands."""

    text: str


@dataclass(frozen=True)
class Figure:
    """A picture: its path relative to the page, and what it shows."""

    file: str
    alt: str


@dataclass(frozen=True)
class Table:
    """A table whose first column names its rows.

    Attributes:
      columns: the heads.
      rows: cells; a short row is filled up with empty ones.
      caption: shown in HTML only.
      text_columns: how many columns, from the left, hold text; the others hold numbers.
    """

    columns: Sequence[Text]
    rows: Sequence[Sequence[Text]]
    caption: str = ""
    text_columns: int = 1

    def filled(self) -> list[list[Text]]:
        return [[*row, *[""] * (len(self.columns) - len(row))] for row in self.rows]


@dataclass(frozen=True)
class Html:
    """Trusted HTML, inserted verbatim; Markdown leaves it out."""

    text: str


Block = Text | Heading | Bullets | Listing | Figure | Table | Html


def one_line(text: Any) -> str:
    """Return a text as one line of valid Unicode: a file's name may be arbitrary bytes."""
    valid = str(text).encode("utf-8", "backslashreplace").decode("utf-8")
    return re.sub(r"\s+", " ", valid)
