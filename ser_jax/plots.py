"""The pictures of a run: training curves and confusion matrix. The only importer of matplotlib.

Axes: C classes; in a confusion matrix a row is a true class.
"""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

# Okabe and Ito's colours, which every kind of colour vision tells apart.
TRAIN = {"color": "#0072B2", "linestyle": "--", "marker": "o", "label": "training"}
VALIDATION = {"color": "#D55E00", "linestyle": "-", "marker": "s", "label": "validation"}
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


def curves(epochs: Sequence[dict[str, float]], results: dict[str, Any]) -> Any:
    """A figure: loss, accuracy, macro-F1 and learning rate over the epochs."""
    import matplotlib
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    columns = {key: np.array([row[key] for row in epochs]) for key in epochs[0]}
    epoch, best = columns["epoch"], results["best_epoch"]
    marker = {} if len(epochs) <= 40 else {"marker": ""}
    with matplotlib.rc_context(STYLE):
        figure = _figure(10, 7, layout="constrained")
        panels = list(figure.subplots(2, 2).flat)
        for axes, key, title in zip(
            panels,
            ("loss", "accuracy", "macro_f1"),
            ("Cross-entropy", "Accuracy", "Macro-F1"),
            strict=False,
        ):
            for part, line in (("train", TRAIN), ("val", VALIDATION)):
                axes.plot(epoch, columns[f"{part}/{key}"], **{**line, **marker})
            axes.set_title(title, loc="left", fontweight="bold")
            at_best = columns[f"val/{key}"][epoch == best]
            show = "{:.3f}".format if key == "loss" else percent
            for value in at_best:
                note = f"validation, best epoch: {show(value)}"
                axes.set_title(note, loc="right", color=GREY, fontsize=9)
            shown = np.stack([columns[f"train/{key}"], columns[f"val/{key}"]])
            top = 1.1 * np.max(shown, initial=0.0, where=np.isfinite(shown)) or 1.0
            axes.set_ylim(0, top if key == "loss" else min(top, 1.02))
            if key != "loss":
                axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{100 * v:g} %"))
        rate, axes = columns["learning_rate"], panels[3]
        axes.plot(epoch, rate, drawstyle="steps-mid", color=GREY, **{"marker": "o", **marker})
        axes.set_title("Learning rate", loc="left", fontweight="bold")
        axes.set_yscale("log", nonpositive="mask")
        low, high = rate.min(initial=1, where=rate > 0), rate.max(initial=1e-12)
        axes.set_ylim(low / 2, high * 2)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        for axes in panels:
            axes.axvline(best, color="black", linestyle=":", linewidth=1.2, zorder=1)
            axes.set_xlim(epoch[0] - 0.5, epoch[-1] + 0.5)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
            axes.set_xlabel("epoch")
        lines = panels[0].lines
        lines[2].set_label(f"best epoch: {best}")
        figure.legend(handles=lines, loc="outside lower center", ncols=3, frameon=False)
        figure.suptitle(_wrap([" · ".join(_titles(results))], 10), fontsize=11, fontweight="bold")
    return figure


def confusion(results: dict[str, Any]) -> Any:
    """A figure: the confusion matrix, each row as shares of its true class, with the counts."""
    import matplotlib

    counts = np.array(results["confusion"], float)
    labels = [s if len(s) <= 22 else s[:21] + "…" for s in map(str, results["labels"])]
    n_classes, support = len(labels), counts.sum(1, keepdims=True)
    share = counts / np.maximum(support, 1)
    cell = min(1.2, max(0.72, 5.4 / n_classes))  # inches
    side = n_classes * cell
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = _figure(side, side)
        axes = figure.add_axes((0, 0, 1, 1))  # exactly; saving makes room for what lies around it
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for i, j in np.ndindex(n_classes, n_classes):
            ink = {
                "ha": "center",
                "color": "white" if share[i, j] > 0.6 else "black",
                "fontweight": "bold" if i == j else "normal",
            }
            if support[i]:
                axes.text(j, i - 0.04, f"{100 * share[i, j]:.0f} %", va="bottom", **ink)
            axes.text(j, i + 0.08, f"{counts[i, j]:,.0f}", va="top", fontsize=8, **ink)
        ticks = range(n_classes)
        slant = {}
        if max(map(len, labels)) * 0.085 > cell:
            slant = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
        axes.set_xticks(ticks, labels, **slant)
        axes.set_yticks(ticks, labels)
        axes.set_xlabel("predicted", fontweight="bold")
        axes.set_ylabel("true", fontweight="bold")
        right = axes.secondary_yaxis("right")
        right.set_yticks(
            ticks,
            [
                f"{percent(recall)} of {n:,.0f}" if n else "no clips"
                for recall, n in zip(np.diag(share), support[:, 0], strict=True)
            ],
        )
        right.set_ylabel("recall", fontweight="bold")
        for edge in (axes, right):
            edge.tick_params(length=0)
            edge.spines[:].set_visible(False)
        for line in np.arange(n_classes - 1) + 0.5:  # white gaps between the cells
            axes.axhline(line, color="white", linewidth=1.5)
            axes.axvline(line, color="white", linewidth=1.5)
        n = f"{results['n_test']:,} test clips"
        if counts.sum() != results["n_test"]:
            n += f", {counts.sum():,.0f} predictions"
        scores = f"accuracy {percent(results['accuracy'])} · UAR {percent(results['uar'])}"
        axes.set_title(_wrap([*_titles(results), f"{n} · {scores}"], side + 2.5), pad=10)
    return figure


def _figure(width: float, height: float, **options: Any) -> Any:
    """A figure (inches) of its own: pyplot would keep it and its backend for the whole process."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), **options)
    FigureCanvasAgg(figure)
    return figure


def _titles(results: dict[str, Any]) -> tuple[str, str]:
    speakers = "unseen" if results["unseen_speakers"] else "seen"
    return (
        f"{results['model']} on {results['corpus']}",
        f"split {results['protocol']}, test speakers {speakers} in training",
    )


def _wrap(lines: Sequence[str], width: float) -> str:
    """Breaks lines of 11-point text to `width` inches."""
    return "\n".join(textwrap.fill(line, int(11 * width)) for line in lines)


def percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"
