"""Accuracy by each attribute of the clips. All lengths are inches."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ser_jax.pages import figure
from ser_jax.pages.numbers import percent
from ser_jax.report import wording

MARK = {"linestyle": "", "clip_on": False, "markersize": 5.5}
MODEL = {**MARK, "color": figure.BLUE, "marker": "o", "zorder": 3}
LISTENERS = {**MARK, "color": figure.VERMILION, "marker": "D", "fillstyle": "none", "zorder": 4}
INTERVALS = {  # by what is resampled
    "speakers": {"color": figure.BLUE, "linewidth": 1.8, "alpha": 0.6, "zorder": 2},
    "clips": {"color": figure.BLUE, "linewidth": 0.8, "alpha": 0.8, "zorder": 2},
}
OVERALL = {"color": "black", "linestyle": "--", "linewidth": 1, "zorder": 1}
CHANCE = {"color": figure.GREY, "linestyle": ":", "linewidth": 1.5, "zorder": 1}

MOST_ROWS = 16  # an attribute with more values is drawn as a strip of sorted dots
MOST_NAMES = 30  # that fit below such a strip
ROW, HEAD, AXES, STRIP, CLIPS, LETTER = 0.24, 0.45, 3.4, 1.9, 1.0, 0.085

Rows = Sequence[Mapping[str, Any]]


def draw(results: dict[str, Any]) -> Any:
    """Return a figure of the accuracy and its 95 % interval for each value of each attribute.

    An attribute with the same value for all clips is left out.
    """
    groups = results["breakdown"]
    attributes = {name: rows for name, rows in groups.items() if len(rows) > 1} or groups
    strips = {name: rows for name, rows in attributes.items() if len(rows) > MOST_ROWS}
    columns = _columns({name: rows for name, rows in attributes.items() if name not in strips})
    margins = [_margin(column) for column in columns]
    width = sum(margins) + len(columns) * (AXES + CLIPS)
    body = max(map(_height, columns)) + (0.4 if strips else 0)
    height = body + len(strips) * (HEAD + STRIP)
    with figure.style():
        sheet = figure.new_figure(width, height)

        def place(left: float, top: float, wide: float, high: float) -> Any:
            bottom = 1 - (top + high) / height
            return sheet.add_axes((left / width, bottom, wide / width, high / height))

        left = 0.0
        for column, margin in zip(columns, margins, strict=True):
            top = 0.0
            for name, rows in column.items():
                axes = place(left + margin, top + HEAD, AXES, ROW * len(rows))
                _draw_rows(axes, name, rows, lowest=name == list(column)[-1])
                _references(axes.axvline, results)
                top += HEAD + ROW * len(rows)
            left += margin + AXES + CLIPS
        for i, (name, rows) in enumerate(strips.items(), start=1):
            top = body + i * HEAD + (i - 1) * STRIP
            axes = place(margins[0], top, width - margins[0], STRIP)
            _draw_strip(axes, name, rows)
            _references(axes.axhline, results)
        _frame(sheet, results, attributes)
    return sheet


def _columns(attributes: Mapping[str, Rows]) -> list[dict[str, Rows]]:
    """Distribute the attributes over two columns of similar height."""
    columns = [{}, {}]
    for name, rows in attributes.items():
        min(columns, key=_height)[name] = rows
    return [column for column in columns if column] or [{}]


def _height(column: Mapping[str, Rows]) -> float:
    return sum(HEAD + ROW * len(rows) for rows in column.values())


def _margin(column: Mapping[str, Rows]) -> float:
    names = [name for rows in column.values() for name in _names(rows)]
    return 0.25 + LETTER * max(map(len, names), default=5)


def _draw_rows(axes: Any, name: str, rows: Rows, *, lowest: bool) -> None:
    """Draw one row per value: its name on the left, the number of clips on the right."""
    place = np.arange(len(rows))
    axes.plot(_column(rows, "accuracy"), place, **MODEL)
    axes.plot(_column(rows, "human"), place, **LISTENERS)
    for i, row in enumerate(rows):
        if row["low"] is not None:
            axes.hlines(i, row["low"], row["high"], **INTERVALS[row["interval_over"]])
        clips = f"{row['n']:,} clip{'s' if row['n'] != 1 else ''}"
        axes.text(1.03, i, clips, va="center_baseline", fontsize=9, color=figure.GREY)
    axes.set_title(_heading(name), loc="left", fontweight="bold", pad=4)
    axes.set_yticks(place, _names(rows))
    axes.set(xlim=(0, 1), ylim=(len(rows) - 0.5, -0.5))
    axes.tick_params(axis="y", length=0, pad=8)
    axes.grid(visible=False, axis="y")
    figure.percent_axis(axes.xaxis)
    axes.set_xlabel("accuracy" if lowest else "")
    axes.tick_params(labelbottom=lowest)


def _draw_strip(axes: Any, name: str, rows: Rows) -> None:
    """Draw one column per value, by increasing accuracy."""
    rows = sorted(rows, key=lambda row: row["accuracy"])
    place = np.arange(len(rows))
    for i, row in enumerate(rows):
        if row["low"] is not None:
            axes.vlines(i, row["low"], row["high"], **INTERVALS[row["interval_over"]])
    axes.plot(place, _column(rows, "accuracy"), **MODEL)
    axes.plot(place, _column(rows, "human"), **LISTENERS)
    title = f"{_heading(name)}, {len(rows)} sorted by accuracy"
    axes.set_title(title, loc="left", fontweight="bold")
    if len(rows) <= MOST_NAMES:
        axes.set_xticks(place, _names(rows))
    else:
        axes.set_xticks([])
    axes.tick_params(axis="x", rotation=90, length=0)
    axes.set(ylim=(0, 1), xlim=(-1, len(rows)))
    axes.grid(visible=False, axis="x")
    axes.set_ylabel("accuracy")
    figure.percent_axis(axes.yaxis)


def _heading(attribute: str) -> str:
    return attribute.replace("_", " ").capitalize()


def _names(rows: Rows) -> list[str]:
    return figure.shorten([row["value"] for row in rows])


def _column(rows: Rows, key: str) -> np.ndarray:
    """Return the values of a key, NaN for None."""
    return np.array([row[key] for row in rows], float)


def _references(line: Callable[..., Any], results: dict[str, Any]) -> None:
    line(results["accuracy"], **OVERALL)
    line(1 / len(results["labels"]), **CHANCE)


def _frame(sheet: Any, results: dict[str, Any], attributes: Mapping[str, Rows]) -> None:
    """Add title and legend outside the axes; saving makes room for them."""
    from matplotlib.lines import Line2D

    width, height = sheet.get_size_inches()
    rows = [row for rows in attributes.values() for row in rows]
    chance = 1 / len(results["labels"])
    handles = [Line2D([], [], **MODEL, label="model")]
    for over, line in INTERVALS.items():
        if over in {row["interval_over"] for row in rows}:
            handles.append(Line2D([], [], **line, label=f"95 % interval over {over}"))
    if any(row["human"] is not None for row in rows):
        handles.append(Line2D([], [], **LISTENERS, label="listeners, each rating"))
    handles.append(Line2D([], [], **OVERALL, label=f"all clips: {percent(results['accuracy'])}"))
    handles.append(Line2D([], [], **CHANCE, label=f"chance: {percent(chance)}"))
    unnamed = max(map(len, attributes.values())) > MOST_NAMES
    place = (0.5, -(0.2 if unnamed else 0.55) / height)
    sheet.legend(handles=handles, ncols=3, frameon=False, loc="upper center", bbox_to_anchor=place)
    title = {"va": "bottom", "ha": "center", "fontsize": 11, "fontweight": "bold"}
    sheet.text(0.5, 1, figure.wrap(wording.heading(results), width), **title)
