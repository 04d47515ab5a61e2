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


def accuracy(confusion: np.ndarray) -> float:
    """The share of clips on the diagonal."""
    confusion = np.asarray(confusion, np.float64)
    return float(_ratio(np.trace(confusion), confusion.sum()))


def uar(confusion: np.ndarray) -> float:
    """Unweighted average recall: the mean over the classes that occur in the truth.

    Equals scikit-learn's `balanced_accuracy_score`.
    """
    scores = per_class(confusion)
    occurs = scores["support"] > 0
    return float(_ratio(scores["recall"][occurs].sum(), occurs.sum()))


def macro_f1(confusion: np.ndarray) -> float:
    """Mean F1 over the classes that occur in the truth or among the predictions.

    Equals scikit-learn's `f1_score(truth, predictions, average="macro")`.
    """
    scores = per_class(confusion)
    occurs = (scores["support"] > 0) | (np.sum(confusion, axis=0) > 0)
    return float(_ratio(scores["f1"][occurs].sum(), occurs.sum()))


def weighted_f1(confusion: np.ndarray) -> float:
    """Mean F1 over the clips' true classes."""
    scores = per_class(confusion)
    return float(_ratio(scores["f1"] @ scores["support"], scores["support"].sum()))


def per_class(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall, F1 and support (the clips of that true class), each of shape [C]."""
    confusion = np.asarray(confusion, np.float64)
    hits_C, support_C, predicted_C = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    return {
        "precision": _ratio(hits_C, predicted_C),
        "recall": _ratio(hits_C, support_C),
        "f1": _ratio(2 * hits_C, support_C + predicted_C),
        "support": support_C,
    }


def summary(confusion: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """All of the above for results.json; `labels` name the classes in order."""
    confusion = np.asarray(confusion)
    scores = per_class(confusion)
    return {
        "accuracy": accuracy(confusion),
        "uar": uar(confusion),
        "macro_f1": macro_f1(confusion),
        "weighted_f1": weighted_f1(confusion),
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

    `accuracy`, `uar` and `recall` (one a class) take each rating as one prediction;
    `plurality_accuracy` and `plurality_uar` take a clip's most frequent vote, k equally frequent
    votes as 1/k of a prediction each.

    Args:
      votes_NxC: ratings of each clip for each class; clips without any are left out.
      label_N: index of the intended class.

    Returns:
      Those five, n_clips (with at least one rating) and n_ratings.
    """
    votes_NxC = np.asarray(votes_NxC, np.float64)
    rated_N = votes_NxC.sum(1) > 0
    votes_NxC, label_N = votes_NxC[rated_N], np.asarray(label_N)[rated_N]
    winners_NxC = votes_NxC == votes_NxC.max(1, keepdims=True)
    plurality_NxC = winners_NxC / winners_NxC.sum(1, keepdims=True)
    intended_CxN = np.eye(votes_NxC.shape[1])[label_N].T
    ratings, pluralities = intended_CxN @ votes_NxC, intended_CxN @ plurality_NxC
    return {
        "accuracy": accuracy(ratings),
        "uar": uar(ratings),
        "recall": per_class(ratings)["recall"].tolist(),
        "plurality_accuracy": accuracy(pluralities),
        "plurality_uar": uar(pluralities),
        "n_clips": int(rated_N.sum()),
        "n_ratings": int(votes_NxC.sum()),
    }


def _ratio(numerator: Any, denominator: Any) -> np.ndarray:
    """numerator / denominator, and 0 where the denominator is 0."""
    denominator = np.asarray(denominator, np.float64)
    return np.where(denominator > 0, numerator / np.maximum(denominator, 1e-300), 0.0)
