"""Which devices train what: the mesh, the replicas of one program, and several machines.

Axes: R replicas, G replicas of one program, B batch.
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
SHARE_OF_MEMORY = 0.8  # the rest is for what the compiler's estimate leaves out


@dataclasses.dataclass(frozen=True)
class Layout:
    """How R replicas lie on the devices.

    The replicas are cut into groups of G, one program a group; a group is shared out along the
    mesh's "replica" axis, and each replica's batch along "data".

    Attributes:
      mesh: AXES.
      n_replicas: R.
      at_once: G, which divides R and is a multiple of the "replica" axis.
      strategy: of STRATEGIES; how a device runs its own replicas of a group.
    """

    mesh: Mesh
    n_replicas: int
    at_once: int
    strategy: str

    @property
    def n_local(self) -> int:
        """Replicas of a group on one device."""
        return self.at_once // self.mesh.shape["replica"]

    @property
    def groups(self) -> list[slice]:
        """The replicas of each group."""
        return [slice(i, i + self.at_once) for i in range(0, self.n_replicas, self.at_once)]

    @property
    def each(self) -> NamedSharding:
        """Of arrays with a leading replica axis."""
        return NamedSharding(self.mesh, PartitionSpec("replica"))

    @property
    def rows(self) -> NamedSharding:
        """Of batches, GxB…"""
        return NamedSharding(self.mesh, PartitionSpec("replica", "data"))

    @property
    def orders(self) -> NamedSharding:
        """Of orders, GxSxB."""
        return NamedSharding(self.mesh, PartitionSpec("replica", None, "data"))

    @property
    def whole(self) -> NamedSharding:
        """Of what each device holds all of."""
        return NamedSharding(self.mesh, PartitionSpec())

    def describe(self) -> str:
        """For the console; empty for one replica on one device."""
        if self.n_replicas == 1 and self.mesh.size == 1:
            return ""
        cut = f", {self.at_once} at once" if self.at_once < self.n_replicas else ""
        replica, data = self.mesh.shape["replica"], self.mesh.shape["data"]
        shared = f" × {data} for each batch" if data > 1 else ""
        where = f", {replica} for replicas{shared}" if self.mesh.size > 1 else ""
        return (
            f"{self.n_replicas} replica{'s' * (self.n_replicas > 1)}{cut} (strategy "
            f"{self.strategy}) on {self.mesh.size} device{'s' * (self.mesh.size > 1)}{where}."
        )


def layout(config: ConfigDict, n_replicas: int) -> Layout:
    """The layout that the config asks for, as yet with all that memory may have to cut.

    Args:
      config: all of it; `replicas`, `devices` and the batch sizes count.
      n_replicas: R.

    Raises:
      UserError: no such strategy, or numbers that do not divide one another.
    """
    wanted, strategy, at_once = config.devices, config.replicas.strategy, config.replicas.at_once
    on_cpu = jax.default_backend() == "cpu"
    if strategy == "auto":
        # Measured (docs/benchmarks.md): on the CPU, replicas in one program gain nothing.
        strategy = "device" if on_cpu else "vmap"
    if strategy not in STRATEGIES:
        raise UserError(
            f"replicas.strategy={strategy!r} is unknown; use auto or one of "
            f"{', '.join(STRATEGIES)}."
        )
    # The CPU counts as one device unless more are asked for: they would be the same cores.
    there = jax.device_count()
    free = there if jax.process_count() > 1 or not on_cpu else 1
    replica = wanted.replica or math.gcd(n_replicas, max(1, free // (wanted.data or 1)))
    data = wanted.data or max(1, free // replica)
    if not wanted.data and jax.process_count() == 1:  # of several, each has to have a share
        sizes = math.gcd(config.train.batch_size, config.evaluate.batch_size)
        data = max(n for n in range(1, data + 1) if sizes % n == 0)
    if replica * data > there or (jax.process_count() > 1 and replica * data != there):
        raise UserError(
            f"devices.replica={replica} × devices.data={data} does not fit the {there} devices "
            "there are; change them, or set both to 0."
        )
    for key, size in (
        ("train.batch_size", config.train.batch_size),
        ("evaluate.batch_size", config.evaluate.batch_size),
    ):
        if size % data:
            raise UserError(
                f"{key}={size} is not divisible among {data} devices; make it a multiple, or set "
                "devices.data."
            )
    if n_replicas % replica:
        raise UserError(
            f"{n_replicas} replicas are not divisible among devices.replica={replica} groups of "
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
        axis_types=(AxisType.Auto,) * 2,  # Flax's convolutions know no other under vmap
    )
    return Layout(
        mesh, n_replicas, at_once or (replica if strategy == "device" else n_replicas), strategy
    )


def replicas_that_fit(layout: Layout, bytes_a_replica: int, free_bytes: int) -> int:
    """The most replicas a program whose working memory fits; at least one a device.

    Args:
      layout: its replicas and mesh.
      bytes_a_replica: that one replica's step takes beside its state.
      free_bytes: of one device.
    """
    n_rows = layout.mesh.shape["replica"]
    possible = [
        n for n in range(n_rows, layout.n_replicas + 1, n_rows) if layout.n_replicas % n == 0
    ]
    fit = [n for n in possible if n // n_rows * bytes_a_replica <= SHARE_OF_MEMORY * free_bytes]
    return max(fit, default=n_rows)


def free_bytes() -> int:
    """Memory that is left on the first of this process's devices, or on the machine."""
    statistics = jax.local_devices()[0].memory_stats()
    if statistics and "bytes_limit" in statistics:
        return statistics["bytes_limit"] - statistics["bytes_in_use"]
    free = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"
    return os.sysconf(free) * os.sysconf("SC_PAGE_SIZE")
