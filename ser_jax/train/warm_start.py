"""A second training: another run's best weights are the start of this one."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from ser_jax.common import files
from ser_jax.common.errors import UserError
from ser_jax.data import leakage
from ser_jax.train import checkpoints
from ser_jax.train import state as train_state
from ser_jax.train.experiment import Experiment
from ser_jax.train.replicas import Replica
from ser_jax.train.state import TrainState


def start_from(this: Experiment, states: list[TrainState], source: Path) -> list[TrainState]:
    """The states with the best weights of the run in `source`.

    A replica starts from the source's replica of the same seed and fold; where the source has but
    one replica, all start from that.

    Raises:
      UserError: nothing is trained there, or another network, other classes or other replicas.
      LeakageError: its training has seen a clip that this run is tested on.
    """
    weights, metadata = checkpoints.load_best(source)
    if metadata["labels"] != list(this.records.labels):
        raise UserError(
            f"init_from={source} knows the classes {', '.join(metadata['labels'])}, and this "
            f"corpus has {', '.join(this.records.labels)}; choose the same with corpus.emotions."
        )
    params, batch_stats = weights["params"], weights.get("batch_stats", {})
    theirs = jax.tree.map(lambda leaf: leaf.shape[1:], (params, batch_stats))
    if theirs != jax.tree.map(jnp.shape, (states[0].params, states[0].batch_stats)):
        raise UserError(
            f"init_from={source} has a network of another shape; give the same config.model, "
            "config.features and input.max_frames."
        )
    their_parts = files.read_json(source / "split.json")
    started = []
    for replica, state in zip(this.replicas, states, strict=True):
        number = _counterpart(replica, metadata["replicas"], source)
        _audit(this, replica, their_parts[str(metadata["replicas"][number]["fold"])], source)
        started.append(
            train_state.start_from(
                state,
                *jax.tree.map(lambda leaf: leaf[number], (params, batch_stats)),  # noqa: B023
            )
        )
    return started


def _counterpart(replica: Replica, theirs: list[dict[str, Any]], source: Path) -> int:
    """The number of the source's replica that this one starts from."""
    if len(theirs) == 1:
        return 0
    same = [
        number
        for number, other in enumerate(theirs)
        if (other["seed"], other["fold"]) == (replica.seed, replica.fold)
    ]
    if len(same) != 1:
        raise UserError(
            f"init_from={source} has {len(same) or 'no'} replicas of seed {replica.seed}, fold "
            f"{replica.fold}; give the seeds and folds of that run, or a run with one replica."
        )
    return same[0]


def _audit(
    this: Experiment, replica: Replica, parts: dict[str, dict[str, str]], source: Path
) -> None:
    """Stops where the source has learnt from, or been chosen by, a test clip of this run."""
    seen = {*parts["train"].values(), *parts["val"].values()}
    clips = this.records.clips
    for row in this.splits[replica.fold].test:
        if clips.sha256[row] in seen:
            raise leakage.LeakageError(
                f"leakage: {source} was trained on {clips.ids[row]}, a test clip of this run; use "
                "the same split as there."
            )
