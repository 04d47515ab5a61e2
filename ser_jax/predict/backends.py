"""What predicts: waveforms at the model's rate → probabilities, from a workdir or a file.

Axes: R replicas, B batch, S samples, T frames, F feature columns, C classes.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import jax
import numpy as np

from ser_jax.common.errors import UserError
from ser_jax.features import FeatureSpec
from ser_jax.predict.trained_model import TrainedBackend

if TYPE_CHECKING:
    pass


class Backend(Protocol):
    """What predicts.

    Attributes:
      corpus: what results call what it was trained on.
      labels: class names.
      spec: the features' definition.
      min_frames: of the shortest training example.
      max_frames: all inputs are padded and cut to this.
    """

    corpus: str
    labels: tuple[str, ...]
    spec: FeatureSpec
    min_frames: int
    max_frames: int

    def __call__(self, waveform_BxS: np.ndarray, n_samples_B: np.ndarray) -> np.ndarray:
        """probability_RxBxC of clips: float32 at spec.sampling_rate, padded at the end."""


def shares() -> tuple[tuple[int, ...], int]:
    """Sizes of the batches that an engine should be given, and how many of them at once.

    The arrays of eight clips stay in a CPU's cache, those of 64 do not. Each core takes two such
    batches: one is computed while the other waits for Python or for a last part.
    """
    if jax.default_backend() == "cpu":
        return (1, 8), 2 * (os.cpu_count() or 1)
    return (1, 8, 64), 1


def load(source: Path) -> Backend:
    """Opens a run's folder, or a file that ser_jax.export wrote.

    Raises:
      UserError: there is no such thing, nothing is trained there, or it is damaged.
    """
    # Each needs libraries that the other does not.
    if source.is_file():
        from ser_jax.predict import exported_model

        return exported_model.load(source)
    if not source.is_dir():
        raise UserError(f"{source} does not exist; give the --workdir of a run, or its export.")
    from ser_jax.predict import trained_model

    return TrainedBackend(trained_model.load(source))
