"""What all pictures share: their style and sheet, and how they name a run.

Only the plots*.py import matplotlib here, and only inside functions.
"""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ser_jax.common import files
from ser_jax.pages import numbers

# Okabe and Ito's colours, which every kind of colour vision tells apart.
BLUE, VERMILION = "#0072B2", "#D55E00"
GREY, PALE = "#595959", "#D9D9D9"
STYLE = {
    "font.size": 10,
    "text.parse_math": False,  # a label with two dollar signs is no formula
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": PALE,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.8,
    "lines.markersize": 4,
}


def new_figure(width: float, height: float, **options: Any) -> Any:
    """A figure (inches) of its own: pyplot would keep it and its backend for the whole process."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sheet = Figure(figsize=(width, height), **options)
    FigureCanvasAgg(sheet)
    return sheet


def save(sheet: Any, path: Path, dpi: int = 150) -> None:
    """Writes a figure as PNG, the same bytes for the same figure, with room for all its texts."""
    with files.replacing(path) as temporary:
        sheet.savefig(temporary, dpi=dpi, bbox_inches="tight", metadata={"Software": None})


def wrap(lines: Sequence[str], width: float) -> str:
    """Breaks lines of 11-point text to `width` inches."""
    return "\n".join(textwrap.fill(line, int(11 * width)) for line in lines)


def shorten(names: Sequence[Any], length: int = 22) -> list[str]:
    """Names that are cut to a length."""
    return [s if len(s) <= length else s[: length - 1] + "…" for s in map(str, names)]


def percent_axis(axis: Any) -> None:
    """Ticks of fractions, written as per cent."""
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: numbers.percent(value, "g")))
