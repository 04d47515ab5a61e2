"""A second training: another run's best weights are the start of this one."""

from pathlib import Path

import jax
import jax.numpy as jnp

from ser_jax import checkpoints, files, leakage, train_state
from ser_jax.errors import UserError
from ser_jax.task import Task
from ser_jax.train_state import TrainState


def start_from(this: Task, state: TrainState, source: Path) -> TrainState:
    """The state with the best weights of the run in `source`.

    Raises:
      UserError: nothing is trained there, or another network or other classes.
      LeakageError: its training has seen a clip that this run is tested on.
    """
    weights, metadata = checkpoints.load_best(source)
    if metadata["labels"] != list(this.records.labels):
        raise UserError(
            f"init_from={source} knows the classes {', '.join(metadata['labels'])}, and this "
            f"corpus has {', '.join(this.records.labels)}; choose the same with corpus.emotions."
        )
    theirs = jax.tree.map(jnp.shape, (weights["params"], weights.get("batch_stats", {})))
    if theirs != jax.tree.map(jnp.shape, (state.params, state.batch_stats)):
        raise UserError(
            f"init_from={source} has a network of another shape; give the same config.model, "
            "config.features and input.max_frames."
        )
    parts = files.read_json(source / "split.json")
    seen = {*parts["train"].values(), *parts["val"].values()}
    clips = this.records.clips
    leaked = [clips.ids[row] for row in this.split.test if clips.sha256[row] in seen]
    if leaked:
        raise leakage.LeakageError(
            f"leakage: {source} was trained on {leaked[0]}, a test clip of this run; use the same "
            "split as there."
        )
    return train_state.start_from(state, weights["params"], weights.get("batch_stats", {}))
