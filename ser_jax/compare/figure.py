"""The forest plot of several runs: each metric with its interval, one row per run."""

from collections.abc import Sequence
from typing import Any

from ser_jax.evaluate.finished_run import FinishedRun, chosen_replicas
from ser_jax.metrics.classification import TITLES
from ser_jax.pages import figure, numbers

# Shape and fill as well as colour say whether the test speakers are new to the network.
UNSEEN = {"color": figure.BLUE, "marker": "o", "label": "unseen speakers"}
SEEN = {
    "color": figure.VERMILION,
    "marker": "s",
    "markerfacecolor": "white",
    "label": "speakers seen in training",
}
REPLICA = {"color": figure.GREY, "marker": "|", "markersize": 7, "label": "one replica"}
LISTENERS = {"color": "black", "marker": "x", "markersize": 7, "label": "listeners, each rating"}


def forest(runs: Sequence[FinishedRun]) -> Any:
    """Return a figure of each run's mean with its interval, its replicas and human listeners."""
    with figure.style():
        sheet = figure.new_figure(13, 1.5 + 0.65 * len(runs), layout="constrained")
        sheet.get_layout_engine().set(wspace=0.04)
        panels = sheet.subplots(1, len(TITLES), sharex=True, sharey=True)
        for axes, (metric, title) in zip(panels, TITLES.items(), strict=True):
            for row, run in enumerate(runs):
                _row(axes, row, metric, run.results)
            axes.set_title(title, loc="left", fontweight="bold")
            figure.percent_axis(axes.xaxis)
            axes.grid(visible=False, axis="y")
            axes.tick_params(axis="y", length=0)
            axes.spines.left.set_visible(False)
        panels[0].set_yticks(range(len(runs)), [_label(run) for run in runs], fontsize=9)
        panels[0].set_ylim(len(runs) - 0.4, -0.7)
        marks = (UNSEEN, SEEN, REPLICA, LISTENERS)
        figure.legend_below(sheet, 4, [mark["label"] for mark in marks])
        title = "Mean ± sd over replicas, with a 95 % interval over test speakers"
        sheet.suptitle(title, fontsize=11)
    return sheet


def _row(axes: Any, row: int, metric: str, results: dict[str, Any]) -> None:
    score = results["intervals"][metric]
    mark = UNSEEN if results["unseen_speakers"] else SEEN
    if score["low"] is not None:
        limits = [score["low"], score["high"]]
        axes.plot(limits, [row, row], color=mark["color"], linewidth=2, solid_capstyle="butt")
    axes.plot(score["mean"], row, linestyle="", markersize=8, **mark)
    text, place = numbers.mean_sd(score["mean"], score["sd"]), (score["mean"], row)
    axes.annotate(text, place, (0, 7), textcoords="offset points", ha="center", fontsize=9)
    chosen = chosen_replicas(results)
    if len(chosen) > 1:
        axes.plot([r[metric] for r in chosen], [row + 0.22] * len(chosen), linestyle="", **REPLICA)
    if metric in results.get("human", {}):
        axes.plot(results["human"][metric], row, linestyle="", **LISTENERS)


def _label(run: FinishedRun) -> str:
    results, n = run.results, len(chosen_replicas(run.results))
    (name,) = figure.shorten([run.name], 48)
    speakers = f"{results['n_test_speakers']} speakers"
    return f"{name}\n{results['protocol']}, {speakers}, {n} replica{'s' if n > 1 else ''}"
