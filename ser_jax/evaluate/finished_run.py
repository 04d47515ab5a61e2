"""A finished run, read from the files in its folder. Imports no JAX."""

import dataclasses
import functools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ser_jax.common import files
from ser_jax.common.errors import UserError
from ser_jax.evaluate import predictions_csv
from ser_jax.evaluate.predictions_csv import REMEDY
from ser_jax.metrics.classification import HEADLINE
from ser_jax.metrics.predictions import Predictions, test_sets
from ser_jax.train.replicas import Replica

RESULT_KEYS = frozenset(
    """config model input protocol unseen_speakers unseen_sentences corpus labels n_train
    n_train_examples n_val n_test n_test_speakers accuracy uar intervals per_class confusion
    monitor replicas settings calibration coverage breakdown""".split()
)
EPOCH_KEYS = """epoch train/loss train/l2 train/accuracy train/macro_f1
    val/loss val/accuracy val/macro_f1 learning_rate""".split()


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """Results and test predictions of a run."""

    name: str  # distinguishes the run from others on pages
    results: dict[str, Any]  # contents of results.json
    predictions: Predictions  # of the chosen replicas

    @functools.cached_property
    def test_sets(self) -> set[frozenset[tuple[str, str, int]]]:
        """The replicas' distinct test sets, as (clip, speaker, label)."""
        return test_sets(self.predictions)


def load(workdir: Path) -> FinishedRun:
    """Read results.json and predictions.csv; the run is named after its folder.

    Raises:
      UserError: a file is missing or damaged, or the two are from different evaluations.
    """
    path = workdir / "predictions.csv"
    results = read_results(workdir / "results.json")
    all_predictions = predictions_csv.read(path, results["labels"])
    try:
        n_correct = {
            replica["replica"]: round(replica["accuracy"] * replica["n_test"])
            for replica in chosen_replicas(results)
        }
        complete = all(
            results["intervals"][name].keys() >= {"mean", "sd", "low", "high"} for name in HEADLINE
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        complete = False
    if not complete:
        raise UserError(f"{workdir / 'results.json'} is damaged; {REMEDY}.")
    chosen = all_predictions.of_replicas(list(n_correct))
    replicas, replica_P = np.unique(chosen.replica_P, return_inverse=True)
    hits = np.bincount(replica_P, chosen.correct_P)
    if dict(zip(replicas.tolist(), hits.tolist(), strict=True)) != n_correct:
        raise UserError(f"{path} and results.json are from different evaluations; {REMEDY}.")
    return FinishedRun(workdir.resolve().name, results, chosen)


def read_results(path: Path) -> dict[str, Any]:
    """Return the contents of results.json.

    Raises:
      UserError: the file is missing, damaged, older than the weights, or written by an
        incompatible earlier version.
    """
    results = files.read_json(path, REMEDY)
    if not isinstance(results, dict):
        raise UserError(f"{path} is not the JSON of an evaluation; {REMEDY}.")
    missing = RESULT_KEYS - results.keys()
    if missing:
        raise UserError(f"{path} lacks {min(missing)!r}; {REMEDY}.")
    if not isinstance(results["intervals"], dict) or not isinstance(results["replicas"], list):
        raise UserError(f"{path} is damaged; {REMEDY}.")
    for metric in HEADLINE:
        if metric not in results["intervals"]:
            raise UserError(
                f"{path} lacks the metric {metric}, written by an earlier version; {REMEDY}."
            )
    n_classes = len(results["labels"])
    if np.shape(results["confusion"]) != (n_classes, n_classes):
        raise UserError(
            f"{path} has {n_classes} labels but a confusion matrix of another size; {REMEDY}."
        )
    if weights := _newer_weights(path, results):
        raise UserError(f"{path} is older than the weights in {weights}; {REMEDY}.")
    return results


def _newer_weights(path: Path, results: dict[str, Any]) -> Path | None:
    """Return the best weights if they are not those that were evaluated; see train.checkpoints."""
    epochs = [replica.get("best_epoch") for replica in results["replicas"]]
    saved = [p for p in path.parent.glob("checkpoints/best/*") if p.name.isdigit()]
    if not saved or None in epochs:  # a replica that failed may have been best at any epoch
        return None
    newest = max(saved, key=lambda folder: int(folder.name))
    # Where a killed training was resumed, the number is larger than the epoch.
    is_newer = newest.stat().st_mtime > path.stat().st_mtime
    return newest if int(newest.name) > max(epochs) and is_newer else None


def chosen_replicas(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the replicas behind the headline: those of the chosen setting, in a sweep."""
    return [replica for replica in results["replicas"] if replica["chosen"]]


def failures(results: dict[str, Any]) -> str:
    """Return text such as "1 of 3 trainings failed (seed 2, fold 0)"; "" if none did."""
    failed = [
        str(Replica(r["seed"], r["fold"], r["setting"]))
        for r in results["replicas"]
        if not r["chosen"] and r["val"] is None
    ]
    if not failed:
        return ""
    return f"{len(failed)} of {len(results['replicas'])} trainings failed ({'; '.join(failed)})"


def validation_score(replicas: Sequence[dict[str, Any]], monitor: str) -> float:
    """Return the replicas' mean monitored value, larger is better; −∞ if one diverged."""
    values = [replica["val"] for replica in replicas]
    if None in values:
        return -math.inf
    return float(np.mean(values)) * (-1 if monitor == "loss" else 1)


def read_epochs(path: Path) -> dict[int, list[dict[str, float]]]:
    """Return each replica's epochs from metrics.jsonl, in order; null becomes NaN.

    If an epoch is logged twice, as after a resume, the last entry counts.

    Raises:
      UserError: the file is missing, damaged or empty.
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
