"""Tables and names in the Markdown that a run writes."""

import html
import re
from collections.abc import Sequence


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], align: str = "---:") -> str:
    """A Markdown table.

    Args:
      columns: the heads, Markdown.
      rows: cells, Markdown; a row with too few is filled up with empty ones.
      align: ruler of every column but the first, which is aligned to the left.
    """
    ruler = ["---"] + [align] * (len(columns) - 1)
    lines = [columns, ruler, *([*row, *[""] * (len(columns) - len(row))] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escape(text: str) -> str:
    """A name as it stands: no Markdown, no HTML, one line."""
    plain = html.escape(" ".join(str(text).split()), quote=False)
    return re.sub(r"([\\`*_\[\]|~$#])", r"\\\1", plain)
