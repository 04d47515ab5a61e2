"""Warm start (init_from): begin a training with the best weights of another run."""

from operator import itemgetter
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from ser_jax.common import files
from ser_jax.common.errors import UserError
from ser_jax.data.leakage import LeakageError
from ser_jax.train import checkpoints
from ser_jax.train.experiment import Experiment
from ser_jax.train.replicas import Replica
from ser_jax.train.state import TrainState, replace_weights


def start_from(experiment: Experiment, states: list[TrainState], source: Path) -> list[TrainState]:
    """Return the states with the best weights of the run in `source`.

    A replica starts from the source's replica of the same seed and fold, or from the only one.

    Raises:
      UserError: the source is untrained or differs in network, classes or replicas.
      LeakageError: the source's training has seen a test clip of this run, or a speaker or sentence
        that the protocol promises as unseen.
    """
    if not experiment.model.takes_steps:
        name = experiment.config.model.name
        raise UserError(f"model.name={name} is fitted in one go; drop init_from.")
    weights, metadata = checkpoints.load_best(source)
    labels = experiment.records.labels
    if metadata["labels"] != list(labels):
        raise UserError(
            f"init_from={source} has the classes {', '.join(metadata['labels'])}, but this corpus "
            f"has {', '.join(labels)}; select the same with corpus.emotions."
        )
    model, own = experiment.model, (states[0].params, states[0].batch_stats)
    model.check_source(metadata, Path(experiment.config.encoder.path))
    first = model.adopt(*own, jax.tree.map(itemgetter(0), weights))
    if jax.tree.map(jnp.shape, first) != jax.tree.map(jnp.shape, own):
        probe = ", or a probe of this encoder with the same model.hidden"
        raise UserError(
            f"init_from={source} has a network of another shape; give a run with the same "
            "config.model, config.features and input.max_frames"
            f"{probe if model.is_pretrained else ''}."
        )
    failed_R, lineage = checkpoints.failed(weights), _lineage(source, metadata)
    started = []
    for replica, state in zip(experiment.replicas, states, strict=True):
        number = _counterpart(replica, metadata["replicas"], source)
        if failed_R[number]:
            raise UserError(
                f"init_from={source} has no finite weights of {replica}, whose training failed; "
                "give a run in which it did not."
            )
        heir = replica
        for folder, facts in lineage:
            heir = Replica(**facts["replicas"][_counterpart(heir, facts["replicas"], folder)])
            source_split = files.read_json(folder / "split.json")[str(heir.fold)]
            _audit(experiment, replica, source_split, folder)
            is_same_corpus = facts["corpus"] == experiment.corpus  # else equal names mean nothing
            heard = facts.get("heard", {}).get(str(heir.fold), {}) if is_same_corpus else {}
            _audit_promises(experiment, replica, source_split, heard, folder)
        own_weights = jax.tree.map(itemgetter(number), weights)
        adopted = model.adopt(state.params, state.batch_stats, own_weights)
        started.append(replace_weights(state, *adopted))
    return started


def _lineage(source: Path, metadata: dict[str, Any]) -> list[tuple[Path, dict[str, Any]]]:
    """Return the source and the runs from which it started itself, each with its metadata."""
    lineage = [(source, metadata)]
    while earlier := lineage[-1][1]["config"].get("init_from"):
        if not Path(earlier).is_dir():
            print(
                f"NOTE: {lineage[-1][0]} started from {earlier}, which is not there any more; "
                "whether that training has seen test clips of this run is not checked."
            )
            break
        lineage.append((Path(earlier), checkpoints.load_best(Path(earlier))[1]))
    return lineage


def _counterpart(replica: Replica, candidates: list[dict[str, Any]], source: Path) -> int:
    """Return the number of the source's replica to start from."""
    if len(candidates) == 1:
        return 0
    key = (replica.seed, replica.fold)
    matches = [i for i, row in enumerate(candidates) if (row["seed"], row["fold"]) == key]
    if len(matches) != 1:
        raise UserError(
            f"init_from={source} has {len(matches) or 'no'} replicas of seed {replica.seed}, fold "
            f"{replica.fold}; give the seeds and folds of that run, or a run with one replica."
        )
    return matches[0]


def _audit(
    experiment: Experiment, replica: Replica, source_split: dict[str, dict[str, str]], source: Path
) -> None:
    """Refuse a source that was trained on, or selected by, a test clip of this run."""
    seen = {*source_split["train"].values(), *source_split["val"].values()}
    clips = experiment.records.clips
    for row in experiment.splits[replica.fold].test:
        if clips.sha256[row] in seen:
            raise LeakageError(
                f"leakage: {source} was trained on {clips.ids[row]}, a test clip of this run; use "
                "the same split."
            )


def _audit_promises(
    experiment: Experiment,
    replica: Replica,
    source_split: dict[str, dict[str, str]],
    heard: dict[str, list[str]],
    source: Path,
) -> None:
    """Refuse a source that has heard speakers or sentences which the protocol promises as unseen.

    `heard` names them; besides, this run's records know those of the clips that the source shares.
    """
    clips, split = experiment.records.clips, experiment.splits[replica.fold]
    seen = {*source_split["train"].values(), *source_split["val"].values()}
    shared = [row for row, sha256 in enumerate(clips.sha256) if sha256 in seen]
    promises = {"speaker": split.unseen_speakers, "sentence": split.unseen_sentences}
    for noun in [noun for noun, promised in promises.items() if promised]:
        values = getattr(clips, f"{noun}s")
        known = {*heard.get(f"{noun}s", ()), *(values[row] for row in shared)}
        for row in split.test:
            if values[row] in known:
                raise LeakageError(
                    f"leakage: {source} was trained on the {noun} {values[row]}, which "
                    f"split.name={split.protocol} promises as unseen; use the same split."
                )
