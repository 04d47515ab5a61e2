"""Confusion matrices: the model's with its counts, and the listeners' beside the model's.

Axes: C classes; a row is a true class.
"""

from typing import Any

import numpy as np

from ser_jax.pages import figure
from ser_jax.pages.numbers import percent
from ser_jax.report import wording


def draw(results: dict[str, Any]) -> Any:
    """Return a figure of the confusion matrix, normalised by row, with the counts."""
    counts_CxC = np.array(results["confusion"], float)
    labels = figure.shorten(results["labels"])
    n_classes = len(labels)
    cell = min(1.2, max(0.72, 5.4 / n_classes))  # inches
    side = n_classes * cell
    with figure.style({"axes.grid": False}):
        sheet = figure.new_figure(side, side)
        axes = sheet.add_axes((0, 0, 1, 1))  # saving makes room for the texts around it
        share_CxC = _draw_matrix(axes, counts_CxC, labels, cell, with_counts=True)
        axes.set_xlabel("predicted", fontweight="bold")
        axes.set_ylabel("true", fontweight="bold")
        right = axes.secondary_yaxis("right")
        recalls = [
            f"{percent(recall)} of {n:,.0f}" if n else "no clips"
            for recall, n in zip(np.diag(share_CxC), counts_CxC.sum(1), strict=True)
        ]
        right.set_yticks(range(n_classes), recalls)
        right.set_ylabel("recall", fontweight="bold")
        right.tick_params(length=0)
        right.spines[:].set_visible(False)
        scores = f"accuracy {percent(results['accuracy'])} · UAR {percent(results['uar'])}"
        lines = [*wording.titles(results), f"{wording.test_clips(results)} · {scores}"]
        axes.set_title(figure.wrap(lines, side + 2.5), pad=10)
    return sheet


def draw_listeners(results: dict[str, Any]) -> Any:
    """Return a figure of the listeners' confusion matrix beside the model's, on one scale."""
    labels, listeners = figure.shorten(results["labels"]), results["human"]
    cell = max(0.6, 3.4 / len(labels))  # inches
    side, overhang = len(labels) * cell, 0.065 * len(labels[0]) - cell / 2  # of a rotated label
    gap = 0.4 + max(0, overhang)
    width = 2 * side + gap
    panels = [
        ("listeners", listeners, f"{listeners['n_ratings']:,} ratings"),
        (results["model"], results, wording.test_clips(results)),
    ]
    with figure.style({"axes.grid": False}):
        sheet = figure.new_figure(width, side)
        for i, (name, scores, n) in enumerate(panels):
            axes = sheet.add_axes((i * (side + gap) / width, 0, side / width, 1))
            counts_CxC = np.array(scores["confusion"], float)
            _draw_matrix(axes, counts_CxC, labels, cell, with_counts=False)
            measures = f"accuracy {percent(scores['accuracy'])} · UAR {percent(scores['uar'])}"
            axes.set_title(figure.wrap([*figure.shorten([name], 36), n, measures], side + 0.4))
            axes.set_xlabel("predicted" if i else "chosen by listeners", fontweight="bold")
        left, right = sheet.axes
        left.set_ylabel("intended", fontweight="bold")
        right.set_yticks([])
        n_lines = 1 + max(axes.get_title().count("\n") for axes in sheet.axes)
        place = {"x": 0.5, "y": 1 + (0.25 + 0.18 * n_lines) / side, "ha": "center", "va": "bottom"}
        title = figure.wrap(wording.titles(results), width)
        sheet.text(s=title, fontsize=11, fontweight="bold", **place)
    return sheet


def _draw_matrix(
    axes: Any, counts_CxC: np.ndarray, labels: list[str], cell: float, *, with_counts: bool
) -> np.ndarray:
    """Draw a matrix with cells of `cell` inches; return share_CxC, normalised by row."""
    n_classes, support_Cx1 = len(labels), counts_CxC.sum(1, keepdims=True)
    share_CxC = counts_CxC / np.maximum(support_Cx1, 1)
    axes.imshow(share_CxC, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for i, j in np.ndindex(n_classes, n_classes):
        ink = {
            "ha": "center",
            "color": "white" if share_CxC[i, j] > 0.6 else "black",
            "fontweight": "bold" if i == j else "normal",
        }
        if support_Cx1[i]:
            place = {"y": i - 0.04, "va": "bottom"} if with_counts else {"y": i, "va": "center"}
            axes.text(j, s=percent(share_CxC[i, j], ".0f"), **place, **ink)
        if with_counts:
            axes.text(j, i + 0.08, f"{counts_CxC[i, j]:,.0f}", va="top", fontsize=8, **ink)
    rotation = {}
    if max(map(len, labels)) * 0.085 > cell:
        rotation = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(n_classes), labels, **rotation)
    axes.set_yticks(range(n_classes), labels)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for line in np.arange(n_classes - 1) + 0.5:  # gaps between the cells
        axes.axhline(line, color="white", linewidth=1.5)
        axes.axvline(line, color="white", linewidth=1.5)
    return share_CxC
