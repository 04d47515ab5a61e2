"""What predicts: waveforms at the model's rate → probabilities, from a workdir or a file.

Axes: R replicas, B batch, S samples, T frames, F feature columns, C classes.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ser_jax.common.errors import UserError
from ser_jax.features import FeatureSpec

if TYPE_CHECKING:
    from ser_jax.predict.trained_model import Trained


class Engine(Protocol):
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


def load(source: Path) -> Engine:
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

    return TrainedEngine(trained_model.load(source))


class TrainedEngine:
    """A run's replicas on this process's devices; see Engine."""

    def __init__(self, this: "Trained", devices: Sequence[jax.Device] = ()):
        """Places the weights.

        Args:
          this: what a workdir has learnt.
          devices: that share a batch; all local ones by default, of CPUs the first.
        """
        self.corpus, self.labels, self.spec = this.corpus, this.labels, this.spec
        self.min_frames, self.max_frames = this.min_frames, this.max_frames
        # Host devices are the same cores.
        devices = devices or jax.local_devices()[: 1 if jax.default_backend() == "cpu" else None]
        self._mesh = jax.make_mesh(
            (len(devices),), ("data",), devices=devices, axis_types=(AxisType.Auto,)
        )
        self._weights = jax.device_put(this.weights, NamedSharding(self._mesh, PartitionSpec()))

        def probability(weights, x_BxTxF, n_frames_B):
            return jax.nn.softmax(this.logits(weights, x_BxTxF, n_frames_B))

        # Apart, since the network's shapes do not depend on the clips' length, and it takes the
        # compiler longer than the features, which on a CPU are not compiled at all.
        self._on_host = jax.default_backend() == "cpu"
        self._examples = this.examples if self._on_host else jax.jit(this.examples)
        self._probability = jax.jit(probability)

    def __call__(self, waveform_BxS: np.ndarray, n_samples_B: np.ndarray) -> np.ndarray:
        shared = len(n_samples_B) % self._mesh.size == 0
        rows = NamedSharding(self._mesh, PartitionSpec("data" if shared else None))
        batch = waveform_BxS, n_samples_B
        if not self._on_host:
            batch = jax.device_put(batch, rows)
        examples = jax.device_put(self._examples(*batch), rows)
        # One after another: on a CPU convolutions under vmap over weights take four times as long.
        of_each = [self._probability(weights, *examples) for weights in self._weights]
        return np.stack(jax.device_get(of_each))
