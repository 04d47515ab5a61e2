"""Whether a model knows when it does not know: calibration, and accuracy against coverage.

Replicas are taken together, a prediction is a prediction. Axes: P predictions.
"""

from typing import Any

import numpy as np

from ser_jax.metrics.predictions import Predictions

COVERAGES = tuple(n / 20 for n in range(20, 0, -1))


def calibration(predictions: Predictions, n_bins: int = 15) -> dict[str, Any]:
    """Expected calibration error (Guo et al., "On Calibration of Modern Neural Networks", 2017).

    A prediction's confidence is the probability of the most probable class. The error is the mean
    over predictions of |accuracy − mean confidence| of the bin that the prediction falls in.

    Args:
      predictions: all that count.
      n_bins: of the same width, each without its lower edge.

    Returns:
      {"ece", "bins": [{"low", "high", "n", "confidence", "accuracy"}]}; None for an empty bin.
    """
    edges = np.arange(n_bins + 1) / n_bins
    bin_P = np.digitize(predictions.confidence_P, edges[1:-1], right=True)
    n = np.bincount(bin_P, minlength=n_bins)
    confidence, hits = (
        np.bincount(bin_P, values, n_bins)
        for values in (predictions.confidence_P, predictions.correct_P)
    )
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
    """Accuracy when only the most certain share of the predictions is kept.

    Of equally certain ones a part is kept as if drawn by lot: the mean over all draws.

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
