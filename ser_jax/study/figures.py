"""The study's figures: the metric of every model, and the difference that each change makes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ser_jax.metrics.classification import TITLES
from ser_jax.pages import figure, numbers
from ser_jax.pages.figure import BLUE, GREY, VERMILION
from ser_jax.study.claims import CONFIRMED, NOT_CONFIRMED, UNDECIDED, verdict
from ser_jax.study.comparisons import Comparison, Section
from ser_jax.study.intervals import Estimate, estimates
from ser_jax.study.runs import SEEN, SENTENCES, UNSEEN, StudyRun

GREEN = "#009E73"
# Colour and marker, by test speakers.
LOOKS = {SEEN: (BLUE, "o"), SENTENCES: (GREEN, "D"), UNSEEN: (VERMILION, "s")}
REPORTED = {"color": "black", "marker": "x", "markersize": 8, "linestyle": ""}
VERDICTS = {CONFIRMED: BLUE, NOT_CONFIRMED: VERMILION, UNDECIDED: GREY}  # above, below, around 0


def table1(
    runs: Sequence[StudyRun], reported: Mapping[str, float], reference: Mapping[str, str]
) -> Any:
    """Return a figure of each run's metric with limits, beside reported and listeners' values.

    `runs` are finished, one per model and protocol; see Findings for the others.
    """
    metric = reference["metric"]
    models = sorted({run.model for run in runs})
    protocols = list(dict.fromkeys(run.protocol for run in runs))
    with figure.style():
        sheet = figure.new_figure(8, 1.8 + 0.8 * len(models), layout="constrained")
        axes = sheet.subplots()
        for run in runs:
            colour, marker = LOOKS[run.speakers]
            offset = protocols.index(run.protocol) - (len(protocols) - 1) / 2
            row = models.index(run.model) + 0.22 * offset
            label = f"test speakers {run.test_speakers}"
            estimate = estimates(run.finished)[metric]
            _draw(axes, estimate, row, color=colour, marker=marker, label=label)
            if run.name in reported:
                label = f"{reference['column']}, {reference['corpus']}"
                axes.plot(reported[run.name], row, **REPORTED, label=label)
        results = [run.finished.results for run in runs]
        rated = {}  # the listeners of each protocol's test clips
        for run in runs:
            if metric in run.finished.results.get("human", {}):
                rated.setdefault(run.protocol, run)
        for protocol, run in rated.items():
            colour, _ = LOOKS[run.speakers]
            label = f"listeners, each rating, test clips of {protocol}"
            human = run.finished.results["human"][metric]
            axes.axvline(human, color=colour, linestyle=":", label=label)
        axes.set_yticks(range(len(models)), models)
        axes.set_ylim(len(models) - 0.5, -0.5)
        low, high = axes.get_xlim()
        axes.set_xlim(max(0.0, low), min(1.0, high))
        title = TITLES.get(metric, metric)
        axes.set_xlabel(f"{title}; bars: 95 % over test speakers and trainings")
        figure.percent_axis(axes.xaxis)
        figure.legend_below(sheet, 2)
        sheet.suptitle(f"Every model on {results[0]['corpus']}", fontweight="bold")
    return sheet


def comparisons(sections: Iterable[Section], metric: str) -> Any:
    """Return a figure of the difference that each change makes, with limits, by section.

    Comparisons without estimates are left out.
    """
    rows: list[Comparison | str] = []  # a section's title, then its comparisons
    for section in sections:
        estimated = [comparison for comparison in section.comparisons if comparison.estimates]
        rows += [section.title, *estimated] if estimated else []
    with figure.style():
        sheet = figure.new_figure(9, 1.2 + 0.29 * len(rows), layout="constrained")
        axes = sheet.subplots()
        labels = [r if isinstance(r, str) else f"{r.change} · {r.run.protocol}" for r in rows]
        axes.set_yticks(range(len(rows)), labels)
        for row, (comparison, tick) in enumerate(zip(rows, axes.get_yticklabels(), strict=True)):
            if isinstance(comparison, str):
                tick.set_fontweight("bold")
                continue
            difference = comparison.estimates[metric]
            _draw(axes, difference, row, color=VERDICTS[verdict(difference)], marker="o")
        axes.axvline(0, color="black", linewidth=1)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel(f"points of {TITLES.get(metric, metric)}; bars: 95 %")
        axes.xaxis.set_major_formatter(
            lambda value, _: numbers.points(value, "+.4g") if value else "0"
        )
        sheet.suptitle("What each change does (grey: undecided)", fontweight="bold")
    return sheet


def _draw(axes: Any, estimate: Estimate, row: float, **style: Any) -> None:
    """Draw a marker with its limits; a hollow one without limits."""
    if estimate.low is None:
        axes.plot(estimate.value, row, linestyle="", markerfacecolor="white", markersize=7, **style)
        return
    reach = [[estimate.value - estimate.low], [estimate.high - estimate.value]]
    axes.errorbar(estimate.value, row, xerr=reach, capsize=3, markersize=7, linestyle="", **style)
