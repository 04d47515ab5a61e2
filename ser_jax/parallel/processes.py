"""Several processes on one machine or many: start, first process, barriers, arrays of all."""

import itertools
import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from ser_jax.common.errors import UserError

LONGEST_WAIT_MS = 7 * 24 * 3_600_000  # for a process that prepares records
_BARRIERS = itertools.count()  # each barrier of a program needs a name of its own

Result = TypeVar("Result")


def initialise(coordinator: str, n_processes: int, process: int) -> bool:
    """Connect this process to the others; call it before anything uses a device.

    Without a coordinator JAX reads it from Slurm, Kubernetes, Open MPI or the TPU's metadata. From
    here on only the first process writes to stdout.

    Args:
      coordinator: HOST:PORT of the first process, or "".
      n_processes, process: −1 without a coordinator.

    Returns:
      Whether this process is the first.

    Raises:
      UserError: the processes cannot connect.
    """
    # Asynchronous dispatch on CPUs may start programs in another order in each process, which then
    # wait for each other in different collectives. Accelerators queue their programs.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    try:
        jax.distributed.initialize(
            coordinator or None,
            n_processes if n_processes >= 0 else None,
            process if process >= 0 else None,
        )
    except (RuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or [""])[0].rstrip(".")
        raise UserError(
            f"--distributed found no other processes ({reason}); start it under Slurm or "
            "Kubernetes, or give --coordinator, --num_processes and --process_id."
        ) from error
    if not is_first():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 — until the end
    return is_first()


def is_first() -> bool:
    """Whether this process is the one that writes files and prints."""
    return jax.process_index() == 0


def first_then_others(make: Callable[[], Result]) -> Result:
    """Call `make` in the first process, then in the others, which find what the first has made.

    Raises:
      UserError: `make` failed in this process or in the first.
    """
    if jax.process_count() == 1:
        return make()
    failed, result = False, None
    try:
        if is_first():
            result = make()
    except Exception:
        failed = True
        raise
    finally:
        _barrier()  # collectives time out after half a minute, and `make` may take hours
        failed = any_process(failed)
    if failed:
        raise UserError("the first process failed; its output says why.")
    return result if is_first() else make()


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any process; all processes must call it at the same point."""
    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(multihost_utils.process_allgather(np.array(flag)).any())


def fetch(tree: Any) -> Any:
    """Fetch arrays to the host, in full in every process."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(tree, tiled=True)


def default_sharding() -> jax.sharding.Sharding:
    """Return the first device, or with several processes all devices, each with a full copy."""
    if jax.process_count() == 1:
        return jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return NamedSharding(jax.make_mesh((jax.device_count(),), ("all",)), PartitionSpec())


def _barrier() -> None:
    """Wait until every process has reached this call."""
    from orbax.checkpoint import multihost

    multihost.get_barrier_sync_fn()(
        key=f"ser_jax barrier {next(_BARRIERS)}", timeout_ms=LONGEST_WAIT_MS
    )
