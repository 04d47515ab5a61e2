"""The device mesh, and how replicas and batches are laid out on it.

Axes: R replicas, G replicas of one program, S steps, B batch.
"""

import dataclasses
import math
import os

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from ser_jax.common.errors import UserError

AXES = ("replica", "data")
STRATEGIES = ("vmap", "map", "device")
USABLE_MEMORY = 0.8  # fraction of the free memory; the compiler's estimate is not complete


@dataclasses.dataclass(frozen=True)
class Layout:
    """How R replicas are distributed over the devices.

    The replicas are cut into groups of G, each run by one program. A group is sharded along the
    mesh's "replica" axis, and the batch of each replica along "data".
    """

    mesh: Mesh  # with the axes AXES
    n_replicas: int  # R
    at_once: int  # G, a divisor of R and a multiple of the "replica" axis
    strategy: str  # how a device runs its replicas of a group, one of STRATEGIES

    @property
    def n_local(self) -> int:
        """Replicas of a group per device."""
        return self.at_once // self.mesh.shape["replica"]

    @property
    def groups(self) -> list[slice]:
        """The replicas of each group."""
        return [slice(i, i + self.at_once) for i in range(0, self.n_replicas, self.at_once)]

    @property
    def replica_sharding(self) -> NamedSharding:
        """For arrays with a leading replica axis."""
        return NamedSharding(self.mesh, PartitionSpec("replica"))

    @property
    def batch_sharding(self) -> NamedSharding:
        """For batches, GxB…"""
        return NamedSharding(self.mesh, PartitionSpec("replica", "data"))

    @property
    def order_sharding(self) -> NamedSharding:
        """For orders, GxSxB."""
        return NamedSharding(self.mesh, PartitionSpec("replica", None, "data"))

    @property
    def replicated(self) -> NamedSharding:
        """For arrays that every device holds in full."""
        return NamedSharding(self.mesh, PartitionSpec())

    def describe(self) -> str:
        """Return a sentence for the console; "" for one replica on one device."""
        if self.n_replicas == 1 and self.mesh.size == 1:
            return ""
        at_once = f", {self.at_once} at once" if self.at_once < self.n_replicas else ""
        replica, data = self.mesh.shape["replica"], self.mesh.shape["data"]
        per_batch = f" × {data} for each batch" if data > 1 else ""
        axes = f", {replica} for replicas{per_batch}" if self.mesh.size > 1 else ""
        return (
            f"{self.n_replicas} replica{'s' * (self.n_replicas > 1)}{at_once} (strategy "
            f"{self.strategy}) on {self.mesh.size} device{'s' * (self.mesh.size > 1)}{axes}."
        )


def make_layout(config: ConfigDict, n_replicas: int) -> Layout:
    """Return the layout that the config describes, before memory limits the group size.

    Raises:
      UserError: an unknown strategy, or numbers that do not divide one another.
    """
    devices, strategy, at_once = config.devices, config.replicas.strategy, config.replicas.at_once
    on_cpu = jax.default_backend() == "cpu"
    if strategy == "auto":
        # Measured (docs/benchmarks.md): on a CPU, running replicas in one program gains nothing.
        strategy = "device" if on_cpu else "vmap"
    if strategy not in STRATEGIES:
        raise UserError(
            f"replicas.strategy={strategy!r} is unknown; use auto or one of "
            f"{', '.join(STRATEGIES)}."
        )
    # A CPU counts as one device unless the config asks for more: they would share its cores.
    n_devices, n_processes = jax.device_count(), jax.process_count()
    n_default = n_devices if n_processes > 1 or not on_cpu else 1
    replica = devices.replica or math.gcd(n_replicas, max(1, n_default // (devices.data or 1)))
    data = devices.data or max(1, n_default // replica)
    if not devices.data and n_processes == 1:  # several processes must all take part
        sizes = math.gcd(config.train.batch_size, config.evaluate.batch_size)
        data = max(n for n in range(1, data + 1) if sizes % n == 0)
    if replica * data > n_devices or (n_processes > 1 and replica * data != n_devices):
        raise UserError(
            f"devices.replica={replica} × devices.data={data} does not fit the {n_devices} "
            "available devices; change them, or set both to 0."
        )
    for section in ("train", "evaluate"):
        size = config[section].batch_size
        if size % data:
            raise UserError(
                f"{section}.batch_size={size} is not divisible by {data} devices; make it a "
                "multiple, or set devices.data."
            )
    if n_replicas % replica:
        raise UserError(
            f"{n_replicas} replicas are not divisible by devices.replica={replica} groups of "
            "devices; change replicas.seeds, or set devices.replica to 0."
        )
    if at_once and (strategy != "vmap" or n_replicas % at_once or at_once % replica):
        raise UserError(
            f"replicas.at_once={at_once} must divide the {n_replicas} replicas and be a multiple "
            f"of the {replica} groups of devices, with replicas.strategy=vmap; 0 is automatic."
        )
    mesh = jax.make_mesh(
        (replica, data),
        AXES,
        devices=jax.devices()[: replica * data],
        axis_types=(AxisType.Auto,) * 2,  # the only type that Flax's convolutions accept under vmap
    )
    at_once = at_once or (replica if strategy == "device" else n_replicas)
    return Layout(mesh, n_replicas, at_once, strategy)


def replicas_that_fit(layout: Layout, bytes_per_replica: int, free_bytes: int) -> int:
    """Return the most replicas per program that fit in memory, but at least one per device.

    `bytes_per_replica` is the working memory of one replica's step, beside its state.
    """
    n_rows = layout.mesh.shape["replica"]
    candidates = [
        n for n in range(n_rows, layout.n_replicas + 1, n_rows) if layout.n_replicas % n == 0
    ]
    usable = USABLE_MEMORY * free_bytes
    return max((n for n in candidates if n // n_rows * bytes_per_replica <= usable), default=n_rows)


def free_bytes() -> int:
    """Return the free memory of this process's first device, or of the machine."""
    statistics = jax.local_devices()[0].memory_stats()
    if statistics and "bytes_limit" in statistics:
        return statistics["bytes_limit"] - statistics["bytes_in_use"]
    pages = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"
    return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")
