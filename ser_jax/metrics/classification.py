"""Classification metrics from confusion matrices. Every metric is a fraction, 0 to 1.

A confusion matrix has a row per true class and a column per predicted class. 0/0 is 0, as with
scikit-learn's `zero_division=0`. To add a metric, write a function and enter it in HEADLINE.

Axes: C classes; any leading axes are kept, so [..., C, C] gives [...].
"""

from collections.abc import Sequence
from typing import Any

import numpy as np


def accuracy(confusion: np.ndarray) -> float | np.ndarray:
    """Return the share of clips on the diagonal."""
    hits = np.trace(confusion, axis1=-2, axis2=-1)
    return _ratio(hits, np.sum(confusion, axis=(-2, -1)))


def uar(confusion: np.ndarray) -> float | np.ndarray:
    """Return the unweighted average recall over the classes that occur in the truth.

    Equals scikit-learn's `balanced_accuracy_score`.
    """
    scores = per_class(confusion)
    return _ratio(scores["recall"].sum(-1), (scores["support"] > 0).sum(-1))


def macro_f1(confusion: np.ndarray) -> float | np.ndarray:
    """Return the mean F1 over the classes that occur in the truth or in the predictions.

    Equals scikit-learn's `f1_score(truth, predictions, average="macro")`.
    """
    scores = per_class(confusion)
    occurs = (scores["support"] > 0) | (np.sum(confusion, axis=-2) > 0)
    return _ratio(scores["f1"].sum(-1), occurs.sum(-1))


def weighted_f1(confusion: np.ndarray) -> float | np.ndarray:
    """Return the mean F1 over classes, weighted by support."""
    scores = per_class(confusion)
    return _ratio((scores["f1"] * scores["support"]).sum(-1), scores["support"].sum(-1))


# The metrics of a run's headline, and the names of those that tables of runs show.
HEADLINE = {"accuracy": accuracy, "uar": uar, "macro_f1": macro_f1, "weighted_f1": weighted_f1}
TITLES = {"accuracy": "accuracy", "uar": "UAR", "macro_f1": "macro-F1"}


def per_class(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Return precision, recall, F1 and support (clips of the true class), each [..., C]."""
    confusion = np.asarray(confusion, np.float64)
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    support, predicted = confusion.sum(-1), confusion.sum(-2)
    return {
        "precision": _ratio(hits, predicted),
        "recall": _ratio(hits, support),
        "f1": _ratio(2 * hits, support + predicted),
        "support": support,
    }


def summary(confusion: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """Return headline metrics, scores per class and the matrix [C, C] as JSON values."""
    confusion = np.asarray(confusion)
    counts = confusion.astype(int)
    scores = per_class(confusion) | {"support": counts.sum(-1)}
    return {
        **{name: float(metric(confusion)) for name, metric in HEADLINE.items()},
        "per_class": {
            label: {name: value_C[i].item() for name, value_C in scores.items()}
            for i, label in enumerate(labels)
        },
        "confusion": counts.tolist(),
    }


def _ratio(numerator: Any, denominator: Any) -> float | np.ndarray:
    """Return numerator / denominator, or 0 where the denominator is 0; a scalar for scalars."""
    denominator = np.asarray(denominator, np.float64)
    ratio = np.where(denominator > 0, numerator / np.maximum(denominator, 1e-300), 0.0)
    return ratio[()]
