"""Overlapping windows of a long recording, and their predictions merged into segments.

Axes: W windows, M moments (between neighbouring window borders), R replicas, C classes.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Segment:
    """A stretch of one emotion."""

    start: int  # sample
    end: int  # one past the last sample
    probability_RxC: np.ndarray | None  # mean of each replica over the stretch; None for silence


def windows(n_samples: int, length: int, hop: int) -> list[tuple[int, int]]:
    """Return start and end of each window, in samples.

    The last window is moved back to end with the recording, so that every sample is covered. A
    recording no longer than a window is a single one.

    Args:
      n_samples: of the recording, at least 1.
      length: of a window.
      hop: from one window to the next, 1 … length.
    """
    if n_samples <= length:
        return [(0, n_samples)]
    starts = list(range(0, n_samples - length + 1, hop))
    if starts[-1] + length < n_samples:
        starts.append(n_samples - length)
    return [(start, start + length) for start in starts]


def merge(
    spans: Sequence[tuple[int, int]], probability_WxRxC: np.ndarray, silent_W: np.ndarray
) -> list[Segment]:
    """Average the windows that cover each moment and join neighbouring moments of one emotion.

    Silent windows are left out of the mean; a moment covered only by them is silent.

    Args:
      spans: start and end of each window, in order, without gaps.
      probability_WxRxC: prediction for each window.
      silent_W: whether each window is silent.
    """
    start_W, end_W = np.array(spans).T
    edges = np.unique(np.concatenate([start_W, end_W]))
    weight_W = np.where(silent_W, 0.0, 1.0)
    n_M = _sum_over_windows(edges, start_W, end_W, weight_W)
    audible_M = n_M > 0.5
    # float64, because the running sum adds a window at its start and subtracts it at its end.
    weighted_WxRxC = probability_WxRxC.astype(np.float64) * weight_W[:, None, None]
    total_MxRxC = _sum_over_windows(edges, start_W, end_W, weighted_WxRxC)
    probability_MxRxC = total_MxRxC / np.where(audible_M, n_M, 1.0)[:, None, None]
    class_M = np.where(audible_M, probability_MxRxC.mean(axis=1).argmax(axis=-1), -1)

    changes = np.flatnonzero(np.diff(class_M)) + 1
    segments = []
    for moments in np.split(np.arange(len(class_M)), changes):
        mean_RxC = None
        if audible_M[moments[0]]:
            n_samples_M = np.diff(edges)[moments]
            mean_RxC = np.average(probability_MxRxC[moments], axis=0, weights=n_samples_M)
            mean_RxC = mean_RxC.clip(0.0, 1.0)
        start, end = edges[moments[0]], edges[moments[-1] + 1]
        segments.append(Segment(int(start), int(end), mean_RxC))
    return segments


def _sum_over_windows(
    edges: np.ndarray, start_W: np.ndarray, end_W: np.ndarray, value_W: np.ndarray
) -> np.ndarray:
    """Return, for each moment, the sum of the values of the windows that cover it."""
    change = np.zeros((len(edges), *value_W.shape[1:]))
    np.add.at(change, np.searchsorted(edges, start_W), value_W)
    np.subtract.at(change, np.searchsorted(edges, end_W), value_W)
    return np.cumsum(change, axis=0)[:-1]
