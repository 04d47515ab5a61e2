"""Counts on the device, ratios on the host. Every ratio is a fraction, 0 to 1.

A confusion matrix has one row a true class and one column a predicted class. 0/0 is 0, as with
scikit-learn's `zero_division=0`.

Axes: B batch, C classes, N clips.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np


def accuracy(confusion: np.ndarray) -> float | np.ndarray:
    """The share of clips on the diagonal.

    This and the next four take counts [..., C, C] and give a number for each confusion matrix.
    """
    hits = np.trace(confusion, axis1=-2, axis2=-1)
    return _ratio(hits, np.sum(confusion, axis=(-2, -1)))


def uar(confusion: np.ndarray) -> float | np.ndarray:
    """Unweighted average recall: the mean over the classes that occur in the truth.

    Equals scikit-learn's `balanced_accuracy_score`.
    """
    scores = per_class(confusion)
    return _ratio(scores["recall"].sum(-1), (scores["support"] > 0).sum(-1))


def macro_f1(confusion: np.ndarray) -> float | np.ndarray:
    """Mean F1 over the classes that occur in the truth or among the predictions.

    Equals scikit-learn's `f1_score(truth, predictions, average="macro")`.
    """
    scores = per_class(confusion)
    occurs = (scores["support"] > 0) | (np.sum(confusion, axis=-2) > 0)
    return _ratio(scores["f1"].sum(-1), occurs.sum(-1))


def weighted_f1(confusion: np.ndarray) -> float | np.ndarray:
    """Mean F1 over the clips' true classes."""
    scores = per_class(confusion)
    return _ratio((scores["f1"] * scores["support"]).sum(-1), scores["support"].sum(-1))


def per_class(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall, F1 and support (the clips of that true class), each of shape [..., C].

    They are 0 for a class that does not occur.
    """
    confusion = np.asarray(confusion, np.float64)
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    support, predicted = confusion.sum(-1), confusion.sum(-2)
    return {
        "precision": _ratio(hits, predicted),
        "recall": _ratio(hits, support),
        "f1": _ratio(2 * hits, support + predicted),
        "support": support,
    }


# What a run is judged by.
HEADLINE = {"accuracy": accuracy, "uar": uar, "macro_f1": macro_f1, "weighted_f1": weighted_f1}
# What tables of runs show of it, and how it is called there.
TITLES = {"accuracy": "accuracy", "uar": "UAR", "macro_f1": "macro-F1"}


def summary(confusion: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """All of the above for results.json; `labels` name the classes in order."""
    confusion = np.asarray(confusion)
    scores = per_class(confusion)
    return {
        **{name: float(ratio(confusion)) for name, ratio in HEADLINE.items()},
        "per_class": {
            label: {
                "precision": float(scores["precision"][i]),
                "recall": float(scores["recall"][i]),
                "f1": float(scores["f1"][i]),
                "support": int(scores["support"][i]),
            }
            for i, label in enumerate(labels)
        },
        "confusion": confusion.astype(int).tolist(),
    }


def _ratio(numerator: Any, denominator: Any) -> float | np.ndarray:
    """numerator / denominator, and 0 where the denominator is 0; a number if both are."""
    denominator = np.asarray(denominator, np.float64)
    ratio = np.where(denominator > 0, numerator / np.maximum(denominator, 1e-300), 0.0)
    return ratio[()]
