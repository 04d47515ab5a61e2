"""A long recording in windows that overlap, and what they say of it merged into segments.

Axes: W windows, M moments (between any two borders of windows), R replicas, C classes.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Segment:
    """A stretch with one emotion.

    Attributes:
      start: first sample.
      end: one past the last.
      probability_RxC: of each replica, the mean over the stretch; None where all is silent.
    """

    start: int
    end: int
    probability_RxC: np.ndarray | None


def windows(n_samples: int, length: int, hop: int) -> list[tuple[int, int]]:
    """Where windows start and end, in samples.

    The last one is moved to end with the recording, so that all of it is heard. A recording that is
    no longer than a window is one.

    Args:
      n_samples: of the recording, 1 or more.
      length: of a window.
      hop: from one to the next, 1 … length.
    """
    if n_samples <= length:
        return [(0, n_samples)]
    starts = list(range(0, n_samples - length + 1, hop))
    if starts[-1] + length < n_samples:
        starts.append(n_samples - length)
    return [(start, start + length) for start in starts]


def merge(
    spans: Sequence[tuple[int, int]],
    probability_WxRxC: np.ndarray,
    silent_W: np.ndarray,
) -> list[Segment]:
    """Each moment has the mean of the windows that cover it; runs of one emotion are one segment.

    Silent windows say nothing; what only they cover has no emotion.

    Args:
      spans: start and end of each window; together they cover a stretch without a gap.
      probability_WxRxC: of each window.
      silent_W: which are silent.
    """
    start_W, end_W = np.array(spans).T
    edges = np.unique(np.concatenate([start_W, end_W]))
    weight_W = np.where(silent_W, 0.0, 1.0)
    n_M = _covering(edges, start_W, end_W, weight_W)
    heard_M = n_M > 0.5
    # In float64: what a window adds is taken away again where it ends.
    weighted = probability_WxRxC.astype(np.float64) * weight_W[:, None, None]
    total_MxRxC = _covering(edges, start_W, end_W, weighted)
    probability_MxRxC = total_MxRxC / np.where(heard_M, n_M, 1.0)[:, None, None]
    class_M = np.where(heard_M, probability_MxRxC.mean(axis=1).argmax(axis=-1), -1)

    borders = np.flatnonzero(np.diff(class_M)) + 1
    segments = []
    for run in np.split(np.arange(len(class_M)), borders):
        first, last = run[0], run[-1]
        mean_RxC = None
        if heard_M[first]:
            mean_RxC = np.average(probability_MxRxC[run], axis=0, weights=np.diff(edges)[run]).clip(
                0.0, 1.0
            )
        segments.append(Segment(int(edges[first]), int(edges[last + 1]), mean_RxC))
    return segments


def _covering(
    edges: np.ndarray, start_W: np.ndarray, end_W: np.ndarray, value_W: np.ndarray
) -> np.ndarray:
    """The sum, for each moment, of the values of the windows that cover it."""
    change = np.zeros((len(edges), *value_W.shape[1:]))
    np.add.at(change, np.searchsorted(edges, start_W), value_W)
    np.subtract.at(change, np.searchsorted(edges, end_W), value_W)
    return np.cumsum(change, axis=0)[:-1]
