"""metrics.jsonl + results.json → two pictures and a page. The only importer of matplotlib.

Axes: C classes; in a confusion matrix a row is a true class.
"""

import html
import json
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ser_jax import files, metrics
from ser_jax.errors import UserError

EPOCH_KEYS = """epoch train/loss train/l2 train/accuracy train/macro_f1
    val/loss val/accuracy val/macro_f1 learning_rate""".split()
RESULT_KEYS = frozenset(
    """model protocol corpus unseen_speakers n_train n_train_examples n_val n_test labels accuracy
    uar macro_f1 weighted_f1 per_class confusion best_epoch replicas""".split()
)
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


def write(workdir: Path) -> Path:
    """Writes report/curves.png, report/confusion.png and report/report.md.

    Args:
      workdir: the folder of a run that was trained and evaluated.

    Returns:
      The page's path.

    Raises:
      UserError: metrics.jsonl or results.json is missing or damaged.
    """
    epochs = read_epochs(workdir / "metrics.jsonl")
    results = read_results(workdir / "results.json")
    folder = workdir / "report"
    for name, figure in (
        ("curves.png", curves(epochs, results)),
        ("confusion.png", confusion(results)),
    ):
        with files.replacing(folder / name) as temporary:
            figure.savefig(temporary, dpi=150, bbox_inches="tight", metadata={"Software": None})
    files.write_text(folder / "report.md", page(epochs, results))
    return folder / "report.md"


# ── Reading ───────────────────────────────────────────────────────────────────────────────────
def read_epochs(path: Path) -> list[dict[str, float]]:
    """The epochs in order. null becomes NaN; of an epoch that is there twice the last counts."""
    remedy = "run --mode=train with this --workdir"
    epochs = {}
    for number, line in enumerate(_read_text(path, remedy).splitlines(), start=1):
        try:
            row = json.loads(line)
            row = {k: np.nan if row[k] is None else float(row[k]) for k in EPOCH_KEYS}
        except KeyError as error:
            raise UserError(f"{path}, line {number}, lacks {error}; {remedy}.") from error
        except (ValueError, TypeError) as error:
            raise UserError(f"{path}, line {number}, is damaged; {remedy}.") from error
        epochs[row["epoch"]] = row
    if not epochs:
        raise UserError(f"{path} holds no epoch; {remedy}.")
    return [epochs[number] for number in sorted(epochs)]


def read_results(path: Path) -> dict[str, Any]:
    remedy = "run --mode=evaluate with this --workdir"
    try:
        results = json.loads(_read_text(path, remedy))
        missing = RESULT_KEYS - results.keys()
    except (ValueError, AttributeError) as error:
        raise UserError(f"{path} is not the JSON of an evaluation; {remedy}.") from error
    if missing:
        raise UserError(f"{path} lacks {min(missing)!r}; {remedy}.")
    n_classes = len(results["labels"])
    if np.shape(results["confusion"]) != (n_classes, n_classes):
        raise UserError(f"{path} has {n_classes} labels and another size of confusion; {remedy}.")
    return results


def _read_text(path: Path, remedy: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; {remedy}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read; {remedy}.") from error


# ── Pictures ──────────────────────────────────────────────────────────────────────────────────
def curves(epochs: Sequence[dict[str, float]], results: dict[str, Any]) -> Any:
    """A figure: loss, accuracy, macro-F1 and learning rate over the epochs."""
    import matplotlib
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    columns = {key: np.array([row[key] for row in epochs]) for key in EPOCH_KEYS}
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
            show = "{:.3f}".format if key == "loss" else _percent
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
                f"{_percent(recall)} of {n:,.0f}" if n else "no clips"
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
        scores = f"accuracy {_percent(results['accuracy'])} · UAR {_percent(results['uar'])}"
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


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


# ── Page ──────────────────────────────────────────────────────────────────────────────────────
def page(epochs: Sequence[dict[str, float]], results: dict[str, Any]) -> str:
    """The report in Markdown."""
    counts, human = np.array(results["confusion"], float), results.get("human")
    support, n_classes = counts.sum(1), len(results["labels"])
    always = np.zeros_like(counts)
    always[:, support.argmax()] = support  # what the commonest class for every clip would give
    headline = {
        "accuracy": (results["accuracy"], 1 / n_classes, metrics.accuracy(always)),
        "UAR": (results["uar"], 1 / n_classes, metrics.uar(always)),
        "macro-F1": (results["macro_f1"], None, metrics.macro_f1(always)),
        "weighted F1": (results["weighted_f1"], None, metrics.weighted_f1(always)),
    }
    columns = ["", "**model**", "chance", "always the commonest class"]
    if human:
        columns += ["listeners, each rating", "listeners, plurality"]
        headline["accuracy"] += (human["accuracy"], human["plurality_accuracy"])
        headline["UAR"] += (human["uar"], human["plurality_uar"])
    rows = [
        [name, f"**{_percent(model)}**", *("" if v is None else _percent(v) for v in others)]
        for name, (model, *others) in headline.items()
    ]
    speakers = (
        "none was heard in training"
        if results["unseen_speakers"]
        else "**were heard in training too**: expect less of new speakers"
    )
    # A run's name is its config's file and variants, joined by "-".
    name = re.sub(r"[^\w-]", "_", str(results.get("config", results["model"])))
    file, _, variants = name.partition("-")
    config = f"configs/{file}.py" + (":" + variants.replace("-", ",") if variants else "")
    best = next((row for row in epochs if row["epoch"] == results["best_epoch"]), None)
    examples = f"{results['n_train_examples']:,} examples with their augmented views"
    facts = [
        ["corpus", _escape(results["corpus"])],
        ["protocol", _escape(results["protocol"])],
        ["test speakers", speakers],
        ["training", f"{results['n_train']:,} clips, {examples}"],
        ["validation", f"{results['n_val']:,} clips"],
        ["test", f"{results['n_test']:,} clips"],
        ["best epoch", f"{results['best_epoch']} of {epochs[-1]['epoch']:.0f}"],
    ]
    if "input" in results:
        facts.insert(1, ["input", _escape(results["input"])])
    if human:
        facts.append(["listeners", f"{human['n_ratings']:,} ratings of {human['n_clips']:,} clips"])
    penalty = f" (at the best epoch: {best['train/l2']:.3g})" if best else ""
    return f"""# {_escape(results["model"])} on {_escape(results["corpus"])}

{_table(columns, rows)}

{_table(["", ""], facts, "---")}

Chance is a uniform guess among {n_classes} classes. UAR, unweighted average recall, is the mean of
the classes' recalls.

## Per class

{_per_class(results)}

![Confusion matrix](confusion.png)

## Training

![Training curves](curves.png)

The loss shown is the cross-entropy alone; the L2 penalty is logged apart from it{penalty}.

{_replicas(results["replicas"])}
## To reproduce

`config.json` beside this folder holds every setting of the run; give those that differ from the
config's file as `--config.KEY=VALUE`. {_seeds(results["replicas"])}

```
python launch.py --config={config} --workdir=<new folder>
```
"""


def _per_class(results: dict[str, Any]) -> str:
    recalls = (results.get("human") or {}).get("recall", [])
    columns = ["class", "clips", "precision", "recall", "F1"]
    rows = [
        [_escape(label), f"{scores['support']:,}"]
        + [_percent(scores[key]) for key in ("precision", "recall", "f1")]
        for label, scores in results["per_class"].items()
    ]
    if recalls:
        columns.append("listeners' recall")
        rows = [[*row, _percent(recall)] for row, recall in zip(rows, recalls, strict=True)]
    return _table(columns, rows)


def _replicas(replicas: Sequence[dict[str, Any]]) -> str:
    """A table of the runs that were trained together, with mean and standard deviation."""
    if len(replicas) < 2:
        return ""
    rows = [
        [f"{r['seed']}", f"{r['fold']}", _percent(r["accuracy"]), _percent(r["uar"])]
        for r in replicas
    ]
    spread = [
        f"{100 * np.mean(values):.1f} ± {100 * np.std(values, ddof=1):.1f} %"
        for values in ([r[key] for r in replicas] for key in ("accuracy", "uar"))
    ]
    rows.append(["**mean ± sd**", "", *spread])
    return f"## Replicas\n\n{_table(['seed', 'fold', 'accuracy', 'UAR'], rows)}\n"


def _seeds(replicas: Sequence[dict[str, Any]]) -> str:
    seeds = sorted({r["seed"] for r in replicas})
    return f"Its seed{'s were' if len(seeds) > 1 else ' was'} {', '.join(map(str, seeds))}."


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], align: str = "---:") -> str:
    ruler = ["---"] + [align] * (len(columns) - 1)
    lines = [columns, ruler, *([*row, *[""] * (len(columns) - len(row))] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escape(text: str) -> str:
    """A name as it stands: no Markdown, no HTML, one line."""
    plain = html.escape(" ".join(str(text).split()), quote=False)
    return re.sub(r"([\\`*_\[\]|~$#])", r"\\\1", plain)
