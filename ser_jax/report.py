"""metrics.jsonl + results.json → two pictures and a page."""

import html
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ser_jax import files, metrics, plots
from ser_jax.errors import UserError
from ser_jax.plots import percent

EPOCH_KEYS = """epoch train/loss train/l2 train/accuracy train/macro_f1
    val/loss val/accuracy val/macro_f1 learning_rate""".split()
RESULT_KEYS = frozenset(
    """model protocol corpus unseen_speakers n_train n_train_examples n_val n_test labels accuracy
    uar macro_f1 weighted_f1 per_class confusion best_epoch replicas""".split()
)


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
        ("curves.png", plots.curves(epochs, results)),
        ("confusion.png", plots.confusion(results)),
    ):
        with files.replacing(folder / name) as temporary:
            figure.savefig(temporary, dpi=150, bbox_inches="tight", metadata={"Software": None})
    files.write_text(folder / "report.md", page(epochs, results))
    return folder / "report.md"


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
        [
            name,
            f"**{percent(model)}**",
            *("" if v is None else percent(v) for v in others),
        ]
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
        + [percent(scores[key]) for key in ("precision", "recall", "f1")]
        for label, scores in results["per_class"].items()
    ]
    if recalls:
        columns.append("listeners' recall")
        rows = [[*row, percent(recall)] for row, recall in zip(rows, recalls, strict=True)]
    return _table(columns, rows)


def _replicas(replicas: Sequence[dict[str, Any]]) -> str:
    """A table of the runs that were trained together, with mean and standard deviation."""
    if len(replicas) < 2:
        return ""
    rows = [
        [f"{r['seed']}", f"{r['fold']}", percent(r["accuracy"]), percent(r["uar"])]
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
