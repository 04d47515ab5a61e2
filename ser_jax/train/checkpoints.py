"""Orbax: the last state, to go on from; the best weights, to use.

<workdir>/checkpoints/last/<step>   the whole TrainState
<workdir>/checkpoints/best/<epoch>  params, batch_stats, normalisation, and the epoch and monitored
                                    value they are of; as JSON beside them what prediction needs:
                                    config, FeatureSpec, labels, input, replicas

Every array has a leading axis, the replicas in the order of the metadata. Neither the number of
devices nor how the replicas were laid on them shows in a checkpoint.
"""

import logging
import shutil
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from ser_jax.common.errors import UserError
from ser_jax.parallel import processes
from ser_jax.train.state import Best, Normalisation, TrainState, Weights


def save_last(workdir: Path, step: int, state: TrainState) -> None:
    """Replaces the state to go on from; the one before stays until this one is whole."""
    with _checkpointer(workdir, "last") as checkpointer:
        checkpointer.save(step, state, overwrite=True)


def load_last(workdir: Path, like: TrainState) -> tuple[int, TrainState] | None:
    """The step and the state to go on from, or None if there is none.

    Args:
      workdir: of the run.
      like: jax.ShapeDtypeStructs of the state, with the shardings to load it to.

    Raises:
      UserError: it is damaged.
    """
    if not _folder(workdir, "last").is_dir():
        return None
    with _checkpointer(workdir, "last") as checkpointer:
        if checkpointer.latest is None:
            return None
        return checkpointer.latest.step, _load(checkpointer, like)


def save_best(
    workdir: Path, epoch: int, best: Best, normalisation: Normalisation, metadata: dict[str, Any]
) -> None:
    """Replaces the best weights; `metadata` is JSON."""
    weights = {
        "params": best.params,
        "batch_stats": best.batch_stats,
        "normalisation": normalisation,
        "epoch": best.epoch,
        "value": best.value,
    }
    with _checkpointer(workdir, "best") as checkpointer:
        checkpointer.save(epoch, weights, custom_metadata=metadata, overwrite=True)


def load_best(
    workdir: Path, sharding: jax.sharding.Sharding | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The best weights as a tree of arrays, and their metadata.

    Args:
      workdir: of the run.
      sharding: where the arrays go; devices.everywhere() by default.

    Raises:
      UserError: there are none, or they are damaged.
    """
    folder = _folder(workdir, "best")
    nothing = f"{workdir} holds no trained model; run with --mode=train first."
    if not folder.is_dir():
        raise UserError(nothing)
    with _checkpointer(workdir, "best") as checkpointer:
        if checkpointer.latest is None:
            raise UserError(nothing)
        try:
            found = checkpointer.metadata()
        except Exception as error:
            raise _damaged(checkpointer) from error
        if found.metadata is None or found.custom_metadata is None:
            raise _damaged(checkpointer)
        sharding = sharding or processes.everywhere()
        abstract = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), found.metadata
        )
        return _load(checkpointer, abstract), dict(found.custom_metadata)


def weights_of(best: dict[str, Any]) -> Weights:
    """What predicts, out of what `load_best` gives."""
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
        for unfinished in folder.glob("*orbax-checkpoint-tmp*"):  # of a save that was killed
            shutil.rmtree(unfinished, ignore_errors=True)
    return ocp.training.Checkpointer(folder, preservation_policy=policy)


def _load(checkpointer: ocp.training.Checkpointer, abstract: Any) -> Any:
    try:
        return checkpointer.load(None, abstract)
    except Exception as error:  # Orbax and TensorStore have no class in common
        raise _damaged(checkpointer) from error


def _damaged(checkpointer: ocp.training.Checkpointer) -> UserError:
    # Orbax's other reads fail too, and asyncio would print each of them after our sentence.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    return UserError(
        f"the checkpoint {checkpointer.directory}/{checkpointer.latest.step} is damaged or of "
        "another model; move the workdir away and train again, or choose another --workdir."
    )
