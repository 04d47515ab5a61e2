"""Where batches come from: examples that are resident on the devices, or streamed from the records.

Axes: G replicas of one program, S steps, B batch, U examples that are read at once, N examples,
T frames, F columns.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ser_jax.common.concurrency import map_ahead
from ser_jax.data import examples as data_examples
from ser_jax.parallel.mesh import Layout
from ser_jax.train.step import Batch

# How long the thread that reads may keep the interpreter from the one that has steps to start. By
# default 5 ms, several steps of a small network, and that each time one wants to start.
SWITCH_SECONDS = 2e-4
# Streamed batches are read some at a time: first so few that the first step starts soon, then twice
# as many each time, up to these limits.
FIRST_READ, EXAMPLES_A_READ, BYTES_A_READ = 128, 4096, 2**26


class ResidentExamples(NamedTuple):
    """All examples, resident on each device."""

    x_NxTxF: jax.Array
    n_frames_N: jax.Array
    label_N: jax.Array


class BatchLoader:
    """Examples on the devices: all at once where they fit in memory, else batch by batch.

    With several processes they come batch by batch, and each process reads its own share.

    Attributes:
      pool: the resident examples, or None.
    """

    def __init__(self, examples: data_examples.Examples, layout: Layout):
        self._examples, self._layout = examples, layout
        self.pool: ResidentExamples | None = None
        if examples.x_NxTxF is not None:
            pool = ResidentExamples(examples.x_NxTxF, examples.n_frames_N, examples.label_N)
            self.pool = jax.device_put(pool, layout.whole)
        else:
            sys.setswitchinterval(SWITCH_SECONDS)
        self._take = jax.jit(take, out_shardings=layout.rows)

    def batches(self, order_GxSxB: np.ndarray, first: int = 0) -> Iterator[Batch]:
        """Batches from step `first` of an order on; −1 stands for a row that only fills."""
        orders = [order_GxSxB[:, step] for step in range(first, order_GxSxB.shape[1])]
        if self.pool is None:
            for batches in map_ahead(self._read, self._blocks(orders), ahead=3):
                yield from batches
        else:
            for row_GxB in jax.device_put(orders, self._layout.rows):
                yield self._take(self.pool, row_GxB)

    def _blocks(self, orders: list[np.ndarray]) -> list[list[np.ndarray]]:
        """The orders of batches that are read at once."""
        most = max(1, min(EXAMPLES_A_READ, BYTES_A_READ // self._examples.bytes_per_example))
        blocks, start, at_once = [], 0, min(FIRST_READ, most)
        while start < len(orders):
            n = max(1, at_once // orders[start].size)
            blocks.append(orders[start : start + n])
            start, at_once = start + n, min(2 * at_once, most)
        return blocks

    def _read(self, orders: Sequence[np.ndarray]) -> list[Batch]:
        """Batches of which this process reads what its devices take, all in one go.

        A visit to a file costs as much as some hundred records.
        """
        shares = self._layout.rows.addressable_devices_indices_map(orders[0].shape).values()
        some = [row_GxB[index].ravel() for row_GxB in orders for index in shares]
        example_U = np.unique(np.maximum(np.concatenate(some), 0))
        x_UxTxF = self._examples.batch(example_U)
        return [self._batch(row_GxB, example_U, x_UxTxF) for row_GxB in orders]

    def _batch(self, row_GxB: np.ndarray, example_U: np.ndarray, x_UxTxF: np.ndarray) -> Batch:
        # Not device_put, which would ask the other processes, and that from a thread of its own.
        def share(read: Callable[[np.ndarray], np.ndarray], *rest: int) -> jax.Array:
            return jax.make_array_from_callback(
                (*row_GxB.shape, *rest),
                self._layout.rows,
                lambda index: read(row_GxB[index[:2]]),
            )

        def features(row_GxB: np.ndarray) -> np.ndarray:
            return x_UxTxF[np.searchsorted(example_U, np.maximum(row_GxB, 0))]

        return Batch(
            share(features, *x_UxTxF.shape[1:]),
            share(lambda row_GxB: self._examples.n_frames_N[row_GxB]),
            share(lambda row_GxB: self._examples.label_N[row_GxB]),
            share(lambda row_GxB: row_GxB >= 0),
        )


def take(pool: ResidentExamples, row_GxB: jax.Array) -> Batch:
    """The batch that is made of these rows; −1 stands for one that only fills."""
    mask_GxB = row_GxB >= 0
    row_GxB = jnp.maximum(row_GxB, 0)
    return Batch(pool.x_NxTxF[row_GxB], pool.n_frames_N[row_GxB], pool.label_N[row_GxB], mask_GxB)
