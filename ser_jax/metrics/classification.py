"""Counts on the device, ratios on the host. Every ratio is a fraction, 0 to 1.

A confusion matrix has one row a true class and one column a predicted class. 0/0 is 0, as with
scikit-learn's `zero_division=0`.

Axes: B batch, C classes, N clips.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def confusion_counts(
    label_B: jax.Array, prediction_B: jax.Array, weight_B: jax.Array, n_classes: int
) -> jax.Array:
    """Counts of (true, predicted) pairs, exact.

    Args:
      label_B: true class indices.
      prediction_B: predicted ones.
      weight_B: 1 or True where a clip counts, 0 or False where it only fills up the batch.
      n_classes: C.

    Returns:
      int32 counts_CxC; they add over batches.
    """
    counts_CxC = jnp.zeros((n_classes, n_classes), jnp.int32)
    return counts_CxC.at[label_B, prediction_B].add(weight_B.astype(jnp.int32))


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


def human(votes_NxC: np.ndarray, label_N: np.ndarray) -> dict[str, Any]:
    """How well listeners name the intended emotion, as a measure beside the model's.

    `accuracy`, `uar`, `recall` (one a class) and `confusion` (rows intended, columns named by
    listeners) take each rating as one prediction;
    `plurality_accuracy` and `plurality_uar` take a clip's most frequent vote, k equally frequent
    votes as 1/k of a prediction each.

    Args:
      votes_NxC: ratings of each clip for each class; clips without any are left out.
      label_N: index of the intended class.

    Returns:
      Those six, n_clips (with at least one rating) and n_ratings.
    """
    votes_NxC = np.asarray(votes_NxC, np.float64)
    rated_N = votes_NxC.sum(1) > 0
    votes_NxC, label_N = votes_NxC[rated_N], np.asarray(label_N)[rated_N]
    winners_NxC = votes_NxC == votes_NxC.max(1, keepdims=True)
    plurality_NxC = winners_NxC / winners_NxC.sum(1, keepdims=True)
    intended_CxN = np.eye(votes_NxC.shape[1])[label_N].T
    ratings, pluralities = intended_CxN @ votes_NxC, intended_CxN @ plurality_NxC
    return {
        "accuracy": float(accuracy(ratings)),
        "uar": float(uar(ratings)),
        "recall": per_class(ratings)["recall"].tolist(),
        "confusion": ratings.astype(int).tolist(),
        "plurality_accuracy": float(accuracy(pluralities)),
        "plurality_uar": float(uar(pluralities)),
        "n_clips": int(rated_N.sum()),
        "n_ratings": int(votes_NxC.sum()),
    }


def _ratio(numerator: Any, denominator: Any) -> float | np.ndarray:
    """numerator / denominator, and 0 where the denominator is 0; a number if both are."""
    denominator = np.asarray(denominator, np.float64)
    ratio = np.where(denominator > 0, numerator / np.maximum(denominator, 1e-300), 0.0)
    return ratio[()]
