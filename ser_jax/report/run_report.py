"""metrics.jsonl + results.json + predictions.csv → pictures and two pages, of Markdown and HTML."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ser_jax.common import files
from ser_jax.common.errors import UserError
from ser_jax.evaluate import finished_run
from ser_jax.pages import figure
from ser_jax.report import html_page
from ser_jax.report.figures import breakdown, confusion, reliability, training
from ser_jax.report.markdown_page import page
from ser_jax.train.replicas import chosen_replicas

EPOCH_KEYS = """epoch train/loss train/l2 train/accuracy train/macro_f1
    val/loss val/accuracy val/macro_f1 learning_rate""".split()


def write(
    workdir: Path, utterances: Mapping[str, Any] | None = None, clips_a_cell: int = 10
) -> Path:
    """Writes report/index.html, report/report.md and the pictures that both show.

    Args:
      workdir: the folder of a run that was trained and evaluated.
      utterances: by clip id, objects with a path, votes and attributes, for the page to show and
        play; None if the audio is not at hand.
      clips_a_cell: so many clips of a cell of the confusion matrix are listed at most; 0 lists all.

    Returns:
      The page's path, index.html.

    Raises:
      UserError: a file of the run is missing, damaged, of an older version, or predictions.csv is
        of another evaluation than results.json.
    """
    epochs = read_epochs(workdir / "metrics.jsonl")
    results = finished_run.read_results(workdir / "results.json")
    for replica in chosen_replicas(results):
        if replica["replica"] not in epochs:
            raise UserError(
                f"{workdir / 'metrics.jsonl'} holds no epoch of replica {replica['replica']} of "
                "results.json; run --mode=train and --mode=evaluate with this --workdir."
            )
    predictions = None
    if (workdir / "predictions.csv").exists():
        predictions = finished_run.load(workdir).predictions
    pictures = {
        "curves.png": training.curves(epochs, results),
        "confusion.png": confusion.confusion(results),
        "reliability.png": reliability.reliability(results),
        "breakdown.png": breakdown.breakdown(results),
    }
    if "human" in results:
        pictures["human.png"] = confusion.human(results)
    folder = workdir / "report"
    for name, picture in pictures.items():
        figure.save(picture, folder / name)
    files.write_text(folder / "report.md", page(epochs, results))
    return html_page.write(workdir, epochs, results, predictions, utterances, clips_a_cell)


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
