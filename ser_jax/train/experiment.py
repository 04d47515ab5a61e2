"""An experiment: a config applied to opened records, checked, and audited for leaks."""

import dataclasses
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from ser_jax import features
from ser_jax.common import provenance
from ser_jax.common.config import check
from ser_jax.common.errors import UserError
from ser_jax.data import leakage, splits, targets
from ser_jax.data.clips import Clips
from ser_jax.data.examples import SAMPLINGS, Examples, fit_normalisation
from ser_jax.data.online_augmentation import OnlineAugmentation
from ser_jax.data.records import Records
from ser_jax.data.splits import Split
from ser_jax.models import registry
from ser_jax.pages.numbers import percent
from ser_jax.train.optimizer import make_optimizer, make_plateau, settings_of
from ser_jax.train.replicas import Replica, expand
from ser_jax.train.state import Normalisation, TrainState, create_state, make_hyper, parameter_table
from ser_jax.train.step import MONITORS

_MUCH_LONGER = 10  # times the median clip, from which padding to the longest is noted


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything that training and evaluation need, except the state."""

    config: ConfigDict
    records: Records
    replicas: tuple[Replica, ...]
    splits: dict[int, Split]  # of each fold in use
    examples: Examples  # of all views in use
    model: nn.Module

    @property
    def corpus(self) -> str:
        """The corpus's title in results."""
        return title(self.config, self.records)

    @property
    def n_steps(self) -> int:
        """Steps of an epoch, of the fold with the largest training set."""
        largest = max(len(self.train_M(fold)) for fold in self.splits)
        return -(-largest // self.config.train.batch_size)

    def train_M(self, fold: int) -> np.ndarray:  # noqa: N802 — a shape
        """Return the example numbers of a fold's training set, augmented views included."""
        in_train = np.isin(self.examples.clip_N, self.splits[fold].train)
        return np.flatnonzero(in_train).astype(np.int32)

    def metadata(self) -> dict[str, Any]:
        """Return what prediction needs beside the weights, as JSON values."""
        return {
            "config": self.config.to_dict(),
            "features": dataclasses.asdict(self.records.spec),
            "labels": list(self.records.labels),
            "corpus": self.corpus,
            "licence": self.records.licence,
            "max_frames": self.examples.max_frames,
            "min_frames": int(self.examples.n_frames_N.min()),  # of the shortest example
            "replicas": [dataclasses.asdict(replica) for replica in self.replicas],
            "provenance": provenance.collect(self.config.train.compute_dtype),
            "heard": {str(fold): self._heard(split) for fold, split in self.splits.items()},
        }

    def _heard(self, split: Split) -> dict[str, list[str]]:
        """Return the speakers and sentences that training or validation hears."""
        rows, clips = [*split.train, *split.val], self.records.clips
        columns = {"speakers": clips.speakers, "sentences": clips.sentences}
        return {k: sorted({v[row] for row in rows} - {""}) if v else [] for k, v in columns.items()}


def title(config: ConfigDict, records: Records) -> str:
    """Return the corpus's title in results: the config's own, since equal tables share records."""
    corpus = config.corpus
    if corpus.title or corpus.name != "csv":
        return corpus.title or records.corpus
    root = Path(corpus.root)
    return root.stem if root.suffix else "corpus"  # of a folder's corpus.csv


def make_experiment(config: ConfigDict, records: Records) -> Experiment:
    """Split the clips, load the examples, build the model, and check the config.

    Raises:
      UserError: the config is invalid or does not fit the records.
    """
    replicas, split_of_fold, model = plan(config, records.clips)
    examples = Examples(
        records,
        kind=config.input.kind,
        views=config.input.views,
        max_frames=config.input.max_frames,
        # With several processes each streams its own share.
        memory_limit_gb=config.input.memory_limit_gb if jax.process_count() == 1 else 0.0,
    )
    return Experiment(config, records, replicas, split_of_fold, examples, model)


def check_corpus(config: ConfigDict, corpus: Any) -> None:
    """Check a config against a data_prep.corpora.Corpus, before its audio is read.

    Raises:
      UserError: as make_experiment, for what can be known without the audio.
    """
    utterances, number_of = corpus.utterances, {name: i for i, name in enumerate(corpus.labels)}
    ids = tuple(u.id for u in utterances)
    names = utterances[0].attributes if utterances else ()
    attributes = {name: tuple(u.attributes[name] for u in utterances) for name in names}
    clips = Clips(
        ids=ids,
        speakers=tuple(u.speaker for u in utterances),
        labels=tuple(number_of[u.emotion] for u in utterances),
        # The shuffle of random_file keeps the same audio together, which is not known yet.
        sha256=() if config.split.name == "random_file" else ids,
        label_names=corpus.labels,
        sentences=attributes.get("sentence", ()),
        attributes=attributes,
    )
    plan(config, clips)


def plan(
    config: ConfigDict, clips: Clips
) -> tuple[tuple[Replica, ...], dict[int, Split], nn.Module]:
    """Return replicas, splits and model after checking everything that needs no features."""
    check(config)
    replicas = expand(config)
    protocol = {k: v for k, v in config.split.items() if k not in ("name", "fold")}
    split_of_fold = {
        fold: splits.make(config.split.name, clips, fold=fold, **protocol)
        for fold in dict.fromkeys(replica.fold for replica in replicas)
    }
    registry.complete(config)
    model = registry.from_config(config, len(clips.label_names))
    model.check_features(config.features)
    if (model.input_kind == "vector") != (config.input.kind == "vector"):
        raise UserError(
            f"model.name={config.model.name} takes a {model.input_kind}, and input.kind is "
            f"{config.input.kind}; a vector is input.kind=vector, a plane is mfcc or log_mel."
        )
    swept = [{k: v for k, v in r.setting.items() if k.startswith("model.")} for r in replicas]
    for setting in swept:
        fields = {**config.model, **{k.removeprefix("model."): v for k, v in setting.items()}}
        registry.build(fields.pop("name"), len(clips.label_names), fields)
    for replica in replicas:
        _check_class_weights(replica.value(config, "train.class_weights"))
    online = OnlineAugmentation(**config.online_augmentation)
    if (online.changes_clips and model.input_kind == "vector") or (
        (online.changes_clips or online.mixup) and not model.takes_steps
    ):
        raise UserError(
            f"online_augmentation does not apply to model.name={config.model.name}, which is not "
            "trained on planes step by step; set its amounts to 0."
        )
    _check_objective(config.train, model)
    n_views = 1 + len(config.input.views)
    n_clips = min(len(split.train) for split in split_of_fold.values())
    smallest = n_views * (n_clips if clips.sha256 else len(clips.ids))
    if model.takes_steps and config.train.batch_size > smallest:
        raise UserError(
            f"train.batch_size={config.train.batch_size} is larger than the training set of "
            f"{smallest} examples; lower it."
        )
    return replicas, split_of_fold, model


def _check_objective(train: ConfigDict, model: nn.Module) -> None:
    known = {"monitor": MONITORS, "targets": targets.CHOICES, "sampling": SAMPLINGS}
    for key, choices in known.items():
        if train[key] not in choices:
            names = ", ".join(choices)
            raise UserError(f"train.{key}={train[key]!r} is unknown; use one of {names}.")
    if (train.targets == "teacher") != bool(train.teacher):
        raise UserError(
            "train.targets=teacher and train.teacher, the workdir of a finished run or a file of "
            "ser_jax.export, belong together; give both or neither."
        )
    is_plain = train.targets == "labels" and train.sampling == "shuffled" and not train.focal_gamma
    if not (model.takes_steps or is_plain):
        keys = "train.targets, train.sampling and train.focal_gamma"
        raise UserError(f"{keys} do not apply to a model that is fitted in one go; drop them.")


def initial_states(
    experiment: Experiment, targets_of_fold: Mapping[int, np.ndarray] = types.MappingProxyType({})
) -> list[TrainState]:
    """Return a fresh state per replica, normalised by its own training set.

    It aims at target_NxC of its fold, see sources.targets_of, or else at the labels.

    Raises:
      UserError: the network begins with an encoder that is not there, or is damaged.
      LeakageError: the training set, its views or the normalisation would see evaluation data.
    """
    normalisations = {fold: _normalisation(experiment, fold) for fold in experiment.splits}
    config, examples = experiment.config, experiment.examples
    shape = (config.train.batch_size, examples.max_frames, examples.width)
    example_input = features.model_input(jnp.zeros(shape), config.input.kind)
    optimizer = make_optimizer(*settings_of(config, experiment.model))
    plateau = make_plateau(config.optimizer)
    pretrained = experiment.model.pretrained(Path(config.encoder.path))
    states = []
    for replica in experiment.replicas:
        hyper = make_hyper(
            learning_rate=replica.value(config, "optimizer.learning_rate"),
            min_learning_rate=config.optimizer.min_learning_rate,
            l2=replica.value(config, "optimizer.l2"),
            dropout=replica.value(config, "train.dropout"),
            label_smoothing=replica.value(config, "train.label_smoothing"),
            class_weight_C=class_weights(experiment, replica),
        )
        states.append(
            create_state(
                experiment.model,
                optimizer,
                plateau,
                example_input,
                seed=replica.seed,
                hyper=hyper,
                normalisation=normalisations[replica.fold],
                pretrained=pretrained,
                averages=config.optimizer.ema_decay > 0,
                target_NxC=targets_of_fold.get(replica.fold, ()),
            )
        )
    return states


def class_weights(experiment: Experiment, replica: Replica) -> np.ndarray:
    """Return weight_C: ones, or scikit-learn's "balanced", n / (C · n of the class)."""
    n_classes = len(experiment.records.labels)
    rule = replica.value(experiment.config, "train.class_weights")
    _check_class_weights(rule)
    if rule == "none":
        return np.ones(n_classes)
    train_M = experiment.train_M(replica.fold)
    count_C = np.bincount(experiment.examples.label_N[train_M], minlength=n_classes)
    return len(train_M) / (n_classes * count_C)


def _check_class_weights(rule: str) -> None:
    if rule not in ("none", "balanced"):
        raise UserError(f"train.class_weights={rule!r} is unknown; use none or balanced.")


def describe(experiment: Experiment, state: TrainState) -> str:
    """Return the console's account of what is about to be trained: parameters and data."""
    config, examples = experiment.config, experiment.examples
    storage = "in memory" if examples.x_NxTxF is not None else "streamed from disk"
    counts = sorted({len(experiment.train_M(fold)) for fold in experiment.splits})
    steps = f"; {experiment.n_steps} steps per epoch on {jax.devices()[0].device_kind}"
    lines = [
        parameter_table(state.params),
        "",
        *(_describe_split(experiment, fold) for fold in experiment.splits),
        f"{'–'.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} training examples (views: "
        f"{', '.join(('original', *config.input.views))}) of {examples.max_frames} frames × "
        f"{examples.width} columns, {examples.n_bytes / 1e9:.2f} GB {storage}"
        f"{steps if experiment.model.takes_steps else ''}.",
    ]
    if left_out := experiment.records.left_out:
        lines.append(
            f"NOTE: {len(left_out)} clips of the corpus could not be used and are left out; "
            f"the first: {next(iter(left_out.values()))}"
        )
    n_frames_N = examples.n_frames_N[: len(experiment.records.clips.ids)]
    longest, median = int(n_frames_N.argmax()), float(np.median(n_frames_N))
    if not config.input.max_frames and n_frames_N[longest] > _MUCH_LONGER * median:
        lines.append(
            f"NOTE: {experiment.records.clips.ids[longest]} has {n_frames_N[longest]} frames, and "
            f"half of the clips have at most {median:.0f}; all are padded to its length. Set "
            "--config.input.max_frames to cut longer clips, or leave the clip out."
        )
    split = next(iter(experiment.splits.values()))
    if not split.unseen_speakers:
        speakers = np.array(experiment.records.clips.speakers)
        seen = np.isin(speakers[split.test], speakers[split.train]).mean()
        lines.append(
            f"NOTE: {percent(seen)} of the test clips are of speakers seen in training. The "
            "result says nothing about new speakers; split.name=tfds or speaker_kfold does."
        )
    return "\n".join(lines)


def _normalisation(experiment: Experiment, fold: int) -> Normalisation:
    examples, train_M = experiment.examples, experiment.train_M(fold)
    leakage.audit(
        experiment.splits[fold],
        experiment.records.clips,
        trained_on=examples.clip_N[train_M],
        normalised_on=examples.clip_N[train_M],
    )
    if experiment.config.input.normalise and not experiment.model.normalisation:
        mean_F, sd_F = fit_normalisation(examples, train_M)
    else:
        mean, sd = experiment.model.normalisation or (0.0, 1.0)
        mean_F, sd_F = (np.full(examples.width, value, np.float32) for value in (mean, sd))
    return Normalisation(jnp.asarray(mean_F), jnp.asarray(sd_F))


def _describe_split(experiment: Experiment, fold: int) -> str:
    split, speakers = experiment.splits[fold], np.array(experiment.records.clips.speakers)
    number = f", fold {fold}" if len(experiment.splits) > 1 else ""
    sets = ", ".join(
        f"{part} {len(rows)} clips of {len(set(speakers[rows]))} speakers"
        for part, rows in split.parts().items()
    )
    return f"{experiment.corpus}, protocol {split.protocol}{number}: {sets}."
