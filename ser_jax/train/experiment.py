"""What is trained on what: a config meets opened records, is checked, and nothing leaks."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from ser_jax import features
from ser_jax.common.errors import UserError
from ser_jax.data import examples as data_examples
from ser_jax.data import leakage, splits
from ser_jax.data import records as data_records
from ser_jax.data.splits import Split
from ser_jax.models import registry
from ser_jax.train import optimizer, replicas, step
from ser_jax.train import state as train_state
from ser_jax.train.replicas import Replica
from ser_jax.train.state import Normalisation, TrainState


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything that training and evaluation are about, but the state.

    Attributes:
      config: all of it.
      records: opened.
      replicas: the trainings.
      splits: {fold: clip numbers of the three parts}.
      examples: features of all views that are used.
      model: the network.
    """

    config: ConfigDict
    records: data_records.Records
    replicas: tuple[Replica, ...]
    splits: dict[int, Split]
    examples: data_examples.Examples
    model: nn.Module

    @property
    def corpus(self) -> str:
        """What results call the corpus."""
        return self.config.corpus.title or self.records.corpus

    def train_M(self, fold: int) -> np.ndarray:  # noqa: N802 — a shape
        """Example numbers of a fold's training part, views included."""
        chosen = np.isin(self.examples.clip_N, self.splits[fold].train)
        return np.flatnonzero(chosen).astype(np.int32)

    def metadata(self) -> dict[str, Any]:
        """What lies beside the weights, as JSON values: all that prediction needs to know."""
        return {
            "config": self.config.to_dict(),
            "features": dataclasses.asdict(self.records.spec),
            "labels": list(self.records.labels),
            "corpus": self.corpus,
            "max_frames": self.examples.max_frames,
            "min_frames": int(self.examples.n_frames_N.min()),  # of the shortest example
            "replicas": [dataclasses.asdict(replica) for replica in self.replicas],
        }


def make(config: ConfigDict, records: data_records.Records) -> Experiment:
    """Splits, loads, and checks what can be checked before anything is trained.

    Raises:
      UserError: the config does not fit the records.
    """
    every = replicas.expand(config)
    protocol = {k: v for k, v in config.split.items() if k not in ("name", "fold")}
    parts = {
        fold: splits.make(config.split.name, records.clips, fold=fold, **protocol)
        for fold in dict.fromkeys(replica.fold for replica in every)
    }
    fields = {k: v for k, v in config.model.items() if k != "name"}
    model = registry.build(
        config.model.name, len(records.labels), fields, dtype=config.train.compute_dtype
    )
    if (model.input_kind == "vector") != (config.input.kind == "vector"):
        raise UserError(
            f"model.name={config.model.name} wants a {model.input_kind}, and input.kind is "
            f"{config.input.kind}; cnn1d takes vector, the others mfcc or log_mel."
        )
    if config.train.monitor not in step.MONITORS:
        raise UserError(
            f"train.monitor={config.train.monitor!r} is unknown; use one of "
            f"{', '.join(step.MONITORS)}."
        )
    for key in ("train.epochs", "train.batch_size", "evaluate.batch_size"):
        section, name = key.split(".")
        if config[section][name] < 1:
            raise UserError(f"{key}={config[section][name]} must be 1 or more.")
    examples = data_examples.Examples(
        records,
        kind=config.input.kind,
        views=config.input.views,
        max_frames=config.input.max_frames,
        # Of several processes each reads its share, batch by batch.
        memory_limit_gb=config.input.memory_limit_gb if jax.process_count() == 1 else 0.0,
    )
    this = Experiment(config, records, every, parts, examples, model)
    least = min(len(this.train_M(fold)) for fold in parts)
    if config.train.batch_size > least:
        raise UserError(
            f"train.batch_size={config.train.batch_size} is larger than the training set of "
            f"{least} examples; lower it."
        )
    return this


def initial_states(task: Experiment) -> list[TrainState]:
    """A fresh state a replica, normalised by its own training part, audited for leaks.

    Raises:
      LeakageError: see leakage.audit.
    """
    normalisations = {fold: _normalisation(task, fold) for fold in task.splits}
    return [_state(task, replica, normalisations[replica.fold]) for replica in task.replicas]


def _normalisation(task: Experiment, fold: int) -> Normalisation:
    examples, train_M = task.examples, task.train_M(fold)
    normalised_on_M = train_M
    leakage.audit(
        task.splits[fold],
        task.records.clips,
        trained_on=examples.clip_N[train_M],
        normalised_on=examples.clip_N[normalised_on_M],
    )
    mean_F, sd_F = np.zeros(examples.width, np.float32), np.ones(examples.width, np.float32)
    if task.config.input.normalise:
        mean_F, sd_F = data_examples.fit_normalisation(examples, normalised_on_M)
    return Normalisation(jnp.asarray(mean_F), jnp.asarray(sd_F))


def _state(task: Experiment, replica: Replica, normalisation: Normalisation) -> TrainState:
    config, examples = task.config, task.examples
    shape = (config.train.batch_size, examples.max_frames, examples.width)
    example_input = features.model_input(jnp.zeros(shape), config.input.kind)
    return train_state.create(
        task.model,
        optimizer.make(config.optimizer.name),
        optimizer.plateau(config.optimizer),
        example_input,
        seed=replica.seed,
        hyper=train_state.make_hyper(
            learning_rate=replica.value(config, "optimizer.learning_rate"),
            min_learning_rate=config.optimizer.min_learning_rate,
            l2=replica.value(config, "optimizer.l2"),
            dropout=_share(replica, config, "train.dropout"),
            label_smoothing=_share(replica, config, "train.label_smoothing"),
            class_weight_C=class_weights(task, replica),
        ),
        normalisation=normalisation,
    )


def _share(replica: Replica, config: ConfigDict, key: str) -> float:
    value = replica.value(config, key)
    if not 0 <= value < 1:
        raise UserError(f"{key}={value:g} is no share; give 0 or more, and less than 1.")
    return value


def class_weights(task: Experiment, replica: Replica) -> np.ndarray:
    """A weight a class: 1, or n / (classes · n of the class), scikit-learn's "balanced"."""
    n_classes, kind = len(task.records.labels), replica.value(task.config, "train.class_weights")
    if kind == "none":
        return np.ones(n_classes)
    if kind == "balanced":
        train_M = task.train_M(replica.fold)
        count_C = np.bincount(task.examples.label_N[train_M], minlength=n_classes)
        return len(train_M) / (n_classes * count_C)
    raise UserError(f"train.class_weights={kind!r} is unknown; use none or balanced.")
