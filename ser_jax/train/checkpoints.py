"""Orbax checkpoints: the last state, to resume from, and the best weights, to predict with.

<workdir>/checkpoints/last/<step>   the whole TrainState
<workdir>/checkpoints/best/<epoch>  params, batch_stats, normalisation, their epoch and monitored
                                    value; with them, as JSON, what prediction needs: config,
                                    FeatureSpec, labels, input, replicas

Every array has a leading axis with the replicas in the order of the metadata. A checkpoint is
independent of the devices and of the layout.
"""

import contextlib
import hashlib
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging as absl_logging
from orbax.checkpoint import v1 as ocp

from ser_jax.common.errors import UserError
from ser_jax.common.files import explain_full_disk
from ser_jax.parallel import processes
from ser_jax.train.state import Best, Normalisation, TrainState, Weights


def save_last(workdir: Path, step: int, state: TrainState) -> None:
    """Save the state to resume from; the previous one is kept until this one is complete."""
    with _saving(workdir, "last") as checkpointer:
        checkpointer.save(step, state, overwrite=True)


def load_last(workdir: Path, like: TrainState) -> tuple[int, TrainState] | None:
    """Return the step and state to resume from, or None if there is no checkpoint.

    `like` has jax.ShapeDtypeStructs of the state, with the shardings to load to.

    Raises:
      UserError: the checkpoint is damaged.
    """
    if not _folder(workdir, "last").is_dir():
        return None
    with _checkpointer(workdir, "last") as checkpointer:
        if checkpointer.latest is None:
            return None
        step = checkpointer.latest.step
        if "reference" in _metadata(checkpointer).metadata:
            return step, _load(checkpointer, like)
        # Earlier versions compared with the best value in early stopping.
        fields = {name: tree for name, tree in vars(like).items() if name != "reference"}
        state = TrainState(**_load(checkpointer, fields), reference=None)
        return step, state.replace(reference=jnp.copy(state.best.value))


def save_best(
    workdir: Path, epoch: int, best: Best, normalisation: Normalisation, metadata: dict[str, Any]
) -> None:
    """Save the best weights in place of the previous ones; `metadata` is JSON."""
    weights = {
        "params": best.params,
        "batch_stats": best.batch_stats,
        "normalisation": normalisation,
        "epoch": best.epoch,
        "value": best.value,
    }
    with _saving(workdir, "best") as checkpointer:
        checkpointer.save(epoch, weights, custom_metadata=metadata, overwrite=True)


def load_best(
    workdir: Path, sharding: jax.sharding.Sharding | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the best weights as a tree of arrays, and their metadata.

    The arrays are loaded to `sharding`, or else processes.default_sharding().

    Raises:
      UserError: there is no checkpoint, or it is damaged.
    """
    folder = _folder(workdir, "best")
    untrained = f"{workdir} holds no trained model; run with --mode=train first."
    if not folder.is_dir():
        raise UserError(untrained)
    with _checkpointer(workdir, "best") as checkpointer:
        if checkpointer.latest is None:
            raise UserError(untrained)
        saved = _metadata(checkpointer)
        if saved.custom_metadata is None:
            raise _damaged(checkpointer)
        sharding = sharding or processes.default_sharding()
        abstract = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), saved.metadata
        )
        return _load(checkpointer, abstract), dict(saved.custom_metadata)


def checksum(workdir: Path) -> str:
    """Return the SHA-256 of a run's best weights."""
    best, _ = load_best(workdir)
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(processes.fetch((best["params"], best.get("batch_stats", {})))):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


def failed(best: dict[str, Any]) -> np.ndarray:
    """Return which replicas failed, [R]: their best value or a weight is not finite."""
    trees = best["value"], best["params"], best.get("batch_stats", {})
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(processes.fetch(trees))]
    finite = [np.isfinite(leaf).reshape(len(leaf), -1).all(1) for leaf in leaves]
    return ~np.all(finite, axis=0)


def weights_of(best: dict[str, Any]) -> Weights:
    """Return the weights within a tree from `load_best`."""
    return Weights(
        best["params"],
        best.get("batch_stats", {}),  # a network without BatchNorm has none
        Normalisation(**best["normalisation"]),
    )


def _folder(workdir: Path, name: str) -> Path:
    return workdir.absolute() / "checkpoints" / name


def _checkpointer(workdir: Path, name: str) -> ocp.training.Checkpointer:
    policy = ocp.training.preservation_policies.LatestN(1)
    folder = _folder(workdir, name)
    if processes.is_first():
        for unfinished in folder.glob("*orbax-checkpoint-tmp*"):  # a kill interrupted the save
            shutil.rmtree(unfinished, ignore_errors=True)
    return ocp.training.Checkpointer(folder, preservation_policy=policy)


def _metadata(checkpointer: ocp.training.Checkpointer) -> Any:
    try:
        saved = checkpointer.metadata()
    except Exception as error:
        raise _damaged(checkpointer) from error
    if saved.metadata is None:
        raise _damaged(checkpointer)
    return saved


@contextlib.contextmanager
def _saving(workdir: Path, name: str) -> Iterator[ocp.training.Checkpointer]:
    verbosity = absl_logging.get_verbosity()
    absl_logging.set_verbosity(absl_logging.FATAL)  # Orbax logs what it raises, with a traceback
    try:
        with (
            explain_full_disk(_folder(workdir, name)),
            _checkpointer(workdir, name) as checkpointer,
        ):
            yield checkpointer
    finally:
        absl_logging.set_verbosity(verbosity)


def _load(checkpointer: ocp.training.Checkpointer, abstract: Any) -> Any:
    try:
        return checkpointer.load(None, abstract)
    except Exception as error:  # Orbax and TensorStore share no exception class
        raise _damaged(checkpointer) from error


def _damaged(checkpointer: ocp.training.Checkpointer) -> UserError:
    # Orbax's other reads fail as well, and asyncio would print each failure after this message.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    return UserError(
        f"the checkpoint {checkpointer.directory}/{checkpointer.latest.step} is damaged or of "
        "another model; move the workdir away and train again, or choose another --workdir."
    )
