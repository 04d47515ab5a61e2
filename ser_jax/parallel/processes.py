"""Several processes, on one machine or many: who is first, meetings, arrays that all can see."""

import itertools
import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from ser_jax.common.errors import UserError

Made = TypeVar("Made")


_MEETINGS = itertools.count()  # no two of a program may have one name


LONGEST_WAIT_MS = 7 * 24 * 3_600_000  # for a process that prepares records


def everywhere() -> jax.sharding.Sharding:
    """Where a checkpoint is loaded to: the first device, or with several processes every one."""
    if jax.process_count() == 1:
        return jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return NamedSharding(jax.make_mesh((jax.device_count(),), ("all",)), PartitionSpec())


def initialise(coordinator: str, n_processes: int, process: int) -> bool:
    """Joins the processes of several machines; to be called before anything touches a device.

    Without a coordinator JAX asks Slurm, Kubernetes, Open MPI or the TPU's own metadata. All but
    the first process are silent on stdout from here on.

    Args:
      coordinator: HOST:PORT of the first process, or "".
      n_processes: how many; −1 with no coordinator.
      process: the number of this one; −1 with no coordinator.

    Returns:
      Whether this process is the first.

    Raises:
      UserError: the processes do not find each other.
    """
    # Accelerators queue their work; CPUs may swap programs, and then two processes wait for ever,
    # each in another exchange.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    try:
        jax.distributed.initialize(
            coordinator or None,
            n_processes if n_processes >= 0 else None,
            process if process >= 0 else None,
        )
    except (RuntimeError, ValueError) as error:
        first = (str(error).splitlines() or [""])[0].rstrip(".")
        raise UserError(
            f"--distributed found no other processes ({first}); start it under Slurm or "
            "Kubernetes, or give --coordinator, --num_processes and --process_id."
        ) from error
    if not is_first():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 — until the end
    return is_first()


def is_first() -> bool:
    """Whether this process is the one that writes and speaks."""
    return jax.process_index() == 0


def first_then_others(make: Callable[[], Made]) -> Made:
    """What `make` gives, called by the first process, then by the others, which find what it left.

    Raises:
      UserError: `make` did, in this process or in the first.
    """
    if jax.process_count() == 1:
        return make()
    failed, made = False, None
    try:
        if is_first():
            made = make()
    except Exception:
        failed = True
        raise
    finally:
        _meet()  # devices wait half a minute for one another, and `make` may take hours
        failed = anywhere(failed)
    if failed:
        raise UserError("the first process has failed; what it printed says why.")
    return made if is_first() else make()


def _meet() -> None:
    """Returns when all processes have called it as often."""
    from orbax.checkpoint import multihost

    multihost.get_barrier_sync_fn()(
        key=f"ser_jax meeting {next(_MEETINGS)}", timeout_ms=LONGEST_WAIT_MS
    )


def anywhere(flag: bool) -> bool:
    """Whether any process says so; all must ask at the same point."""
    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(multihost_utils.process_allgather(np.array(flag)).any())


def fetch(tree: Any) -> Any:
    """The whole of every array, on the host of every process."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(tree, tiled=True)
