"""Calibration: do confidences match accuracies, and does accuracy rise with confidence?

Predictions of all replicas are pooled. Axes: P predictions.
"""

from typing import Any

import numpy as np

from ser_jax.metrics.predictions import Predictions

COVERAGES = tuple(n / 20 for n in range(20, 0, -1))


def calibration(predictions: Predictions, n_bins: int = 15) -> dict[str, Any]:
    """Return the expected calibration error and the bins of a reliability diagram.

    The error is the mean over predictions of |accuracy − mean confidence| of the prediction's bin
    (Guo et al., "On Calibration of Modern Neural Networks", 2017).

    Returns:
      {"ece", "bins": [{"low", "high", "n", "confidence", "accuracy"}]}: equally wide bins, each
      (low, high]; the last two are None for an empty bin.
    """
    edges = np.arange(n_bins + 1) / n_bins
    bin_P = np.digitize(predictions.confidence_P, edges[1:-1], right=True)
    n = np.bincount(bin_P, minlength=n_bins)
    confidence = np.bincount(bin_P, predictions.confidence_P, n_bins)
    hits = np.bincount(bin_P, predictions.correct_P, n_bins)
    return {
        "ece": float(np.abs(hits - confidence).sum() / n.sum()),
        "bins": [
            {
                "low": float(edges[i]),
                "high": float(edges[i + 1]),
                "n": int(n[i]),
                "confidence": float(confidence[i] / n[i]) if n[i] else None,
                "accuracy": float(hits[i] / n[i]) if n[i] else None,
            }
            for i in range(n_bins)
        ],
    }


def coverage(predictions: Predictions) -> list[dict[str, float]]:
    """Return the accuracy of the most confident share of the predictions, for several shares.

    Where a share cuts through predictions of equal confidence, it counts their mean accuracy.

    Returns:
      [{"coverage", "accuracy"}] from 1.0 down to 0.05.
    """
    _, rank_P = np.unique(-predictions.confidence_P, return_inverse=True)
    n = np.cumsum(np.bincount(rank_P))
    hits = np.cumsum(np.bincount(rank_P, predictions.correct_P))
    kept = np.array(COVERAGES) * n[-1]
    accuracy = np.interp(kept, [0, *n], [0, *hits]) / kept
    return [
        {"coverage": share, "accuracy": float(value)}
        for share, value in zip(COVERAGES, accuracy, strict=True)
    ]
