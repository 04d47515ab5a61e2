"""How steps meet devices: placement, compilation, donation, and the axis of the replicas.

A step knows one replica and no device; here it gets its leading axis and its shardings.
Axes: R replicas, G replicas of one program, S steps, B batch, N examples, T frames, F columns,
C classes.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ser_jax.parallel.mesh import Layout
from ser_jax.train import step as train_step
from ser_jax.train.loader import take
from ser_jax.train.state import Sums, TrainState
from ser_jax.train.step import Batch


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


def busy_only(
    step: Callable[[TrainState, Batch], TrainState],
) -> Callable[[TrainState, Batch], TrainState]:
    """A step that changes nothing for a replica that has stopped, failed or run out of batches."""

    @functools.wraps(step)
    def guarded(state: TrainState, batch: Batch) -> TrainState:
        busy = jnp.any(batch.mask_B) & ~state.stopped & (state.sums.bad_step < 0)
        return jax.tree.map(lambda new, old: jnp.where(busy, new, old), step(state, batch), state)

    return guarded


def compile_steps(
    step: Callable[[TrainState, Batch], TrainState], layout: Layout
) -> Callable[..., TrainState]:
    """(group, pool, order_GxSxB, start, stop) → group, after the steps start … stop − 1.

    One program for any number of steps, so the host may look in as often as it likes. The state is
    donated: the argument is gone after the call.
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
    step: Callable[[TrainState, Batch], TrainState], layout: Layout
) -> Callable[[TrainState, Batch], TrainState]:
    """(group, batch) → group, for batches that come one by one; the state is donated."""
    return jax.jit(each(step, layout), donate_argnums=0, out_shardings=layout.each)


def compile_end_of_epoch(
    end_of_epoch: Callable[[TrainState, Sums, jax.Array], TrainState], layout: Layout
) -> Callable[[TrainState, Sums, int], TrainState]:
    """(group, validation sums, epoch) → group; the state is donated."""

    @functools.partial(jax.jit, donate_argnums=0, out_shardings=layout.each)
    def end(group, sums, epoch):
        return each(lambda state, sums: end_of_epoch(state, sums, epoch), layout)(group, sums)

    return lambda group, sums, epoch: end(group, sums, *put_numbers((epoch,), layout))


def compile_evaluation(
    logits: Callable[..., jax.Array], layout: Layout
) -> Callable[..., tuple[Sums, jax.Array]]:
    """(params, batch_stats, normalisation, sums, batch) → (sums, probability_GxBxC)."""

    def evaluate(params, batch_stats, normalisation, sums: Sums, batch: Batch):
        logits_BxC = logits(params, batch_stats, normalisation, batch)
        return train_step.evaluation_sums(sums, logits_BxC, batch), jax.nn.softmax(logits_BxC)

    return jax.jit(each(evaluate, layout), out_shardings=layout.each)


def bytes_of_step(
    step: Callable[[TrainState, Batch], TrainState], state: TrainState, batch: Batch
) -> int:
    """Working memory of one replica's step beside its arguments, as the compiler estimates it."""
    analysis = jax.jit(step).lower(state, batch).compile().memory_analysis()
    return analysis.temp_size_in_bytes + analysis.output_size_in_bytes


def padded(orders: Sequence[np.ndarray]) -> np.ndarray:
    """Orders of several replicas, SxB each → GxSxB; the shorter ones end in empty batches."""
    n_steps = max(map(len, orders))
    return np.stack(
        [np.pad(o, ((0, n_steps - len(o)), (0, 0)), constant_values=-1) for o in orders]
    )
