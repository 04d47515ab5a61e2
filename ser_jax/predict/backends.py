"""Backends of prediction: waveforms at the model's rate → probabilities.

Axes: R replicas, B batch, S samples, C classes.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from ser_jax.common.errors import UserError
from ser_jax.features import FeatureSpec


class Backend(Protocol):
    """A trained or exported model that predicts."""

    corpus: str  # title of the corpus that it was trained on
    labels: tuple[str, ...]  # class names
    spec: FeatureSpec  # the definition of its features
    min_frames: int  # of the shortest training example
    max_frames: int  # to which all inputs are padded and cut
    folds: tuple[int, ...]  # of each replica
    failed: Sequence[object]  # names of the trainings that were left out, since they failed

    def __call__(self, waveform_BxS: np.ndarray, n_samples_B: np.ndarray) -> np.ndarray:
        """Return probability_RxBxC; compiles for each new shape.

        Args:
          waveform_BxS: float32 at spec.sampling_rate, full scale ±1, padded at the end.
          n_samples_B: int32, length of each clip, at least 1.
        """


def batching() -> tuple[tuple[int, ...], int]:
    """Return the batch sizes to use, and how many batches to compute at once.

    On a CPU the arrays of 8 clips stay in the cache, those of 64 do not, and each core gets two
    batches, so that one is computed while the other waits for Python.
    """
    import jax

    if jax.default_backend() == "cpu":
        return (1, 8), 2 * (os.cpu_count() or 1)
    return (1, 8, 64), 1


def load(source: Path) -> Backend:
    """Open the workdir of a run, or a file written by ser_jax.export.

    Raises:
      UserError: it does not exist, is damaged, or contains no trained model.
    """
    # Imported here: an exported model needs none of the libraries for training.
    if source.is_file():
        from ser_jax.predict import exported_model

        return exported_model.load(source)
    if not source.is_dir():
        raise UserError(f"{source} does not exist; give the --workdir of a run, or its export.")
    from ser_jax.predict import trained_model

    return trained_model.TrainedBackend(trained_model.load(source))
