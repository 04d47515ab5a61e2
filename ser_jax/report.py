"""metrics.jsonl + results.json → pictures and a page."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ser_jax import (
    files,
    plots,
    plots_breakdown,
    plots_confusion,
    plots_reliability,
    plots_training,
)
from ser_jax.errors import UserError
from ser_jax.replicas import chosen_replicas
from ser_jax.report_page import page

EPOCH_KEYS = """epoch train/loss train/l2 train/accuracy train/macro_f1
    val/loss val/accuracy val/macro_f1 learning_rate""".split()
RESULT_KEYS = frozenset(
    """config model input protocol unseen_speakers unseen_sentences corpus labels n_train
    n_train_examples n_val n_test n_test_speakers accuracy uar intervals per_class confusion
    monitor replicas settings calibration coverage breakdown""".split()
)


def write(workdir: Path) -> Path:
    """Writes report/report.md and the pictures that it shows.

    Args:
      workdir: the folder of a run that was trained and evaluated.

    Returns:
      The page's path.

    Raises:
      UserError: metrics.jsonl or results.json is missing, damaged or of an older version.
    """
    epochs = read_epochs(workdir / "metrics.jsonl")
    results = read_results(workdir / "results.json")
    for replica in chosen_replicas(results):
        if replica["replica"] not in epochs:
            raise UserError(
                f"{workdir / 'metrics.jsonl'} holds no epoch of replica {replica['replica']} of "
                "results.json; run --mode=train and --mode=evaluate with this --workdir."
            )
    pictures = {
        "curves.png": plots_training.curves(epochs, results),
        "confusion.png": plots_confusion.confusion(results),
        "reliability.png": plots_reliability.reliability(results),
        "breakdown.png": plots_breakdown.breakdown(results),
    }
    if "human" in results:
        pictures["human.png"] = plots_confusion.human(results)
    folder = workdir / "report"
    for name, picture in pictures.items():
        plots.save(picture, folder / name)
    files.write_text(folder / "report.md", page(epochs, results))
    return folder / "report.md"


def read_epochs(path: Path) -> dict[int, list[dict[str, float]]]:
    """Each replica's epochs in order.

    null becomes NaN; of an epoch that is there twice the last counts.
    """
    remedy = "run --mode=train with this --workdir"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; {remedy}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read; {remedy}.") from error
    replicas: dict[int, dict[float, dict[str, float]]] = {}
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            replica = int(row.get("replica", 0))
            row = {k: np.nan if row[k] is None else float(row[k]) for k in EPOCH_KEYS}
        except KeyError as error:
            raise UserError(f"{path}, line {number}, lacks {error}; {remedy}.") from error
        except (ValueError, TypeError, AttributeError) as error:
            raise UserError(f"{path}, line {number}, is damaged; {remedy}.") from error
        replicas.setdefault(replica, {})[row["epoch"]] = row
    if not replicas:
        raise UserError(f"{path} holds no epoch; {remedy}.")
    return {
        replica: [epochs[number] for number in sorted(epochs)]
        for replica, epochs in sorted(replicas.items())
    }


def read_results(path: Path) -> dict[str, Any]:
    remedy = "run --mode=evaluate with this --workdir"
    results = files.read_json(path, remedy)
    if not isinstance(results, dict):
        raise UserError(f"{path} is not the JSON of an evaluation; {remedy}.")
    missing = RESULT_KEYS - results.keys()
    if missing:
        raise UserError(f"{path} lacks {min(missing)!r}; {remedy}.")
    n_classes = len(results["labels"])
    if np.shape(results["confusion"]) != (n_classes, n_classes):
        raise UserError(f"{path} has {n_classes} labels and another size of confusion; {remedy}.")
    return results
