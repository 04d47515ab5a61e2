"""Reliability diagram, and accuracy against coverage."""

from collections.abc import Mapping, Sequence
from typing import Any

from ser_jax.pages import figure
from ser_jax.pages.figure import GREY
from ser_jax.pages.numbers import percent
from ser_jax.report import wording

PERFECT = {"color": GREY, "linestyle": ":", "linewidth": 1.2}
POINTS = {"color": figure.BLUE, "marker": "o", "clip_on": False}


def draw(results: dict[str, Any]) -> Any:
    """Return a figure: accuracy by confidence, and on the most confident predictions alone."""
    from matplotlib.ticker import MaxNLocator

    calibration = results["calibration"]
    bins = [b for b in calibration["bins"] if b["n"]]
    with figure.style():
        sheet = figure.new_figure(10, 5, layout="constrained")
        grid = sheet.add_gridspec(2, 2, height_ratios=(3, 1))
        upper, right = sheet.add_subplot(grid[0, 0]), sheet.add_subplot(grid[:, 1])
        lower = sheet.add_subplot(grid[1, 0], sharex=upper)
        upper.plot([0, 1], [0, 1], **PERFECT, label="confidence = accuracy")
        confidence, accuracy = ([b[key] for b in bins] for key in ("confidence", "accuracy"))
        upper.plot(confidence, accuracy, **POINTS, label="bins of predictions")
        upper.set_title("Reliability", loc="left", fontweight="bold")
        error = f"expected calibration error: {percent(calibration['ece'])}"
        upper.set_title(error, loc="right", color=GREY, fontsize=9)
        upper.set_ylabel("accuracy")
        upper.tick_params(labelbottom=False)
        for b in bins:
            width = b["high"] - b["low"]
            lower.bar(b["low"], b["n"], width, align="edge", color=figure.BLUE, edgecolor="w")
        lower.set_ylabel("predictions")
        lower.set_xlabel("confidence (probability of the predicted class)")
        lower.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4, min_n_ticks=1))
        _draw_coverage(right, results["coverage"])
        for axis in (upper.xaxis, upper.yaxis, right.xaxis, right.yaxis):
            figure.percent_axis(axis)
        upper.set(xlim=(0, 1), ylim=(0, 1))
        figure.legend_below(sheet, 2)  # inside, it would cover the curve of some model
        title = figure.wrap(wording.heading(results), 10)
        sheet.suptitle(title, fontsize=11, fontweight="bold")
    return sheet


def _draw_coverage(axes: Any, points: Sequence[Mapping[str, float]]) -> None:
    coverage, accuracy = ([point[key] for point in points] for key in ("coverage", "accuracy"))
    axes.plot(coverage, accuracy, **POINTS)
    axes.set_title("Accuracy against coverage", loc="left", fontweight="bold")
    half = accuracy[coverage.index(0.5)]
    axes.set_title(f"at 50 % coverage: {percent(half)}", loc="right", color=GREY, fontsize=9)
    axes.set(xlim=(1.02, 0), ylim=(0, 1.02))
    axes.set_xlabel("coverage (share of predictions kept)")
    axes.set_ylabel("accuracy")
