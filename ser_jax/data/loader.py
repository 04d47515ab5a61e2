"""Batches on the devices: from resident examples, or streamed from the records.

Axes: G replicas of one program, S steps, B batch, U examples read at once, N examples, T frames,
F columns.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ser_jax.common.concurrency import map_ahead
from ser_jax.data.examples import Examples
from ser_jax.parallel.mesh import Layout

# How long the reading thread may hold the interpreter while the main thread wants to start a step.
# Python's default, 5 ms, is several steps of a small network.
SWITCH_SECONDS = 2e-4
# Streamed batches are read in blocks: the first is small, so that training starts soon, and each
# is twice as large as the one before, up to these limits.
FIRST_BLOCK, EXAMPLES_PER_BLOCK, BYTES_PER_BLOCK = 128, 4096, 2**26


class Batch(NamedTuple):
    """Examples as stored. Rows where mask_B is False are padding and do not count."""

    x_BxTxF: jax.Array
    n_frames_B: jax.Array
    label_B: jax.Array
    mask_B: jax.Array
    clip_B: jax.Array | None = None  # number of the clip, for targets that are not the labels


class ResidentExamples(NamedTuple):
    """All examples, a full copy on each device."""

    x_NxTxF: jax.Array
    n_frames_N: jax.Array
    label_N: jax.Array
    clip_N: jax.Array


class BatchLoader:
    """Loads batches onto the devices, from memory if the examples fit, else from disk.

    Several processes always stream, and each reads only what its own devices need.

    Attributes:
      resident: the resident examples, or None if they are streamed.
    """

    def __init__(self, examples: Examples, layout: Layout):
        self._examples, self._layout = examples, layout
        self.resident: ResidentExamples | None = None
        if examples.x_NxTxF is not None:
            on_host = ResidentExamples(
                examples.x_NxTxF, examples.n_frames_N, examples.label_N, examples.clip_N
            )
            self.resident = jax.device_put(on_host, layout.replicated)
        else:
            sys.setswitchinterval(SWITCH_SECONDS)
        self._take = jax.jit(take, out_shardings=layout.batch_sharding)

    def batches(self, order_GxSxB: np.ndarray, first: int = 0) -> Iterator[Batch]:
        """Yield the batches of an order from step `first` on; −1 stands for a padding row."""
        orders = [order_GxSxB[:, step] for step in range(first, order_GxSxB.shape[1])]
        if self.resident is None:
            for batches in map_ahead(self._read, self._blocks(orders), ahead=3):
                yield from batches
        else:
            for row_GxB in jax.device_put(orders, self._layout.batch_sharding):
                yield self._take(self.resident, row_GxB)

    def _blocks(self, orders: list[np.ndarray]) -> list[list[np.ndarray]]:
        """Group the orders of batches into blocks that are read at once."""
        limit = max(1, min(EXAMPLES_PER_BLOCK, BYTES_PER_BLOCK // self._examples.bytes_per_example))
        blocks, start, n_examples = [], 0, min(FIRST_BLOCK, limit)
        while start < len(orders):
            n = max(1, n_examples // orders[start].size)
            blocks.append(orders[start : start + n])
            start, n_examples = start + n, min(2 * n_examples, limit)
        return blocks

    def _read(self, orders: Sequence[np.ndarray]) -> list[Batch]:
        """Read this process's share of several batches in one pass.

        Opening a file costs as much as reading some hundred records.
        """
        sharding = self._layout.batch_sharding
        shares = sharding.addressable_devices_indices_map(orders[0].shape).values()
        own_rows = [row_GxB[index].ravel() for row_GxB in orders for index in shares]
        example_U = np.unique(np.maximum(np.concatenate(own_rows), 0))
        x_UxTxF = self._examples.batch(example_U)
        return [self._batch(row_GxB, example_U, x_UxTxF) for row_GxB in orders]

    def _batch(self, row_GxB: np.ndarray, example_U: np.ndarray, x_UxTxF: np.ndarray) -> Batch:
        # device_put would synchronise with the other processes, and from the reading thread.
        def shard(read: Callable[[np.ndarray], np.ndarray], *shape: int) -> jax.Array:
            return jax.make_array_from_callback(
                (*row_GxB.shape, *shape),
                self._layout.batch_sharding,
                lambda index: read(row_GxB[index[:2]]),
            )

        def features(row_GxB: np.ndarray) -> np.ndarray:
            return x_UxTxF[np.searchsorted(example_U, np.maximum(row_GxB, 0))]

        return Batch(
            shard(features, *x_UxTxF.shape[1:]),
            shard(lambda row_GxB: self._examples.n_frames_N[row_GxB]),
            shard(lambda row_GxB: self._examples.label_N[row_GxB]),
            shard(lambda row_GxB: row_GxB >= 0),
            shard(lambda row_GxB: self._examples.clip_N[row_GxB]),
        )


def take(resident: ResidentExamples, row_GxB: jax.Array) -> Batch:
    """Gather a batch by row number; −1 stands for a padding row."""
    mask_GxB = row_GxB >= 0
    row_GxB = jnp.maximum(row_GxB, 0)
    return Batch(
        resident.x_NxTxF[row_GxB],
        resident.n_frames_N[row_GxB],
        resident.label_N[row_GxB],
        mask_GxB,
        resident.clip_N[row_GxB],
    )
