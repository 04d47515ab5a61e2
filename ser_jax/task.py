"""What is trained on what: a config meets opened records, is checked, and nothing leaks."""

import dataclasses
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from ser_jax import (
    features,
    input_pipeline,
    leakage,
    models,
    optimizer,
    record_reader,
    splits,
    train_state,
    train_step,
)
from ser_jax.errors import UserError
from ser_jax.train_state import Normalisation, TrainState


@dataclasses.dataclass(frozen=True)
class Task:
    """Everything that training and evaluation are about, but the state.

    Attributes:
      config: all of it.
      records: opened.
      split: clip numbers of the three parts.
      examples: features of all views that are used.
      train_M: example numbers of the training part, views included.
      model: the network.
    """

    config: ConfigDict
    records: record_reader.Records
    split: splits.Split
    examples: input_pipeline.Examples
    train_M: np.ndarray
    model: nn.Module

    @property
    def corpus(self) -> str:
        """What results call the corpus."""
        return self.config.corpus.title or self.records.corpus

    def metadata(self) -> dict[str, Any]:
        """What lies beside the weights, as JSON values: all that prediction needs to know."""
        return {
            "config": self.config.to_dict(),
            "features": dataclasses.asdict(self.records.spec),
            "labels": list(self.records.labels),
            "corpus": self.corpus,
            "max_frames": self.examples.max_frames,
        }


def make(config: ConfigDict, records: record_reader.Records) -> Task:
    """Splits, loads, and checks what can be checked before anything is trained.

    Raises:
      UserError: the config does not fit the records.
    """
    protocol = {k: v for k, v in config.split.items() if k != "name"}
    split = splits.make(config.split.name, records.clips, **protocol)
    fields = {k: v for k, v in config.model.items() if k != "name"}
    model = models.build(
        config.model.name, len(records.labels), fields, dtype=config.train.compute_dtype
    )
    if (model.input_kind == "vector") != (config.input.kind == "vector"):
        raise UserError(
            f"model.name={config.model.name} wants a {model.input_kind}, and input.kind is "
            f"{config.input.kind}; cnn1d takes vector, the others mfcc or log_mel."
        )
    if config.train.monitor not in train_step.MONITORS:
        raise UserError(
            f"train.monitor={config.train.monitor!r} is unknown; use one of "
            f"{', '.join(train_step.MONITORS)}."
        )
    for key in ("train.epochs", "train.batch_size", "evaluate.batch_size"):
        section, name = key.split(".")
        if config[section][name] < 1:
            raise UserError(f"{key}={config[section][name]} must be 1 or more.")
    examples = input_pipeline.Examples(
        records,
        kind=config.input.kind,
        views=config.input.views,
        max_frames=config.input.max_frames,
        memory_limit_gb=config.input.memory_limit_gb,
    )
    train_M = np.flatnonzero(np.isin(examples.clip_N, split.train)).astype(np.int32)
    if config.train.batch_size > len(train_M):
        raise UserError(
            f"train.batch_size={config.train.batch_size} is larger than the training set of "
            f"{len(train_M)} examples; lower it."
        )
    return Task(config, records, split, examples, train_M, model)


def initial_state(task: Task) -> TrainState:
    """A fresh state with its normalisation fitted, audited for leaks.

    Raises:
      LeakageError: see leakage.audit.
    """
    config, examples, clips = task.config, task.examples, task.records.clips
    normalised_on_M = task.train_M
    leakage.audit(
        task.split,
        clips,
        trained_on=examples.clip_N[task.train_M],
        normalised_on=examples.clip_N[normalised_on_M],
    )
    mean_F, sd_F = np.zeros(examples.width, np.float32), np.ones(examples.width, np.float32)
    if config.input.normalise:
        mean_F, sd_F = input_pipeline.fit_normalisation(examples, normalised_on_M)
    shape = (config.train.batch_size, examples.max_frames, examples.width)
    example_input = features.model_input(jnp.zeros(shape), config.input.kind)
    return train_state.create(
        task.model,
        optimizer.make(config.optimizer.name),
        optimizer.plateau(config.optimizer),
        example_input,
        seed=config.seed,
        hyper=train_state.make_hyper(
            learning_rate=config.optimizer.learning_rate,
            min_learning_rate=config.optimizer.min_learning_rate,
            l2=config.optimizer.l2,
            dropout=config.train.dropout,
            label_smoothing=config.train.label_smoothing,
            class_weight_C=class_weights(task),
        ),
        normalisation=Normalisation(jnp.asarray(mean_F), jnp.asarray(sd_F)),
    )


def class_weights(task: Task) -> np.ndarray:
    """A weight a class: 1, or n / (classes · n of the class), scikit-learn's "balanced"."""
    n_classes, kind = len(task.records.labels), task.config.train.class_weights
    if kind == "none":
        return np.ones(n_classes)
    if kind == "balanced":
        count_C = np.bincount(task.examples.label_N[task.train_M], minlength=n_classes)
        return len(task.train_M) / (n_classes * count_C)
    raise UserError(f"train.class_weights={kind!r} is unknown; use none or balanced.")


def describe(task: Task, state: TrainState) -> str:
    """What is about to be trained, for the console."""
    config, split, examples = task.config, task.split, task.examples
    speakers = np.array(task.records.clips.speakers)
    where = "in memory" if examples.x_NxTxF is not None else "streamed from disk"
    lines = [
        models.parameter_table(state.params),
        "",
        f"{task.corpus}, protocol {split.protocol}: "
        + ", ".join(
            f"{part} {len(rows)} clips of {len(set(speakers[rows]))} speakers"
            for part, rows in split.parts().items()
        )
        + ".",
        f"{len(task.train_M)} training examples (views: original"
        + "".join(f", {view}" for view in config.input.views)
        + f") of {examples.max_frames} frames × {examples.width} columns, "
        f"{examples.n_bytes / 1e9:.2f} GB {where}; "
        f"{math.ceil(len(task.train_M) / config.train.batch_size)} steps an epoch on "
        f"{jax.devices()[0].device_kind}.",
    ]
    if not split.unseen_speakers:
        seen = np.isin(speakers[split.test], speakers[split.train]).mean()
        lines.append(
            f"NOTE: {100 * seen:.1f} % of the test clips are of speakers seen in training. The "
            "result says nothing about new speakers; split.name=tfds or speaker_kfold does."
        )
    return "\n".join(lines)
