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
    text: str


@dataclass(frozen=True)
class Figure:
    file: str  # its path relative to the page
    alt: str  # what it shows


@dataclass(frozen=True)
class Table:
    columns: Sequence[Text]
    rows: Sequence[Sequence[Text]]  # the first cell names its row
    caption: str = ""  # in HTML only
    text_columns: int = 1  # so many, from the left, are aligned left; the others hold numbers

    def filled(self) -> list[list[Text]]:
        """Return the rows, short ones filled up with empty cells."""
        return [[*row, *[""] * (len(self.columns) - len(row))] for row in self.rows]


@dataclass(frozen=True)
class Html:
    text: str  # trusted HTML, inserted verbatim; Markdown leaves it out


Block = Text | Heading | Bullets | Listing | Figure | Table | Html


def one_line(text: Any) -> str:
    """Return a text as one line of valid Unicode: a file's name may be arbitrary bytes."""
    valid = str(text).encode("utf-8", "backslashreplace").decode("utf-8")
    return re.sub(r"\s+", " ", valid)
