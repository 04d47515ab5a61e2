"""Placement of replicas' pytrees on the devices: stack into groups, join for a checkpoint, split.

Axes: R replicas, G replicas of one program.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ser_jax.parallel import processes
from ser_jax.parallel.mesh import Layout


def place(states: Sequence[Any], layout: Layout) -> list[Any]:
    """Stack one tree per replica into one tree per group, on the devices."""
    return [
        jax.tree.map(lambda *leaves: _stack(leaves, layout), *(states[r] for r in group))
        for group in layout.groups
    ]


def put_number(number: int, layout: Layout) -> jax.Array:
    """Put a number on every device; a Python number would be transferred at each call.

    Device by device: one device_put to all of them would synchronise with the other processes.
    """
    sharding = layout.replicated
    copies = [jax.device_put(np.int32(number), d) for d in sharding.addressable_devices]
    return jax.make_array_from_single_device_arrays((), sharding, copies)


def fetch(groups: Sequence[Any], layout: Layout) -> Any:
    """Fetch groups to the host, as one tree with R entries."""
    return jax.tree.map(
        lambda *leaves: np.concatenate(leaves)[: layout.n_replicas], *map(processes.fetch, groups)
    )


def join(groups: Sequence[Any], layout: Layout) -> Any:
    """Join groups into one tree with all R replicas, which is independent of the layout."""
    return _concatenation(layout.replicated, layout.n_replicas)(list(groups))


def joined_shape(group: Any, layout: Layout) -> Any:
    """Return the jax.ShapeDtypeStructs of `join` for groups like this one."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            (layout.n_replicas, *leaf.shape[1:]), leaf.dtype, sharding=layout.replicated
        ),
        group,
    )


def split(tree: Any, layout: Layout) -> list[Any]:
    """Split a tree with all R replicas, as returned by `join`, into groups on their devices."""
    part = _selection(layout.replica_sharding)
    return [part(tree, np.array(group)) for group in layout.groups]


def _stack(leaves: Sequence[jax.Array], layout: Layout) -> jax.Array:
    """Stack on the host: nothing to compile, and no agreement between processes needed."""
    if jnp.issubdtype(leaves[0].dtype, jax.dtypes.prng_key):
        data = _stack([jax.random.key_data(leaf) for leaf in leaves], layout)
        return jax.jit(jax.random.wrap_key_data, out_shardings=layout.replica_sharding)(data)
    stacked = np.stack([np.asarray(leaf) for leaf in leaves])
    return jax.make_array_from_callback(
        stacked.shape, layout.replica_sharding, lambda index: stacked[index]
    )


@functools.cache  # every checkpoint joins; compile once
def _concatenation(sharding: jax.sharding.Sharding, n_replicas: int) -> Callable[[list[Any]], Any]:
    def concatenate(groups):
        return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[:n_replicas], *groups)

    return jax.jit(concatenate, out_shardings=sharding)


@functools.cache
def _selection(sharding: jax.sharding.Sharding) -> Callable[[Any, np.ndarray], Any]:
    def part(tree, replica_G):
        return jax.tree.map(lambda leaf: leaf[replica_G], tree)

    return jax.jit(part, out_shardings=sharding)
