"""Which test clips lie in which cell of the confusion matrix.

Axes: P predictions, C classes.
"""

import dataclasses

import numpy as np

from ser_jax.metrics.predictions import Predictions


@dataclasses.dataclass(frozen=True)
class CellClip:
    """A test clip in a cell: some replica took it for that class.

    Attributes:
      clip: its id.
      speaker: who speaks.
      true: its class.
      predicted: the cell's class.
      confidence_of: the replicas that said so, and how probable it was to each.
      n_replicas: how many were tested with this clip.
      probability_C: mean over all of these.
    """

    clip: str
    speaker: str
    true: int
    predicted: int
    confidence_of: dict[int, float]
    n_replicas: int
    probability_C: np.ndarray

    @property
    def confidence(self) -> float:
        """Mean over the replicas that said so."""
        return float(np.mean(list(self.confidence_of.values())))


@dataclasses.dataclass(frozen=True)
class Cell:
    """Predictions of one class for clips of one class.

    Attributes:
      n_predictions: one a replica and clip.
      n_clips: how many different clips they are of.
      listed: the clips of which the replicas were most certain, in that order.
    """

    n_predictions: int
    n_clips: int
    listed: tuple[CellClip, ...]


def cells(predictions: Predictions, at_most: int = 0) -> dict[tuple[int, int], Cell]:
    """The cells with predictions, by (true, predicted).

    Args:
      predictions: of the chosen replicas.
      at_most: so many clips of a cell are listed; 0 lists all.
    """
    clips, first, clip_P = np.unique(predictions.clip_P, return_index=True, return_inverse=True)
    n_replicas = np.bincount(clip_P)
    mean_NxC = np.zeros((len(clips), predictions.n_classes))
    np.add.at(mean_NxC, clip_P, predictions.probability_PxC)
    mean_NxC /= n_replicas[:, None]
    prediction_P = predictions.prediction_P
    named: dict[tuple[int, int], dict[int, dict[int, float]]] = {}
    for row in np.lexsort((predictions.replica_P, clip_P)).tolist():
        clip, predicted = int(clip_P[row]), int(prediction_P[row])
        of_clip = named.setdefault((int(predictions.label_P[row]), predicted), {})
        confidence = float(predictions.probability_PxC[row, predicted])
        of_clip.setdefault(clip, {})[int(predictions.replica_P[row])] = confidence
    found = {}
    for (true, predicted), of_clip in sorted(named.items()):
        listed = [
            CellClip(
                clip=str(clips[clip]),
                speaker=str(predictions.speaker_P[first[clip]]),
                true=true,
                predicted=predicted,
                confidence_of=confidence_of,
                n_replicas=int(n_replicas[clip]),
                probability_C=mean_NxC[clip],
            )
            for clip, confidence_of in of_clip.items()
        ]
        listed.sort(key=lambda one: (-one.confidence, one.clip))
        found[true, predicted] = Cell(
            n_predictions=sum(len(one.confidence_of) for one in listed),
            n_clips=len(listed),
            listed=tuple(listed[:at_most] if at_most else listed),
        )
    return found
