"""Compiled programs for a group of replicas: vmap, shard_map, jit and donation.

Steps are written for one replica and no particular device; here they get the leading replica axis
and their shardings. States, batches and sums are pytrees of any kind.
Axes: G replicas of one program, S steps, B batch.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import jax

from ser_jax.parallel.mesh import Layout
from ser_jax.parallel.placement import put_number

PyTree: TypeAlias = Any


def over_replicas(function: Callable[..., Any], layout: Layout) -> Callable[..., Any]:
    """Turn a function of one replica into one of a group, by the layout's strategy."""

    @functools.wraps(function)  # a compiled program has the function's name
    def local(*arguments):
        if layout.n_local == 1:
            result = function(*jax.tree.map(lambda leaf: leaf[0], arguments))
            return jax.tree.map(lambda leaf: leaf[None], result)
        if layout.strategy == "map":
            return jax.lax.map(lambda replica: function(*replica), arguments)
        return jax.vmap(function)(*arguments)

    if layout.mesh.shape["replica"] == 1:
        return local
    spec = layout.replica_sharding.spec
    # Manual along "replica", where nothing crosses devices; the compiler partitions "data".
    return jax.shard_map(
        local,
        mesh=layout.mesh,
        in_specs=spec,
        out_specs=spec,
        axis_names={"replica"},
        check_vma=False,
    )


def compile_steps(
    step: Callable[[PyTree, PyTree], PyTree],
    take: Callable[[PyTree, jax.Array], PyTree],
    layout: Layout,
) -> Callable[..., PyTree]:
    """Return (group, resident, order_GxSxB, start, stop) → group after steps start … stop − 1.

    `take` gathers a batch from the resident examples by row number. One program serves any number
    of steps, so the host may return as often as it likes. The state is donated: the argument is
    deleted by the call.
    """
    group_step = over_replicas(step, layout)

    def step_at(group, resident, order_GxSxB, i):
        row_GxB = jax.lax.dynamic_index_in_dim(order_GxSxB, i, axis=1, keepdims=False)
        return group_step(group, take(resident, row_GxB))

    @functools.partial(jax.jit, donate_argnums=0, out_shardings=layout.replica_sharding)
    def train_steps(group, resident, order_GxSxB, start, stop):
        return jax.lax.fori_loop(
            start, stop, lambda i, group: step_at(group, resident, order_GxSxB, i), group
        )

    # The step number stays on the devices and is incremented there, so a step transfers nothing.
    @functools.partial(
        jax.jit,
        donate_argnums=(0, 3),
        out_shardings=(layout.replica_sharding, layout.replicated),
    )
    def step_and_count(group, resident, order_GxSxB, i):
        return step_at(group, resident, order_GxSxB, i), i + 1

    def loop_on_device(group, resident, order_GxSxB, start, stop):
        limits = put_number(start, layout), put_number(stop, layout)
        return train_steps(group, resident, order_GxSxB, *limits)

    def loop_on_host(group, resident, order_GxSxB, start, stop):
        i = put_number(start, layout)
        for _ in range(start, stop):
            group, i = step_and_count(group, resident, order_GxSxB, i)
        return group

    def steps(*arguments):
        # Inside a loop XLA:CPU convolves some fifty times slower (cnn2d, batch 8, jax 0.10.2: 8 s
        # per step instead of 0.15 s), and on a CPU the host's share of a step is negligible.
        loop = loop_on_host if jax.default_backend() == "cpu" else loop_on_device
        return loop(*arguments)

    return steps


def compile_for_group(
    function: Callable[..., PyTree], layout: Layout, *, donate: bool = False
) -> Callable[..., PyTree]:
    """Compile a function of one replica's arrays for a group's; `donate` its first argument."""
    return jax.jit(
        over_replicas(function, layout),
        donate_argnums=(0,) if donate else (),
        out_shardings=layout.replica_sharding,
    )


def compile_end_of_epoch(
    end_of_epoch: Callable[[PyTree, PyTree, jax.Array], PyTree], layout: Layout
) -> Callable[[PyTree, PyTree, int], PyTree]:
    """Return (group, validation sums, epoch) → group; the state is donated."""

    @functools.partial(jax.jit, donate_argnums=0, out_shardings=layout.replica_sharding)
    def end(group, sums, epoch):
        at_epoch = functools.partial(end_of_epoch, epoch=epoch)
        return over_replicas(at_epoch, layout)(group, sums)

    return lambda group, sums, epoch: end(group, sums, put_number(epoch, layout))


def step_bytes(step: Callable[[PyTree, PyTree], PyTree], state: PyTree, batch: PyTree) -> int:
    """Return the compiler's estimate of the memory of one replica's step beside its inputs."""
    analysis = jax.jit(step).lower(state, batch).compile().memory_analysis()
    return analysis.temp_size_in_bytes + analysis.output_size_in_bytes
