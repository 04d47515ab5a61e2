"""The test clips in each cell of the confusion matrix.

Axes: P predictions, C classes.
"""

import dataclasses

import numpy as np

from ser_jax.metrics.predictions import Predictions


@dataclasses.dataclass(frozen=True)
class CellClip:
    """A test clip in a cell: some replica predicted the cell's class for it."""

    id: str
    speaker: str
    true: int
    predicted: int
    confidences: dict[int, float]  # probability of `predicted`, by replica that predicted it
    n_replicas: int  # those tested with this clip
    probability_C: np.ndarray  # mean over them

    @property
    def confidence(self) -> float:
        """Mean over the replicas that predicted the class."""
        return float(np.mean(list(self.confidences.values())))


@dataclasses.dataclass(frozen=True)
class Cell:
    """Predictions of one class for clips of one class."""

    n_predictions: int  # one per replica and clip
    n_clips: int
    listed: tuple[CellClip, ...]  # most confident first


def find_cells(predictions: Predictions, at_most: int = 0) -> dict[tuple[int, int], Cell]:
    """Return the cells that have predictions, by (true, predicted).

    At most `at_most` clips are listed per cell; 0 lists all.
    """
    clips, first, clip_P = np.unique(predictions.clip_P, return_index=True, return_inverse=True)
    n_replicas = np.bincount(clip_P)
    mean_NxC = np.zeros((len(clips), predictions.n_classes))
    np.add.at(mean_NxC, clip_P, predictions.probability_PxC)
    mean_NxC /= n_replicas[:, None]
    prediction_P, cells = predictions.prediction_P, {}
    by_cell: dict[tuple[int, int], dict[int, dict[int, float]]] = {}  # {clip: {replica: …}}
    for row in np.lexsort((predictions.replica_P, clip_P)).tolist():
        true, predicted = int(predictions.label_P[row]), int(prediction_P[row])
        of_clip = by_cell.setdefault((true, predicted), {}).setdefault(int(clip_P[row]), {})
        confidence = float(predictions.probability_PxC[row, predicted])
        of_clip[int(predictions.replica_P[row])] = confidence
    for (true, predicted), of_cell in sorted(by_cell.items()):
        listed = [
            CellClip(
                id=str(clips[clip]),
                speaker=str(predictions.speaker_P[first[clip]]),
                true=true,
                predicted=predicted,
                confidences=of_clip,
                n_replicas=int(n_replicas[clip]),
                probability_C=mean_NxC[clip],
            )
            for clip, of_clip in of_cell.items()
        ]
        listed.sort(key=lambda clip: (-clip.confidence, clip.id))
        cells[true, predicted] = Cell(
            n_predictions=sum(len(clip.confidences) for clip in listed),
            n_clips=len(listed),
            listed=tuple(listed[:at_most] if at_most else listed),
        )
    return cells
