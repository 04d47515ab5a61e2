"""A finished run, read from its folder: results.json + predictions.csv → FinishedRun.

Axes: P predictions (one a replica and clip), C classes.
"""

import csv
import dataclasses
import functools
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ser_jax.common import files
from ser_jax.common.errors import UserError
from ser_jax.metrics import classification
from ser_jax.metrics import predictions as metrics_predictions
from ser_jax.metrics.predictions import Predictions
from ser_jax.train import experiment

REMEDY = "run --mode=evaluate with this --workdir"
RESULT_KEYS = frozenset(
    """config model input protocol unseen_speakers unseen_sentences corpus labels n_train
    n_train_examples n_val n_test n_test_speakers accuracy uar intervals per_class confusion
    monitor replicas settings calibration coverage breakdown""".split()
)
# predictions.csv has six digits: two classes that are nearly as probable can read the same.
_ROUNDING = 2e-6


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """What a finished run found.

    Attributes:
      name: to be told from others by.
      results: what results.json holds.
      predictions: of the chosen replicas.
    """

    name: str
    results: dict[str, Any]
    predictions: Predictions

    @functools.cached_property
    def test_sets(self) -> set[frozenset[tuple[str, str, int]]]:
        """The replicas' different test sets, as (clip, speaker, label)."""
        return metrics_predictions.test_sets(self.predictions)


def load(workdir: Path) -> FinishedRun:
    """Reads a run's results and predictions; its name is the folder's.

    Raises:
      UserError: a file is missing, damaged, or not of the same evaluation as the other.
    """
    path = workdir / "predictions.csv"
    results = read_results(workdir / "results.json")
    predictions = read_predictions(path, results["labels"])
    try:
        correct_of = {
            replica["replica"]: round(replica["accuracy"] * replica["n_test"])
            for replica in chosen_replicas(results)
        }
        complete = all(
            results["intervals"][name].keys() >= {"mean", "sd", "low", "high"}
            for name in classification.HEADLINE
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        complete = False
    if not complete:
        raise UserError(f"{workdir / 'results.json'} is damaged; {REMEDY}.")
    predictions = predictions.of(list(correct_of))
    found = {
        int(number): int(predictions.of([number]).correct_P.sum())
        for number in np.unique(predictions.replica_P)
    }
    if found != correct_of:
        raise UserError(f"{path} is of another evaluation than results.json; {REMEDY}.")
    return FinishedRun(workdir.resolve().name, results, predictions)


def read_results(path: Path) -> dict[str, Any]:
    """What results.json holds.

    Raises:
      UserError: it is missing, damaged or of an older version.
    """
    results = files.read_json(path, REMEDY)
    if not isinstance(results, dict):
        raise UserError(f"{path} is not the JSON of an evaluation; {REMEDY}.")
    missing = RESULT_KEYS - results.keys()
    if missing:
        raise UserError(f"{path} lacks {min(missing)!r}; {REMEDY}.")
    n_classes = len(results["labels"])
    if np.shape(results["confusion"]) != (n_classes, n_classes):
        raise UserError(f"{path} has {n_classes} labels and another size of confusion; {REMEDY}.")
    return results


def read_predictions(path: Path, labels: Sequence[str]) -> Predictions:
    """Reads predictions.csv: replica, id, speaker, true, predicted, a probability a class.

    Raises:
      UserError: it is missing or damaged.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            columns, *rows = csv.reader(file)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; {REMEDY}.") from error
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise UserError(f"{path} cannot be read; {REMEDY}.") from error
    if columns != ["replica", "id", "speaker", "true", "predicted", *labels] or not rows:
        raise UserError(f"{path} has not the columns and rows of an evaluation; {REMEDY}.")
    parsed = []
    for number, row in enumerate(rows, start=2):
        try:
            parsed.append(_parse(row, list(labels)))
        except ValueError as error:
            raise UserError(f"{path}, line {number}, is damaged; {REMEDY}.") from error
    predictions = Predictions(*map(np.array, zip(*parsed, strict=True)))
    rows_of = zip(predictions.replica_P.tolist(), predictions.clip_P.tolist(), strict=True)
    if len(set(rows_of)) < len(parsed):
        raise UserError(f"{path} has a clip twice; {REMEDY}.")
    return predictions


def _parse(row: Sequence[str], labels: Sequence[str]) -> tuple[int, str, str, int, list[float]]:
    replica, clip, speaker, true, predicted, *texts = row
    # A network that diverged gives no numbers.
    probability_C = [float("0" if text == "nan" else text) for text in texts]
    winner, top = labels.index(predicted), max(probability_C)
    if len(texts) != len(labels) or not 0 <= probability_C[winner] <= 1:
        raise ValueError
    if not probability_C[winner] >= top - _ROUNDING:
        raise ValueError
    if probability_C.index(top) != winner:
        probability_C[winner] = float(np.nextafter(top, 2))
    return int(replica), clip, speaker, labels.index(true), probability_C


def chosen_replicas(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Those that the results are about: all, or of a sweep those of the chosen setting."""
    return [replica for replica in results["replicas"] if replica["chosen"]]


def validation(replicas: Sequence[dict[str, Any]], monitor: str) -> float:
    """Mean monitored value of some replicas of a result, larger is better; −∞ if one failed."""
    values = [replica["val"] for replica in replicas]
    if None in values:
        return -math.inf
    return float(np.mean(values)) * (-1 if monitor == "loss" else 1)


def _table(this: experiment.Experiment, predictions: Predictions) -> str:
    """One row a replica and test clip: who, what, and a probability a class."""
    labels = this.records.labels
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["replica", "id", "speaker", "true", "predicted", *labels])
    for replica, clip, speaker, label, prediction, probability_C in zip(
        predictions.replica_P.tolist(),
        predictions.clip_P.tolist(),
        predictions.speaker_P.tolist(),
        predictions.label_P.tolist(),
        predictions.prediction_P.tolist(),
        predictions.probability_PxC.tolist(),
        strict=True,
    ):
        probabilities = (f"{p:.6f}" for p in probability_C)
        writer.writerow([replica, clip, speaker, labels[label], labels[prediction], *probabilities])
    return text.getvalue()


EPOCH_KEYS = """epoch train/loss train/l2 train/accuracy train/macro_f1
    val/loss val/accuracy val/macro_f1 learning_rate""".split()


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
