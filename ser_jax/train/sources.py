"""Other trainings that one learns from: a run whose weights it starts with, a teacher.

What they have heard counts as heard by this training, and so do their own sources.
"""

from operator import itemgetter
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ser_jax.common import files
from ser_jax.common.errors import UserError
from ser_jax.data import targets
from ser_jax.data.leakage import Heard, alias, audit_source
from ser_jax.train import checkpoints
from ser_jax.train.experiment import Experiment
from ser_jax.train.replicas import Replica
from ser_jax.train.state import TrainState, replace_weights

TAUGHT = "teacher.json"  # in a workdir: what its teacher has heard


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
    failed_R, heard = checkpoints.failed(weights), heard_by(source)
    started = []
    for replica, state in zip(experiment.replicas, states, strict=True):
        number = _counterpart(replica, metadata["replicas"], source)
        if failed_R[number]:
            raise UserError(
                f"init_from={source} has no finite weights of {replica}, whose training failed; "
                "give a run in which it did not."
            )
        audit_source(
            experiment.splits[replica.fold],
            experiment.records.clips,
            experiment.corpus,
            heard[metadata["replicas"][number]["fold"]],
            source,
        )
        own_weights = jax.tree.map(itemgetter(number), weights)
        adopted = model.adopt(state.params, state.batch_stats, own_weights)
        started.append(replace_weights(state, *adopted))
    return started


def lessons_of(experiment: Experiment) -> targets.Lessons | None:
    """Return what the run's teacher says, see predict.teaching; None if it has none.

    Raises:
      UserError: the teacher has not been asked about these records.
      LeakageError: it has heard a test clip of this run, or a speaker or sentence that the protocol
        promises as unseen.
    """
    config, records = experiment.config.train, experiment.records
    if config.targets != "teacher":
        return None
    path = targets.lessons_file(records.folder, checkpoints.source_sha256(Path(config.teacher)))
    if not path.exists():
        raise UserError(
            f"train.teacher={config.teacher} has not been asked about these records; launch.py "
            "does it before the training."
        )
    lessons = targets.Lessons.load(path)
    lessons.audit(experiment.splits, records.clips, experiment.corpus, config.teacher)
    for fold, split in experiment.splits.items():
        if not np.isfinite(lessons.target(fold)[split.train]).all():
            raise UserError(f"{path} lacks training clips; launch.py asks for them.")
    return lessons


def targets_of(experiment: Experiment, lessons: targets.Lessons | None) -> dict[int, np.ndarray]:
    """Return target_NxC of each fold, and say where it comes from; empty if labels are aimed at.

    Raises:
      UserError: nobody has voted.
    """
    config, records = experiment.config.train, experiment.records
    if lessons:
        print(f"Targets: {config.teacher}, at temperature {config.teacher_temperature:g}.")
        # A clip of which the teacher was not asked, as it does not train, is aimed at nothing.
        return {
            fold: np.nan_to_num(
                targets.tempered(lessons.target(fold), config.teacher_temperature), nan=0.0
            )
            for fold in experiment.splits
        }
    if config.targets == "votes":
        clips = records.clips
        target_NxC, rated_N = targets.from_votes(records.votes, clips.labels, len(records.labels))
        if not rated_N.any():
            raise UserError(
                f"train.targets=votes needs listeners' votes, and {experiment.corpus} has none; "
                "use labels, or add its table of votes."
            )
        n, n_rated = (len(rows) for rows in (rated_N, np.flatnonzero(rated_N)))
        others = f"; the other {n - n_rated:,} have their label" * (n_rated < n)
        print(f"Targets: listeners' votes of {n_rated:,} of {n:,} clips{others}.")
        return dict.fromkeys(experiment.splits, target_NxC)
    return {}


def heard_by(workdir: Path) -> dict[int, Heard]:
    """Return what each fold of a run has heard, by itself and by what it has learnt from.

    Raises:
      UserError: the run is not trained, or damaged.
    """
    metadata = checkpoints.best_metadata(workdir)
    remedy = "without it nobody knows what was heard: restore it, or train that run again"
    split, heard = files.read_json(workdir / "split.json", remedy), {}
    names = metadata.get("heard", {})  # earlier runs have not recorded them
    for fold, parts in split.items():
        own = {k: {alias(metadata["corpus"], n) for n in v} for k, v in names.get(fold, {}).items()}
        heard[int(fold)] = Heard.from_json(
            {"clips": {*parts["train"].values(), *parts["val"].values()}, **own}
        )
    if (workdir / TAUGHT).exists():
        for fold, lists in files.read_json(workdir / TAUGHT).items():
            heard[int(fold)] |= Heard.from_json(lists)
    if source := metadata["config"].get("init_from"):
        if not Path(source).is_dir():
            print(
                f"NOTE: {workdir} started from {source}, which is not there any more; whether that "
                "training has seen test clips of this run is not checked."
            )
            return heard
        earlier = checkpoints.best_metadata(Path(source))
        heard_earlier = heard_by(Path(source))
        for facts in metadata["replicas"]:
            number = _counterpart(Replica(**facts), earlier["replicas"], Path(source))
            heard[facts["fold"]] |= heard_earlier[earlier["replicas"][number]["fold"]]
    return heard


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
