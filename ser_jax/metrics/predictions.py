"""Test predictions of a run: the table that every metric reads.

Axes: P predictions (one per replica and clip), R replicas, S speakers, C classes.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Test predictions of one or more replicas, in any order; arrays of equal length."""

    replica_P: np.ndarray  # replica numbers
    clip_P: np.ndarray  # ids, each at most once per replica
    speaker_P: np.ndarray
    label_P: np.ndarray  # true classes
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
        """Probability of the predicted class; 1/C where a diverged network gives NaN."""
        return np.nan_to_num(self.probability_PxC.max(1), nan=1 / self.n_classes)

    @property
    def correct_P(self) -> np.ndarray:  # noqa: N802 — an array
        return self.prediction_P == self.label_P

    def of_replicas(self, replicas: Sequence[int]) -> "Predictions":
        """Return the predictions of the replicas with these numbers."""
        return self.where(np.isin(self.replica_P, list(replicas)))

    def ensembles(self, member_of: Mapping[int, int]) -> "Predictions":
        """Return the mean probability of each clip over the members of its ensemble.

        `member_of` is the ensemble, such as the fold, of each replica number; all members of one
        have the same test clips. The ensembles' numbers take the replicas' place.
        """
        ensemble_P = np.array([member_of[replica] for replica in self.replica_P.tolist()])
        clip_P = np.unique(self.clip_P, return_inverse=True)[1]
        _, first_Q, group_P, size_Q = np.unique(
            np.stack([ensemble_P, clip_P]),
            axis=1,
            return_index=True,
            return_inverse=True,
            return_counts=True,
        )
        sum_QxC = np.zeros((len(first_Q), self.n_classes))
        np.add.at(sum_QxC, group_P.ravel(), self.probability_PxC)
        rows = self.where(first_Q)
        return dataclasses.replace(
            rows, replica_P=ensemble_P[first_Q], probability_PxC=sum_QxC / size_Q[:, None]
        )

    def where(self, rows: np.ndarray) -> "Predictions":
        """Return the rows selected by a mask or by row numbers."""
        return Predictions(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))


def test_sets(predictions: Predictions) -> set[frozenset[tuple[str, str, int]]]:
    """Return the replicas' distinct test sets, as (clip, speaker, label)."""
    columns = (predictions.clip_P, predictions.speaker_P, predictions.label_P)
    rows = list(zip(*(column.tolist() for column in columns), strict=True))
    return {
        frozenset(rows[i] for i in np.flatnonzero(predictions.replica_P == replica))
        for replica in np.unique(predictions.replica_P)
    }


def speaker_confusions(predictions: Predictions, truth_PxC: np.ndarray | None = None) -> np.ndarray:
    """Return confusion counts [R, S, C, C]: a matrix per replica and speaker, both sorted.

    `truth_PxC` is the share of each class in the truth; by default, all on the label.
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
