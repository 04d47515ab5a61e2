"""Training curves of each replica.

Axes: R replicas, E epochs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ser_jax.evaluate.finished_run import chosen_replicas
from ser_jax.pages import figure
from ser_jax.pages.figure import GREY
from ser_jax.pages.numbers import percent
from ser_jax.report import wording
from ser_jax.report.wording import Epochs

TRAIN = {"color": figure.BLUE, "linestyle": "--", "marker": "o", "label": "training"}
VALIDATION = {"color": figure.VERMILION, "linestyle": "-", "marker": "s", "label": "validation"}
RATE = {"color": GREY, "drawstyle": "steps-mid", "marker": "o"}
THIN = {"linestyle": "-", "linewidth": 0.8, "marker": "", "alpha": 0.4}
STRONG = {"marker": "", "linewidth": 2.4}
BEST = {"color": "black", "linestyle": ":", "linewidth": 1.2, "zorder": 1}
POINT = {"color": "black", "linestyle": "", "marker": "o", "zorder": 4}
PANELS = {"loss": "Cross-entropy", "accuracy": "Accuracy", "macro_f1": "Macro-F1"}


def draw(epochs: Epochs, results: dict[str, Any]) -> Any:
    """Return a figure of loss, accuracy, macro-F1 and learning rate over the epochs.

    Several replicas are drawn as thin lines and their mean as a thick one. Of a sweep, only the
    replicas of the chosen setting are shown.
    """
    from matplotlib.ticker import MaxNLocator

    chosen = chosen_replicas(results)
    rows = [epochs[replica["replica"]] for replica in chosen]
    best_R = np.array([replica["best_epoch"] for replica in chosen])
    epoch_E = np.array(sorted({row["epoch"] for replica in rows for row in replica}))
    with figure.style():
        sheet = figure.new_figure(10, 7, layout="constrained")
        *panels, last = sheet.subplots(2, 2).flat
        for axes, (key, title) in zip(panels, PANELS.items(), strict=True):
            train_RxE = _values(rows, epoch_E, f"train/{key}")
            val_RxE = _values(rows, epoch_E, f"val/{key}")
            _draw_lines(axes, epoch_E, train_RxE, TRAIN)
            _draw_lines(axes, epoch_E, val_RxE, VALIDATION)
            axes.set_title(title, loc="left", fontweight="bold")
            at_best = val_RxE[epoch_E == best_R[:, None]]
            if at_best.size:
                show = "{:.3f}".format if key == "loss" else percent
                of = "best epoch" if len(best_R) == 1 else "mean of the best epochs"
                note = f"validation, {of}: {show(at_best.mean())}"
                axes.set_title(note, loc="right", color=GREY, fontsize=9)
            _mark_best(axes, epoch_E, val_RxE, best_R)
            shown = np.stack([train_RxE, val_RxE])
            top = 1.1 * np.max(shown, initial=0.0, where=np.isfinite(shown)) or 1.0
            axes.set_ylim(0, top if key == "loss" else min(top, 1.02))
            if key != "loss":
                figure.percent_axis(axes.yaxis)
        rate_RxE = _values(rows, epoch_E, "learning_rate")
        _draw_lines(last, epoch_E, rate_RxE, RATE, mean=False)
        _mark_best(last, epoch_E, rate_RxE, best_R)
        _rate_axis(last, rate_RxE)
        for axes in (*panels, last):
            axes.set_xlim(epoch_E[0] - 0.5, epoch_E[-1] + 0.5)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
            axes.set_xlabel("epoch")
        legend = {"loc": "outside lower center", "frameon": False, "columnspacing": 1.5}
        sheet.legend(handles=_legend(best_R), ncols=5, **legend)
        title = figure.wrap([" · ".join(wording.titles(results)), *_selection(results)], 10)
        sheet.suptitle(title, fontsize=11, fontweight="bold")
    return sheet


def _values(rows: Sequence[Sequence[Mapping[str, float]]], epoch_E: Any, key: str) -> np.ndarray:
    """Return value_RxE, NaN where a replica has no such epoch."""
    values = [{row["epoch"]: row[key] for row in replica} for replica in rows]
    return np.array([[value.get(epoch, np.nan) for epoch in epoch_E] for value in values])


def _draw_lines(
    axes: Any, epoch_E: np.ndarray, value_RxE: np.ndarray, line: dict[str, Any], mean: bool = True
) -> None:
    if len(value_RxE) == 1:
        marker = {} if len(epoch_E) <= 40 else {"marker": ""}
        axes.plot(epoch_E, value_RxE[0], **line | marker)
        return
    axes.plot(epoch_E, value_RxE.T, **line | THIN)
    if mean:
        mean_E = np.ma.masked_invalid(value_RxE).mean(0).filled(np.nan)
        axes.plot(epoch_E, mean_E, **line | STRONG)


def _mark_best(axes: Any, epoch_E: np.ndarray, value_RxE: np.ndarray, best_R: np.ndarray) -> None:
    """Mark the best epoch: by a line for one replica, by points on the curves for several."""
    if len(best_R) == 1:
        axes.axvline(best_R[0], **BEST)
        return
    replica, position = np.nonzero(epoch_E == best_R[:, None])
    axes.plot(epoch_E[position], value_RxE[replica, position], **POINT)


def _rate_axis(axes: Any, rate_RxE: np.ndarray) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_title("Learning rate", loc="left", fontweight="bold")
    axes.set_yscale("log", nonpositive="mask")
    rate_RxE = np.nan_to_num(rate_RxE)
    low, high = rate_RxE.min(initial=1, where=rate_RxE > 0), rate_RxE.max(initial=1e-12)
    axes.set_ylim(low / 2, high * 2)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _legend(best_R: np.ndarray) -> list[Any]:
    from matplotlib.lines import Line2D

    if len(best_R) == 1:
        best = Line2D([], [], **BEST, label=f"best epoch: {best_R[0]}")
        return [Line2D([], [], **TRAIN), Line2D([], [], **VALIDATION), best]
    return [
        Line2D([], [], **TRAIN | STRONG),
        Line2D([], [], **VALIDATION | STRONG),
        Line2D([], [], color="black", **STRONG, label="mean of the replicas still running"),
        Line2D([], [], color="black", **THIN, label="one replica"),
        Line2D([], [], **POINT, label="its best epoch"),
    ]


def _selection(results: dict[str, Any]) -> list[str]:
    """Say which replicas are shown, if not all."""
    replicas, chosen = results["replicas"], chosen_replicas(results)
    if len(chosen) == len(replicas):
        return []
    setting = wording.setting_text(chosen[0]["setting"])
    count = f"{len(chosen)} of {len(replicas)} replicas"
    return [f"{count}, chosen on validation: {setting}" if setting else f"{count}; others failed"]
