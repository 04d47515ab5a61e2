"""Human listeners on the same clips: agreement with the labels, and the labels they perceived."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ser_jax.metrics import classification
from ser_jax.metrics.classification import accuracy, per_class, uar
from ser_jax.metrics.intervals import limits, resampled_metrics
from ser_jax.metrics.predictions import Predictions, speaker_confusions


def agreement(votes_NxC: np.ndarray, label_N: np.ndarray) -> dict[str, Any]:
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


def perceived(
    predictions: Predictions,
    votes: Mapping[str, Sequence[int]],
    *,
    n_resamples: int = 2000,
    seed: int = 0,
) -> dict[str, float | int | None] | None:
    """The metrics against what listeners heard: a clip's most frequent vote.

    A clip whose votes tie counts for each tied class: a prediction of any of them is right, and a
    wrong one is shared among them as their miss.

    Args:
      predictions: of the replicas to sum up.
      votes: by clip id, how many listeners named each class; empty or missing where nobody did.
      n_resamples: B.
      seed: of the resampling of speakers.

    Returns:
      {"accuracy", "uar", "low", "high", "n_clips"}: means over replicas, and the accuracy's
      interval; None if no clip has votes.
    """
    clips, clip_P = np.unique(predictions.clip_P, return_inverse=True)
    nobody = np.zeros(predictions.n_classes)
    votes_NxC = np.array([votes.get(clip) or nobody for clip in clips.tolist()], float)
    rated_P = votes_NxC.any(1)[clip_P]
    if not rated_P.any():
        return None
    predictions, votes_PxC = predictions.where(rated_P), votes_NxC[clip_P[rated_P]]
    heard_PxC = votes_PxC == votes_PxC.max(1, keepdims=True)
    named_PxC = np.eye(predictions.n_classes)[predictions.prediction_P]
    right_P = (heard_PxC & (named_PxC > 0)).any(1)
    truth_PxC = np.where(right_P[:, None], named_PxC, heard_PxC / heard_PxC.sum(1, keepdims=True))
    counts = speaker_confusions(predictions, truth_PxC)
    resampled = resampled_metrics(counts, n_resamples, seed)
    low, high = limits(resampled["accuracy"], counts.shape[1])
    return {
        "accuracy": float(np.mean(classification.accuracy(counts.sum(1)))),
        "uar": float(np.mean(classification.uar(counts.sum(1)))),
        "low": low,
        "high": high,
        "n_clips": len(np.unique(predictions.clip_P)),
    }
