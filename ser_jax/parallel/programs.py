"""Functions of one replica → compiled programs of a group: vmap, shard_map, jit, donation.

A step knows one replica and no device; here it gets its leading axis and its shardings. States,
batches and sums are pytrees of whatever kind the function takes.
Axes: G replicas of one program, S steps, B batch.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import jax

from ser_jax.parallel.mesh import Layout
from ser_jax.parallel.placement import put_numbers

PyTree: TypeAlias = Any


def each(function: Callable[..., Any], layout: Layout) -> Callable[..., Any]:
    """A function of one replica → of a group, as the layout's strategy has it."""

    @functools.wraps(function)  # a program is called after what it does
    def local(*arguments):
        if layout.n_local == 1:
            alone = function(*jax.tree.map(lambda leaf: leaf[0], arguments))
            return jax.tree.map(lambda leaf: leaf[None], alone)
        if layout.strategy == "map":
            return jax.lax.map(lambda members: function(*members), arguments)
        return jax.vmap(function)(*arguments)

    if layout.mesh.shape["replica"] == 1:
        return local
    spec = layout.each.spec
    # By hand along "replica", where nothing crosses devices; the compiler shares out "data".
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
    """(group, pool, order_GxSxB, start, stop) → group, after the steps start … stop − 1.

    `take` makes a batch of the resident pool and the numbers of its rows. One program serves any
    number of steps, so the host may look in as often as it likes. The state is donated: the
    argument is gone after the call.
    """
    step_of_group = each(step, layout)

    def one(group, pool, order_GxSxB, i):
        row_GxB = jax.lax.dynamic_index_in_dim(order_GxSxB, i, axis=1, keepdims=False)
        return step_of_group(group, take(pool, row_GxB))

    @functools.partial(jax.jit, donate_argnums=0, out_shardings=layout.each)
    def train_steps(group, pool, order_GxSxB, start, stop):
        return jax.lax.fori_loop(
            start, stop, lambda i, group: one(group, pool, order_GxSxB, i), group
        )

    # The step's number stays on the devices and counts itself, so that a step moves nothing.
    @functools.partial(jax.jit, donate_argnums=(0, 3), out_shardings=(layout.each, layout.whole))
    def step_and_count(group, pool, order_GxSxB, i):
        return one(group, pool, order_GxSxB, i), i + 1

    def loop_on_device(group, pool, order_GxSxB, start, stop):
        return train_steps(group, pool, order_GxSxB, *put_numbers((start, stop), layout))

    def loop_on_host(group, pool, order_GxSxB, start, stop):
        (i,) = put_numbers((start,), layout)
        for _ in range(start, stop):
            group, i = step_and_count(group, pool, order_GxSxB, i)
        return group

    # Inside a loop XLA:CPU convolves some fifty times slower (cnn2d, batch 8, jax 0.10.2: 8 s a
    # step against 0.15), and there the host costs nothing that could be noticed.
    return loop_on_host if jax.default_backend() == "cpu" else loop_on_device


def compile_step(
    step: Callable[[PyTree, PyTree], PyTree], layout: Layout
) -> Callable[[PyTree, PyTree], PyTree]:
    """(group, batch) → group, for batches that come one by one; the state is donated."""
    return jax.jit(each(step, layout), donate_argnums=0, out_shardings=layout.each)


def compile_end_of_epoch(
    end_of_epoch: Callable[[PyTree, PyTree, jax.Array], PyTree], layout: Layout
) -> Callable[[PyTree, PyTree, int], PyTree]:
    """(group, validation sums, epoch) → group; the state is donated."""

    @functools.partial(jax.jit, donate_argnums=0, out_shardings=layout.each)
    def end(group, sums, epoch):
        return each(lambda state, sums: end_of_epoch(state, sums, epoch), layout)(group, sums)

    return lambda group, sums, epoch: end(group, sums, *put_numbers((epoch,), layout))


def compile_evaluation(evaluate: Callable[..., PyTree], layout: Layout) -> Callable[..., PyTree]:
    """A function of one replica's arrays → the same of a group's."""
    return jax.jit(each(evaluate, layout), out_shardings=layout.each)


def bytes_of_step(step: Callable[[PyTree, PyTree], PyTree], state: PyTree, batch: PyTree) -> int:
    """Working memory of one replica's step beside its arguments, as the compiler estimates it."""
    analysis = jax.jit(step).lower(state, batch).compile().memory_analysis()
    return analysis.temp_size_in_bytes + analysis.output_size_in_bytes
