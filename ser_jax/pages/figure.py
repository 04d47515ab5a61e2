"""The style of all figures, and how they are created and saved.

matplotlib is imported inside functions only, for it takes long to load.
"""

import contextlib
import os
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ser_jax.common import files
from ser_jax.pages import numbers

# Okabe and Ito's palette, distinguishable under all kinds of colour vision.
BLUE, VERMILION = "#0072B2", "#D55E00"
GREY, PALE = "#595959", "#D9D9D9"
STYLE = {
    "font.size": 10,
    "text.parse_math": False,  # a label with two dollar signs is not a formula
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


def style(changes: Mapping[str, Any] | None = None) -> contextlib.AbstractContextManager:
    """Return a context that draws in the style of all figures, with changes."""
    # Nothing here depends on it, and the import fails on a backend that is not installed, such as
    # that of a notebook which has started this program.
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    return matplotlib.rc_context({**STYLE, **(changes or {})})


def new_figure(width: float, height: float, **options: Any) -> Any:
    """Return a figure of a size in inches, without pyplot, which would keep it in memory."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sheet = Figure(figsize=(width, height), **options)
    FigureCanvasAgg(sheet)
    return sheet


def save(sheet: Any, path: Path, dpi: int = 150) -> None:
    """Write a figure as PNG, cropped to its texts; the same figure gives the same bytes."""
    with files.replacing(path) as temporary:
        sheet.savefig(temporary, dpi=dpi, bbox_inches="tight", metadata={"Software": None})


def wrap(lines: Sequence[str], width: float) -> str:
    """Break lines of 11-point text to `width` inches."""
    return "\n".join(textwrap.fill(line, int(11 * width)) for line in lines)


def shorten(names: Sequence[Any], length: int = 22) -> list[str]:
    """Cut names to a length."""
    return [s if len(s) <= length else s[: length - 1] + "…" for s in map(str, names)]


def legend_below(sheet: Any, ncols: int, order: Sequence[str] = ()) -> None:
    """List each label in use once, below all axes, in a given order or as they were drawn."""
    handles = {}
    for axes in sheet.axes:
        handles |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    labels = [label for label in order or handles if label in handles]
    place = {"loc": "outside lower center", "ncols": ncols, "frameon": False}
    sheet.legend([handles[label] for label in labels], labels, **place)


def percent_axis(axis: Any) -> None:
    """Label the ticks of fractions in per cent."""
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: numbers.percent(value, "g")))
