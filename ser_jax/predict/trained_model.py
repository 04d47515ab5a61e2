"""A trained run as prediction, export and saliency see it: waveform → features → logits.

The same functions that prepared and evaluated compute here, so that nothing can differ.
Axes: R replicas, B batch, S samples, T frames, F feature columns, C classes.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ser_jax import features
from ser_jax.common.errors import UserError
from ser_jax.features import Array, FeatureSpec
from ser_jax.models import registry
from ser_jax.train import checkpoints, step
from ser_jax.train.replicas import Replica, best_setting
from ser_jax.train.state import Weights
from ser_jax.train.step import Batch


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """What a workdir has learnt.

    Attributes:
      config: of the run, as JSON values.
      corpus: what results call what it was trained on.
      labels: class names, in the order of the logits.
      spec: the features' definition.
      kind: what the network is fed, a key of features.INPUTS.
      min_frames: of the shortest training example.
      max_frames: all inputs are padded and cut to this.
      model: the network.
      replicas: those that predict; of a sweep those of the setting that was best on validation.
      numbers: theirs in results.json and predictions.csv.
      epochs: that their weights are of.
      weights: of each of them.
    """

    config: dict[str, Any]
    corpus: str
    labels: tuple[str, ...]
    spec: FeatureSpec
    kind: str
    min_frames: int
    max_frames: int
    model: nn.Module
    replicas: tuple[Replica, ...]
    numbers: tuple[int, ...]
    epochs: tuple[int, ...]
    weights: tuple[Weights, ...]

    def examples(self, waveform_BxS: Array, n_samples_B: Array) -> tuple[Array, Array]:
        """What the records would hold of some clips, padded and cut as for training.

        NumPy's arrays on a CPU give NumPy's, as in features.extract.

        Args:
          waveform_BxS: float32 at spec.sampling_rate, full scale ±1, padded at the end.
          n_samples_B: the clips' lengths.

        Returns:
          x_BxTxF with T = max_frames, zero past a clip's end, and n_frames_B.
        """
        spec = dataclasses.replace(self.spec, planes=features.INPUTS[self.kind])
        planes = features.extract(spec, waveform_BxS, n_samples_B)
        xp = waveform_BxS.__array_namespace__()
        x_BxTxF = xp.concatenate([planes[plane] for plane in spec.planes], axis=-1)
        # Records may be of half precision, and so training saw.
        x_BxTxF = x_BxTxF.astype(self.config["records_dtype"]).astype(np.float32)
        x_BxTxF = xp.pad(x_BxTxF, ((0, 0), (0, self.max_frames), (0, 0)))[:, : self.max_frames]
        return x_BxTxF, xp.minimum(spec.n_frames(n_samples_B), self.max_frames)

    def logits(self, weights: Weights, x_BxTxF: jax.Array, n_frames_B: jax.Array) -> jax.Array:
        """logits_BxC of one replica, as in evaluation."""
        of_batch = step.make_logits(self.model, self.kind)
        return of_batch(*weights, Batch(x_BxTxF, n_frames_B, None, None))


def load(workdir: Path) -> TrainedModel:
    """The best weights of a run.

    Raises:
      UserError: nothing is trained there, it is damaged, or no replica ever gave a finite value.
    """
    best, metadata = checkpoints.load_best(workdir)
    replicas = [Replica(**fields) for fields in metadata["replicas"]]
    value_R = np.asarray(best["value"])
    setting = best_setting([replica.setting for replica in replicas], value_R)
    # One that diverged at once has no best epoch.
    numbers = [
        i for i, r in enumerate(replicas) if r.setting == setting and np.isfinite(value_R[i])
    ]
    if not numbers:
        raise UserError(
            f"{workdir} holds no model whose validation was finite; train it again with a lower "
            "optimizer.learning_rate."
        )
    config, labels = metadata["config"], tuple(metadata["labels"])
    fields = {k: v for k, v in config["model"].items() if k != "name"}
    dtype = config["train"]["compute_dtype"]
    every = jax.device_get(checkpoints.weights_of(best))  # there, a slice is a program to compile
    return TrainedModel(
        config=config,
        corpus=metadata["corpus"],
        labels=labels,
        spec=FeatureSpec(**metadata["features"]),
        kind=config["input"]["kind"],
        min_frames=metadata["min_frames"],
        max_frames=metadata["max_frames"],
        model=registry.build(config["model"]["name"], len(labels), fields, dtype=dtype),
        replicas=tuple(replicas[i] for i in numbers),
        numbers=tuple(numbers),
        epochs=tuple(int(best["epoch"][i]) for i in numbers),
        weights=tuple(
            jax.device_put(jax.tree.map(lambda leaf: leaf[i], every))  # noqa: B023
            for i in numbers
        ),
    )


class TrainedBackend:
    """A run's replicas on this process's devices; see Backend."""

    def __init__(self, this: "TrainedModel", devices: Sequence[jax.Device] = ()):
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
