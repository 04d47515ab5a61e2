"""A trained run for prediction, export and saliency: waveform → features → logits.

Features and logits come from the functions that preparation and evaluation use, so that the results
are the same. Axes: R replicas, B batch, S samples, T frames, F feature columns, C classes.
"""

import dataclasses
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ser_jax import features
from ser_jax.common.errors import UserError
from ser_jax.data.loader import Batch
from ser_jax.encoders import loading
from ser_jax.encoders.embedding import Encoder
from ser_jax.features import Array, FeatureSpec
from ser_jax.models import registry
from ser_jax.train import checkpoints, step
from ser_jax.train.replicas import Replica, best_setting
from ser_jax.train.state import Weights


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A trained model loaded from a workdir.

    After a sweep, the replicas that predict are those of the best setting on validation.
    """

    config: dict[str, Any]  # of the run, as JSON values
    corpus: str  # title of the corpus that it was trained on
    labels: tuple[str, ...]  # class names, in the order of the logits
    spec: FeatureSpec  # the definition of its features
    kind: str  # the kind of input, a key of features.INPUTS
    min_frames: int  # of the shortest training example
    max_frames: int  # to which all inputs are padded and cut
    network: nn.Module
    replicas: tuple[Replica, ...]  # those that predict
    numbers: tuple[int, ...]  # of each replica, in results.json and predictions.csv
    epochs: tuple[int, ...]  # the best epoch of each replica
    weights: tuple[Weights, ...]  # of each replica at that epoch
    licence: str = ""  # of the corpus; "" if it is not recorded
    failed: tuple[Replica, ...] = ()  # left out, since a loss or weight was not finite
    encoder: Encoder | None = None  # of features that are embeddings

    def examples(self, waveform_BxS: Array, n_samples_B: Array) -> tuple[Array, Array]:
        """Return the features of clips as training reads them from records, padded and cut.

        Args:
          waveform_BxS: float32 at spec.sampling_rate, full scale ±1, padded at the end.
          n_samples_B: length of each clip.

        Returns:
          x_BxTxF with T = max_frames, zero past the end of a clip, and n_frames_B; NumPy or JAX
          arrays as features.extract returns them.
        """
        spec = dataclasses.replace(self.spec, planes=features.INPUTS[self.kind])
        planes = features.extract(spec, waveform_BxS, n_samples_B, self.encoder)
        xp = waveform_BxS.__array_namespace__()
        x_BxTxF = xp.concatenate([planes[plane] for plane in spec.planes], axis=-1)
        # Records may be in half precision.
        x_BxTxF = x_BxTxF.astype(self.config["records_dtype"]).astype(np.float32)
        x_BxTxF = xp.pad(x_BxTxF, ((0, 0), (0, self.max_frames), (0, 0)))[:, : self.max_frames]
        return x_BxTxF, xp.minimum(spec.n_frames(n_samples_B), self.max_frames)

    def logits(self, weights: Weights, x_BxTxF: jax.Array, n_frames_B: jax.Array) -> jax.Array:
        """Return logits_BxC of one replica, as evaluation does."""
        logits_of = step.make_logits(self.network, self.kind)
        return logits_of(*weights, Batch(x_BxTxF, n_frames_B, None, None))


def load(workdir: Path) -> TrainedModel:
    """Load the best weights of a run.

    Raises:
      UserError: the folder contains no trained model, is damaged, or no replica ever reached a
        finite validation value.
    """
    best, metadata = checkpoints.load_best(workdir)
    replicas = [Replica(**fields) for fields in metadata["replicas"]]
    failed_R = checkpoints.failed(best)
    value_R = np.where(failed_R, -np.inf, np.asarray(best["value"]))
    setting = best_setting([replica.setting for replica in replicas], value_R)
    numbers = [i for i, r in enumerate(replicas) if r.setting == setting and not failed_R[i]]
    if not numbers:
        raise UserError(
            f"{workdir} holds no model with a finite validation value; train again with a lower "
            "optimizer.learning_rate."
        )
    config, labels = metadata["config"], tuple(metadata["labels"])
    weights = jax.device_get(checkpoints.weights_of(best))  # slicing on a device would compile
    spec, encoder = FeatureSpec(**metadata["features"]), None
    if spec.encoder:
        path = Path(config["encoder"]["path"])
        encoder = loading.load(path, spec.encoder, spec.sampling_rate)
    return TrainedModel(
        config=config,
        corpus=metadata["corpus"],
        labels=labels,
        spec=spec,
        kind=config["input"]["kind"],
        min_frames=metadata["min_frames"],
        max_frames=metadata["max_frames"],
        network=registry.from_config(config, len(labels)),
        replicas=tuple(replicas[i] for i in numbers),
        numbers=tuple(numbers),
        epochs=tuple(int(best["epoch"][i]) for i in numbers),
        weights=tuple(jax.device_put(jax.tree.map(itemgetter(i), weights)) for i in numbers),
        licence=metadata.get("licence", ""),
        failed=tuple(r for r, failed in zip(replicas, failed_R, strict=True) if failed),
        encoder=encoder,
    )


class TrainedBackend:
    """A Backend that predicts with a TrainedModel on devices of this process."""

    def __init__(self, model: TrainedModel, devices: Sequence[jax.Device] = ()):
        """Place the weights on devices, by default all local ones, but only the first CPU."""
        self.corpus, self.labels, self.spec = model.corpus, model.labels, model.spec
        self.min_frames, self.max_frames = model.min_frames, model.max_frames
        self.failed = model.failed
        self.folds = tuple(replica.fold for replica in model.replicas)
        on_cpu = jax.default_backend() == "cpu"
        devices = devices or jax.local_devices()[: 1 if on_cpu else None]
        self._mesh = jax.make_mesh(
            (len(devices),), ("data",), devices=devices, axis_types=(AxisType.Auto,)
        )
        self._weights = jax.device_put(model.weights, NamedSharding(self._mesh, PartitionSpec()))

        def probability(weights, x_BxTxF, n_frames_B):
            return jax.nn.softmax(model.logits(weights, x_BxTxF, n_frames_B))

        # Two programs: the shape of the network's input is independent of the clips' length, and
        # the network takes longer to compile than the features, which a CPU does not compile and
        # an encoder compiles itself, at each clip's own length.
        self._is_compiled = not (on_cpu or model.encoder)
        self._examples = jax.jit(model.examples) if self._is_compiled else model.examples
        self._probability = jax.jit(probability)

    def __call__(self, waveform_BxS: np.ndarray, n_samples_B: np.ndarray) -> np.ndarray:
        """Return probability_RxBxC; see Backend."""
        return self.with_features(waveform_BxS, n_samples_B)[0]

    def with_features(
        self, waveform_BxS: np.ndarray, n_samples_B: np.ndarray
    ) -> tuple[np.ndarray, jax.Array]:
        """Return probability_RxBxC, and the features that the network saw, x_BxTxF."""
        divisible = len(n_samples_B) % self._mesh.size == 0
        rows = NamedSharding(self._mesh, PartitionSpec("data" if divisible else None))
        clips = waveform_BxS, n_samples_B
        if self._is_compiled:
            clips = jax.device_put(clips, rows)
        examples = jax.device_put(self._examples(*clips), rows)
        # One replica after another: vmap over weights makes convolutions four times slower on CPU.
        probabilities = [self._probability(weights, *examples) for weights in self._weights]
        return np.stack(jax.device_get(probabilities)), examples[0]
