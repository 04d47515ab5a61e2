"""The charts of an inspection: bar charts of counts and histograms of measurements."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.inspect.measure import Quantity
from ser_jax.pages import figure, html
from ser_jax.pages.blocks import Figure, Html

MAX_NAMED_BARS = 12
SIZE = (4.2, 2.4)  # inches


def bar_chart(title: str, count_of: Mapping[str, int]) -> Any:
    """Return a bar chart: one bar per value."""
    names, values = figure.shorten(count_of), list(count_of.values())
    with figure.style({"font.size": 9}):
        sheet = figure.new_figure(*SIZE, layout="constrained")
        axes = sheet.add_subplot()
        if len(names) > MAX_NAMED_BARS:
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


def histogram(quantity: Quantity, values: Sequence[float]) -> Any:
    """Return a histogram with the median marked."""
    with figure.style({"font.size": 9}):
        sheet = figure.new_figure(*SIZE, layout="constrained")
        axes = sheet.add_subplot()
        # A few outliers among thousands are left out: a silent clip would compress all others.
        low = np.quantile(values, 0.001, method="lower")
        high = np.quantile(values, 0.999, method="higher")
        axes.hist(values, bins=40, range=(low, high), color=figure.BLUE)
        axes.axvline(float(np.median(values)), color=figure.VERMILION, linewidth=1.5)
        axes.set_xlabel(quantity.axis)
        axes.set_ylabel("clips")
        axes.set_title(quantity.title, loc="left", fontweight="bold")
        axes.set_title("line: median", loc="right", color=figure.GREY, fontsize=8)
        if quantity.unit == "%":
            figure.percent_axis(axes.xaxis)
    return sheet


def save(sheet: Any, folder: Path, name: str, alt: str) -> Figure:
    """Write a chart to `folder` and return it as a block with the text `alt`."""
    figure.save(sheet, folder / name, dpi=110)
    return Figure(name, alt)


def grid(charts: Sequence[Figure]) -> Html:
    """Return charts side by side."""
    return Html(f'<div class="charts">{"".join(map(html.render, charts))}</div>')
