"""The device mesh, and how replicas and batches are laid out on it.

Replicas come first: they need nothing from each other, whereas devices that share a batch exchange
gradients and BatchNorm's sums in every step, and a small batch becomes smaller still.

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
    mesh's "replica" axis, and the batch of each replica along "data". Where R is no multiple of G,
    copies of the last replica fill the last group; nothing of them is kept.
    """

    mesh: Mesh  # with the axes AXES
    n_replicas: int  # R
    at_once: int  # G, a multiple of the "replica" axis
    strategy: str  # how a device runs its replicas of a group, one of STRATEGIES

    @property
    def n_local(self) -> int:
        """Replicas of a group per device."""
        return self.at_once // self.mesh.shape["replica"]

    @property
    def groups(self) -> list[list[int]]:
        """The numbers of each group's replicas."""
        last = self.n_replicas - 1
        return [
            [min(first + i, last) for i in range(self.at_once)]
            for first in range(0, self.n_replicas, self.at_once)
        ]

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
        n_used, n_available = self.mesh.size, max(self.mesh.size, _n_default_devices())
        used = f"{n_used} of {n_available}" if n_used < n_available else f"{n_used}"
        per_batch = f" × {data} for each batch" if data > 1 else ""
        axes = f", {replica} for replicas{per_batch}" if n_used > 1 else ""
        return (
            f"{self.n_replicas} replica{'s' * (self.n_replicas > 1)}{at_once} (strategy "
            f"{self.strategy}) on {used} device{'s' * (n_available > 1)}{axes}."
        )


def make_layout(config: ConfigDict, n_replicas: int) -> Layout:
    """Return the layout that the config describes, before memory limits the group size.

    Raises:
      UserError: an unknown strategy, or numbers that do not fit one another.
    """
    strategy, at_once = config.replicas.strategy, config.replicas.at_once
    if strategy == "auto":
        # Measured on a CPU only (docs/benchmarks.md). On a GPU, vmap over kernels makes every
        # convolution a grouped one, for which XLA leaves cuDNN's backward convolutions.
        strategy = "device"
    if strategy not in STRATEGIES:
        raise UserError(
            f"replicas.strategy={strategy!r} is unknown; use auto or one of "
            f"{', '.join(STRATEGIES)}."
        )
    replica, data = _mesh_shape(config, n_replicas)
    n_devices, n_processes = jax.device_count(), jax.process_count()
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
    if config.devices.replica > n_replicas:
        raise UserError(
            f"devices.replica={replica} groups of devices are more than the replicas, "
            f"{n_replicas}; raise replicas.seeds, or set devices.replica to 0."
        )
    if at_once and (strategy != "vmap" or at_once < replica):
        raise UserError(
            f"replicas.at_once={at_once} must be at least the number of groups of devices, "
            f"{replica}, with replicas.strategy=vmap; 0 is automatic."
        )
    n_local = 1 if strategy == "device" else -(-n_replicas // replica)
    if at_once:
        n_local = _equal_share(n_local, at_once // replica)
    if strategy == "vmap" and n_local > 1 and data > 1:
        raise UserError(
            f"replicas.strategy=vmap and devices.data={data} do not go together: every device "
            "would gather the activations of whole batches; use device, or set devices.data to 1."
        )
    mesh = jax.make_mesh(
        (replica, data),
        AXES,
        devices=jax.devices()[: replica * data],
        axis_types=(AxisType.Auto,) * 2,  # the only type that Flax's convolutions accept under vmap
    )
    return Layout(mesh, n_replicas, n_local * replica, strategy)


def replicas_that_fit(layout: Layout, bytes_per_replica: int, free_bytes: int) -> int:
    """Return the most replicas per program that fit in memory, but at least one per device.

    Fewer, if the number of programs remains the same. `bytes_per_replica` is the working memory of
    one replica's step, beside its state.
    """
    n_rows = layout.mesh.shape["replica"]
    n_fitting = max(1, int(USABLE_MEMORY * free_bytes / bytes_per_replica))
    return n_rows * _equal_share(-(-layout.n_replicas // n_rows), n_fitting)


def free_bytes() -> int:
    """Return the free memory of this process's first device, or of the machine."""
    statistics = jax.local_devices()[0].memory_stats()
    if statistics and "bytes_limit" in statistics:
        return statistics["bytes_limit"] - statistics["bytes_in_use"]
    pages = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"
    return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")


def _mesh_shape(config: ConfigDict, n_replicas: int) -> tuple[int, int]:
    """Return the sizes of the mesh's axes, chosen where the config has 0.

    Replicas come first: as many devices as finish them in the fewest rounds, one on each. What is
    left multiplies the devices of each batch, if both batch sizes allow.
    """
    devices, n_devices = config.devices, _n_default_devices()
    everything_used = jax.process_count() > 1  # every process must take part
    n_rows = max(1, n_devices // (devices.data or 1))
    replica = devices.replica or _equal_share(n_replicas, n_rows)
    while everything_used and not devices.replica and n_rows % replica:
        replica += 1
    data = devices.data or max(1, n_devices // replica)
    if not devices.data and not everything_used:
        sizes = math.gcd(config.train.batch_size, config.evaluate.batch_size)
        data = max(n for n in range(1, data + 1) if sizes % n == 0)
    return replica, data


def _n_default_devices() -> int:
    """Return how many devices to use unless the config asks for more.

    A CPU counts as one device: several would share its cores.
    """
    is_one_cpu = jax.default_backend() == "cpu" and jax.process_count() == 1
    return 1 if is_one_cpu else jax.device_count()


def _equal_share(total: int, limit: int) -> int:
    """Return the size of equal shares of a total, as few as a limit to their size allows."""
    n_shares = -(-total // limit)
    return -(-total // n_shares)
