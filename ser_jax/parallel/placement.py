"""Trees of all replicas on the devices: stacked by group, joined for a checkpoint, cut again.

Axes: R replicas, G replicas of one program.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ser_jax.parallel.mesh import Layout


def place(states: Sequence[Any], layout: Layout) -> list[Any]:
    """One tree a replica → one stacked tree a group, on its devices."""
    return [
        jax.tree.map(lambda *leaves: _stack(leaves, layout), *states[group])
        for group in layout.groups
    ]


def _stack(leaves: Sequence[jax.Array], layout: Layout) -> jax.Array:
    """By way of the host, for there is nothing to compile and several processes agree."""
    if jnp.issubdtype(leaves[0].dtype, jax.dtypes.prng_key):
        data = _stack([jax.random.key_data(leaf) for leaf in leaves], layout)
        return jax.jit(jax.random.wrap_key_data, out_shardings=layout.each)(data)
    stacked = np.stack([np.asarray(leaf) for leaf in leaves])
    return jax.make_array_from_callback(stacked.shape, layout.each, lambda index: stacked[index])


def put_numbers(numbers: Sequence[int], layout: Layout) -> list[jax.Array]:
    """Each number on every device. Given to a program as it is, it would be moved unseen.

    Not by device_put to all at once, which would ask the other processes.
    """
    devices = layout.whole.addressable_devices
    return [
        jax.make_array_from_single_device_arrays(
            (), layout.whole, [jax.device_put(np.int32(number), device) for device in devices]
        )
        for number in numbers
    ]


def join(groups: Sequence[Any], layout: Layout) -> Any:
    """Groups → one tree with all R replicas, which hangs on no layout."""
    return _concatenation(layout.whole)(list(groups))


@functools.cache  # joined for every checkpoint, compiled once
def _concatenation(whole: jax.sharding.Sharding) -> Callable[[list[Any]], Any]:
    def concatenate(groups):
        return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *groups)

    return jax.jit(concatenate, out_shardings=whole)


def cut(tree: Any, layout: Layout) -> list[Any]:
    """One tree with all R replicas, as `join` gives it → groups, on their devices."""

    @functools.partial(jax.jit, out_shardings=layout.each)
    def part(tree, start):
        size = layout.at_once
        return jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, start, size), tree)

    return [part(tree, group.start) for group in layout.groups]


def shape_of(tree: Any, layout: Layout) -> Any:
    """What `join` gives for R replicas like this group, without computing it."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            (layout.n_replicas, *leaf.shape[1:]), leaf.dtype, sharding=layout.whole
        ),
        tree,
    )
