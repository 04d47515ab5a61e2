"""What a run's test predictions say: metrics with intervals, and paired differences of runs.

Intervals are over speakers (see bootstrap.py, also for what they are worth). The trainings are
taken as they are: how much another seed would change is told by the sd over replicas.

Axes: P predictions (one a replica and clip), R replicas, S speakers, B resamples, C classes.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Test predictions of one or more replicas, in any order; arrays of the same length.

    Attributes:
      replica_P: number of the replica.
      clip_P: id of the clip, at most once a replica.
      speaker_P: who speaks.
      label_P: true class.
      probability_PxC: of each class.
    """

    replica_P: np.ndarray
    clip_P: np.ndarray
    speaker_P: np.ndarray
    label_P: np.ndarray
    probability_PxC: np.ndarray

    @property
    def n_classes(self) -> int:
        return self.probability_PxC.shape[1]

    @property
    def prediction_P(self) -> np.ndarray:  # noqa: N802 — an array
        """The most probable class."""
        return self.probability_PxC.argmax(1)

    @property
    def confidence_P(self) -> np.ndarray:  # noqa: N802 — an array
        """Its probability; a guess's where a network that diverged gives no number."""
        return np.nan_to_num(self.probability_PxC.max(1), nan=1 / self.n_classes)

    @property
    def correct_P(self) -> np.ndarray:  # noqa: N802 — an array
        return self.prediction_P == self.label_P

    def of(self, replicas: Sequence[int]) -> "Predictions":
        """Those of some replicas."""
        return self.where(np.isin(self.replica_P, list(replicas)))

    def where(self, keep_P: np.ndarray) -> "Predictions":
        """Those rows."""
        return Predictions(
            *(getattr(self, field.name)[keep_P] for field in dataclasses.fields(self))
        )


def test_sets(predictions: Predictions) -> set[frozenset[tuple[str, str, int]]]:
    """The replicas' different test sets, as (clip, speaker, label)."""
    rows = list(
        zip(
            predictions.clip_P.tolist(),
            predictions.speaker_P.tolist(),
            predictions.label_P.tolist(),
            strict=True,
        )
    )
    return {
        frozenset(rows[i] for i in np.flatnonzero(predictions.replica_P == replica))
        for replica in np.unique(predictions.replica_P)
    }


def speaker_confusions(predictions: Predictions, truth_PxC: np.ndarray | None = None) -> np.ndarray:
    """Confusion counts [R, S, C, C]: one matrix a replica and speaker, both in sorted order.

    Args:
      predictions: of which replicas.
      truth_PxC: how much of each class the truth is; without it, the label.
    """
    if truth_PxC is None:
        truth_PxC = np.eye(predictions.n_classes)[predictions.label_P]
    replicas, replica_P = np.unique(predictions.replica_P, return_inverse=True)
    speakers, speaker_P = np.unique(predictions.speaker_P, return_inverse=True)
    shape = (len(replicas), len(speakers), predictions.n_classes)
    cell_P = np.ravel_multi_index((replica_P, speaker_P, predictions.prediction_P), shape)
    return np.stack(
        [np.bincount(cell_P, truth_P, np.prod(shape)).reshape(shape) for truth_P in truth_PxC.T],
        axis=2,
    )
