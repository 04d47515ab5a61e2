"""Human listeners on the same clips: agreement with the labels, and the labels they perceived.

Axes: P predictions, N clips, C classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ser_jax.metrics.classification import HEADLINE, accuracy, per_class, uar
from ser_jax.metrics.intervals import differences_of_counts, percentile_limits, resampled_metrics
from ser_jax.metrics.predictions import Predictions, speaker_confusions


def agreement(votes_NxC: np.ndarray, label_N: np.ndarray) -> dict[str, Any]:
    """Return how well listeners recognise the intended emotion, a reference for the model.

    `accuracy`, `uar`, `recall` (per class) and `confusion` (rows intended, columns perceived) count
    every rating as one prediction. `plurality_accuracy` and `plurality_uar` count a clip's most
    frequent vote; k tied votes count as 1/k of a prediction each.

    Args:
      votes_NxC: number of ratings per clip and class; clips without ratings are left out.
      label_N: intended class.

    Returns:
      These six, n_clips (with at least one rating) and n_ratings.
    """
    votes_NxC = np.asarray(votes_NxC, np.float64)
    rated_N = votes_NxC.sum(1) > 0
    votes_NxC, label_N = votes_NxC[rated_N], np.asarray(label_N)[rated_N]
    intended_CxN = np.eye(votes_NxC.shape[1])[label_N].T
    ratings, pluralities = intended_CxN @ votes_NxC, intended_CxN @ _plurality(votes_NxC)
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


def lead(predictions: Predictions, votes: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Return model − listeners for each headline metric, on the same clips and resampled speakers.

    Every rating counts as one prediction, and clips without ratings are left out, as in
    `agreement`.

    Args:
      predictions: of one or more replicas.
      votes: number of votes per class by clip id.

    Returns:
      {metric: {"difference", "low", "high", "each"}}, as of paired_differences; `each` has the
      difference of each replica.
    """
    votes_PxC = np.array([votes[clip] for clip in predictions.clip_P.tolist()], float)
    rated_P = votes_PxC.any(1)
    predictions, votes_PxC = predictions.where(rated_P), votes_PxC[rated_P]
    counts = speaker_confusions(predictions)
    ratings, cell_P = np.zeros(counts.shape), []
    for values_P in (predictions.replica_P, predictions.speaker_P):
        cell_P.append(np.unique(values_P, return_inverse=True)[1])
    np.add.at(ratings, (*cell_P, predictions.label_P), votes_PxC)
    leads = differences_of_counts(counts, ratings)
    for name, metric in HEADLINE.items():
        leads[name]["each"] = (metric(counts.sum(1)) - metric(ratings.sum(1))).tolist()
    return leads


def perceived(
    predictions: Predictions, votes: Mapping[str, Sequence[int]]
) -> dict[str, float | int | None] | None:
    """Return metrics against the perceived emotion: a clip's most frequent vote.

    If votes tie, a prediction of any tied class is correct, and a wrong prediction counts as a miss
    shared equally by the tied classes.

    Args:
      votes: number of votes per class by clip id; empty or missing for clips without votes.

    Returns:
      {"accuracy", "uar", "low", "high", "n_clips"}: means over replicas, and the interval of the
      accuracy; None if no clip has votes.
    """
    clips, clip_P = np.unique(predictions.clip_P, return_inverse=True)
    no_votes = np.zeros(predictions.n_classes)
    votes_NxC = np.array([votes.get(clip) or no_votes for clip in clips.tolist()], float)
    rated_P = votes_NxC.any(1)[clip_P]
    if not rated_P.any():
        return None
    predictions, plurality_PxC = predictions.where(rated_P), _plurality(votes_NxC[clip_P[rated_P]])
    predicted_PxC = np.eye(predictions.n_classes)[predictions.prediction_P]
    correct_P = (plurality_PxC * predicted_PxC).any(1)
    truth_PxC = np.where(correct_P[:, None], predicted_PxC, plurality_PxC)
    counts = speaker_confusions(predictions, truth_PxC)
    low, high = percentile_limits(resampled_metrics(counts)["accuracy"], counts.shape[1])
    return {
        "accuracy": float(np.mean(accuracy(counts.sum(1)))),
        "uar": float(np.mean(uar(counts.sum(1)))),
        "low": low,
        "high": high,
        "n_clips": len(np.unique(predictions.clip_P)),
    }


def _plurality(votes_NxC: np.ndarray) -> np.ndarray:
    """Return 1 for the most frequent vote of each row, divided equally between tied classes."""
    winners_NxC = votes_NxC == votes_NxC.max(1, keepdims=True)
    return winners_NxC / winners_NxC.sum(1, keepdims=True)
