"""Orbax checkpoints: the last state, to resume from, and the best weights, to predict with.

<workdir>/checkpoints/last/<step>    the whole TrainState
<workdir>/checkpoints/best/<number>  params, batch_stats, normalisation, their epoch and monitored
                                     value; with them, as JSON, what prediction needs: config,
                                     FeatureSpec, labels, input, replicas; later ones have a higher
                                     number, mostly the epoch

Every array has a leading axis with the replicas in the order of the metadata. A checkpoint is
independent of the devices and of the layout.
"""

import contextlib
import functools
import hashlib
import logging
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging as absl_logging
from orbax.checkpoint import v1 as ocp

from ser_jax.common.errors import UserError
from ser_jax.common.files import explain_full_disk, sha256_of
from ser_jax.parallel import processes
from ser_jax.train.state import Normalisation, TrainState, Weights


class Writer:
    """Writes a training's checkpoints in the background; a context manager that waits at its end.

    A previous checkpoint is kept until the next one is complete. A save begins once the one before
    is complete, and then returns as soon as the arrays are on the host.

    Every method, and the end of the block, raises a UserError if the disk is full; the save that
    failed may have begun earlier.
    """

    def __init__(self, workdir: Path, metadata: dict[str, Any], state: TrainState | None = None):
        """Open the checkpoints of a workdir.

        Args:
          workdir: of the run.
          metadata: JSON to keep with the best weights.
          state: the one that training starts from; its best weights need not be saved again.
        """
        if processes.is_first():  # and only here: a reader may come while a save is unfinished
            for killed in workdir.glob("checkpoints/*/*orbax-checkpoint-tmp*"):
                shutil.rmtree(killed, ignore_errors=True)
        self._last, self._best = (_checkpointer(workdir, name) for name in ("last", "best"))
        self._metadata = metadata
        self._saved_origin = state and _origin(state.best.value, state.best.epoch)
        if self._saved_origin != _saved_origin(workdir):  # a kill came between the two saves
            self._saved_origin = None
        self._begun: dict[ocp.training.Checkpointer, Any] = {}

    def save(self, step: int, state: TrainState) -> None:
        """Begin to save the state to resume from, and the best weights; each only if it is new."""
        self.save_best(state)
        if self._last.latest is None or step > self._last.latest.step:
            self._begin(self._last, step, state)

    def save_best(self, state: TrainState) -> None:
        """Begin to save the best weights in a state, if there are any that are new."""
        best, origin = state.best, _origin(state.best.value, state.best.epoch)
        if origin == self._saved_origin or not any(np.isfinite(value) for value, _ in origin):
            return
        weights = {
            "params": best.params,
            "batch_stats": best.batch_stats,
            "normalisation": state.normalisation,
            "epoch": best.epoch,
            "value": best.value,
        }
        # A killed run may have left weights of a later epoch than that from which it resumes.
        number = max(epoch for _, epoch in origin)
        if self._best.latest is not None:
            number = max(number, self._best.latest.step + 1)
        self._begin(self._best, number, weights, custom_metadata=self._metadata)
        self._saved_origin = origin

    def wait(self) -> None:
        """Return when everything is saved."""
        for checkpointer in tuple(self._begun):
            self._finish(checkpointer)

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.wait()
        finally:
            if kind is None or issubclass(kind, Exception):  # a second Ctrl-C waits for nothing
                for checkpointer in (self._last, self._best):
                    with contextlib.suppress(Exception):  # raised already, or less telling
                        checkpointer.close()

    def _begin(self, checkpointer: ocp.training.Checkpointer, *arguments: Any, **more: Any) -> None:
        if jax.process_count() > 1:
            self.wait()  # Orbax's barriers between processes have one name for every save
        self._finish(checkpointer)
        with explain_full_disk(checkpointer.directory):
            self._begun[checkpointer] = checkpointer.save_async(*arguments, force=True, **more)

    def _finish(self, checkpointer: ocp.training.Checkpointer) -> None:
        if checkpointer in self._begun:
            with explain_full_disk(checkpointer.directory):
                self._begun.pop(checkpointer).result()


def _silence_failures() -> None:
    """Keep off stderr what Orbax also raises; for good, since its threads may outlive a save."""
    absl_logging.get_absl_logger().addFilter(_is_not_orbax)
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    if getattr(sys.unraisablehook, "func", None) is not _report_unraisable:
        sys.unraisablehook = functools.partial(_report_unraisable, sys.unraisablehook)


def _is_not_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in Path(record.pathname).parts


def _report_unraisable(hook: Callable[[Any], None], unraisable: Any) -> None:
    """Call a sys.unraisablehook, unless TensorStore is late.

    Orbax closes its event loop at the first failure; TensorStore, which cannot tell whose write or
    read has ended, then finds it closed, once an array.
    """
    if unraisable.object is not None or str(unraisable.exc_value) != "Event loop is closed":
        hook(unraisable)


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
        saved = _metadata(checkpointer).metadata
        if all(name in saved for name in vars(like)):
            return step, _load(checkpointer, like)
        # Earlier versions had no running mean and aimed at labels alone, and early stopping
        # compared with the best value.
        fields = {name: tree for name, tree in vars(like).items() if name in saved}
        loaded = _load(checkpointer, fields)
        earlier = {"average": (), "target_NxC": (), "reference": jnp.copy(loaded["best"].value)}
        return step, TrainState(**earlier | loaded)


def has_best(workdir: Path) -> bool:
    """Return whether a workdir holds best weights."""
    return any(path.name.isdigit() for path in _folder(workdir, "best").glob("*"))


def load_best(
    workdir: Path, sharding: jax.sharding.Sharding | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the best weights as a tree of arrays, and their metadata.

    The arrays are loaded to `sharding`, or else processes.default_sharding().

    Raises:
      UserError: there is no checkpoint, or it is damaged.
    """
    with _opened_best(workdir) as (checkpointer, saved):
        sharding = sharding or processes.default_sharding()
        abstract = jax.tree.map(lambda leaf: _abstract(leaf, sharding), saved.metadata)
        return _load(checkpointer, abstract), dict(saved.custom_metadata)


def best_metadata(workdir: Path) -> dict[str, Any]:
    """Return the metadata of the best weights, without reading these; raises as load_best."""
    with _opened_best(workdir) as (_, saved):
        return dict(saved.custom_metadata)


@contextlib.contextmanager
def _opened_best(workdir: Path) -> Iterator[tuple[ocp.training.Checkpointer, Any]]:
    """Open the best weights; yield their checkpointer and what it says about them."""
    untrained = f"{workdir} holds no trained model; run with --mode=train first."
    if not _folder(workdir, "best").is_dir():
        raise UserError(untrained)
    with _checkpointer(workdir, "best") as checkpointer:
        if checkpointer.latest is None:
            raise UserError(untrained)
        saved = _metadata(checkpointer)
        if saved.custom_metadata is None:
            raise _damaged(checkpointer)
        yield checkpointer, saved


def source_sha256(source: Path) -> str:
    """Return the SHA-256 of a run's best weights, or of a file of ser_jax.export.

    Raises:
      UserError: there is neither.
    """
    if source.is_file():
        return sha256_of(source)
    best, _ = load_best(source)
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


def _origin(value_R: jax.Array, epoch_R: jax.Array) -> list[tuple[float, int]]:
    """Return the monitored value and epoch of each replica's best weights."""
    value_R, epoch_R = processes.fetch((value_R, epoch_R))
    return list(zip(value_R.tolist(), epoch_R.tolist(), strict=True))


def _saved_origin(workdir: Path) -> list[tuple[float, int]] | None:
    """Return the origin of the best weights of a workdir; None if there are none to read."""
    context = ocp.Context()
    context.pytree.loading.partial_load = True
    with _checkpointer(workdir, "best", context) as checkpointer:
        try:
            saved, sharding = checkpointer.metadata().metadata, processes.default_sharding()
            like = {name: _abstract(saved[name], sharding) for name in ("value", "epoch")}
            loaded = checkpointer.load(None, like)
        except Exception:  # there are none, or they are damaged and will be replaced
            return None
    return _origin(loaded["value"], loaded["epoch"])


def _folder(workdir: Path, name: str) -> Path:
    return workdir.absolute() / "checkpoints" / name


def _checkpointer(
    workdir: Path, name: str, context: ocp.Context | None = None
) -> ocp.training.Checkpointer:
    _silence_failures()
    policy = ocp.training.preservation_policies.LatestN(1)
    folder = _folder(workdir, name)
    return ocp.training.Checkpointer(folder, context=context, preservation_policy=policy)


def _abstract(leaf: Any, sharding: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _metadata(checkpointer: ocp.training.Checkpointer) -> Any:
    try:
        saved = checkpointer.metadata()
    except Exception as error:
        raise _damaged(checkpointer) from error
    if saved.metadata is None:
        raise _damaged(checkpointer)
    return saved


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
