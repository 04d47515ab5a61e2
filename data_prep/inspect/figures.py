"""The charts of an inspection: how many clips of each kind, and how measures are distributed."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ser_jax.pages import figure

MOST_BARS = 12  # beyond it bars have no name
SIZE = (4.2, 2.4)  # inches
UNITS = {
    "seconds": "seconds",
    "sampling_rate": "Hz",
    "peak_db": "dB re full scale",
    "rms_db": "dB re full scale",
    "silence": "share of the frames",
}


def counts(title: str, count_of: Mapping[str, int]) -> Any:
    """A figure: a bar a value."""
    import matplotlib

    names, values = figure.shorten(count_of), list(count_of.values())
    with matplotlib.rc_context({**figure.STYLE, "font.size": 9}):
        many = len(names) > MOST_BARS
        sheet = figure.new_figure(*SIZE, layout="constrained")
        axes = sheet.add_subplot()
        if many:
            axes.bar(range(len(names)), values, color=figure.BLUE, width=1, edgecolor="white")
            axes.set_xticks([])
            axes.set_xlabel(f"{len(names)} values, in order")
            axes.grid(axis="x", visible=False)
        else:
            axes.barh(range(len(names)), values, color=figure.BLUE)
            for row, value in enumerate(values):
                axes.text(value, row, f" {value:,}", va="center")
            axes.set_yticks(range(len(names)), names)
            axes.invert_yaxis()
            axes.set_xlim(0, 1.18 * max(values))
            axes.grid(axis="y", visible=False)
        axes.set_title(f"clips by {title}", loc="left", fontweight="bold")
    return sheet


def histogram(title: str, key: str, values: Sequence[float]) -> Any:
    """A figure: how a measure is distributed, its median marked."""
    import matplotlib

    with matplotlib.rc_context({**figure.STYLE, "font.size": 9}):
        sheet = figure.new_figure(*SIZE, layout="constrained")
        axes = sheet.add_subplot()
        # Of thousands the outermost few go, or one silent clip would press all others together.
        low = np.quantile(values, 0.001, method="lower")
        high = np.quantile(values, 0.999, method="higher")
        axes.hist(values, bins=40, range=(low, high), color=figure.BLUE)
        axes.axvline(float(np.median(values)), color=figure.VERMILION, linewidth=1.5)
        axes.set_xlabel(UNITS[key])
        axes.set_ylabel("clips")
        axes.set_title(title, loc="left", fontweight="bold")
        axes.set_title("line: median", loc="right", color=figure.GREY, fontsize=8)
        if key == "silence":
            figure.percent_axis(axes.xaxis)
    return sheet
