"""How steps meet devices: placement, compilation, donation and the loop over steps.

What replicas and meshes will need is decided here alone; a step knows of neither.
"""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ser_jax import input_pipeline, train_step
from ser_jax.train_state import Sums, TrainState
from ser_jax.train_step import Batch


class Pool(NamedTuple):
    """All examples, resident on the device."""

    x_NxTxF: jax.Array
    n_frames_N: jax.Array
    label_N: jax.Array


class Feed:
    """Examples on the device: all at once where they fit in memory, else batch by batch.

    Attributes:
      pool: the resident examples, or None.
    """

    def __init__(self, examples: input_pipeline.Examples):
        self._examples = examples
        self.pool: Pool | None = None
        if examples.x_NxTxF is not None:
            self.pool = _to_device(Pool(examples.x_NxTxF, examples.n_frames_N, examples.label_N))

    def batches(self, order_SxB: np.ndarray, first: int = 0) -> Iterator[Batch]:
        """Batches from step `first` of an order on; −1 stands for a row that only fills."""
        if self.pool is None:
            for batch in input_pipeline.stream(self._examples, order_SxB, first):
                yield _to_device(Batch(*batch))
        else:
            for row_B in order_SxB[first:]:
                yield _take(self.pool, row_B)


def _to_device(tree):
    return jax.tree.map(lambda x: jax.device_put(np.asarray(x)), tree)


@jax.jit
def _take(pool: Pool, row_B: jax.Array) -> Batch:
    mask_B = row_B >= 0
    row_B = jnp.maximum(row_B, 0)
    return Batch(pool.x_NxTxF[row_B], pool.n_frames_N[row_B], pool.label_N[row_B], mask_B)


def compile_steps(step: Callable[[TrainState, Batch], TrainState]) -> Callable:
    """(state, pool, order_SxB, start, stop) → state, after the steps start … stop − 1.

    One program for any number of steps, so the host may look in as often as it likes. The state is
    donated: the argument is gone after the call.
    """

    def one(state, pool, order_SxB, i):
        return step(state, _take(pool, order_SxB[i]))

    @functools.partial(jax.jit, donate_argnums=0)
    def loop_on_device(state, pool, order_SxB, start, stop):
        return jax.lax.fori_loop(
            start, stop, lambda i, state: one(state, pool, order_SxB, i), state
        )

    alone = jax.jit(one, donate_argnums=0)

    def loop_on_host(state, pool, order_SxB, start, stop):
        for i in range(start, stop):
            state = alone(state, pool, order_SxB, i)
        return state

    # Inside a loop XLA:CPU convolves some fifty times slower (cnn2d, batch 8, jax 0.10.2: 8 s a
    # step against 0.15), and there the host costs nothing that could be noticed.
    return loop_on_host if jax.default_backend() == "cpu" else loop_on_device


def compile_step(step: Callable[[TrainState, Batch], TrainState]) -> Callable:
    """(state, batch) → state, for batches that come one by one; the state is donated."""
    return jax.jit(step, donate_argnums=0)


def compile_evaluation(logits: Callable[..., jax.Array]) -> Callable:
    """(params, batch_stats, normalisation, sums, batch) → (sums, probability_BxC)."""

    @jax.jit
    def evaluate(params, batch_stats, normalisation, sums: Sums, batch: Batch):
        logits_BxC = logits(params, batch_stats, normalisation, batch)
        return train_step.evaluation_sums(sums, logits_BxC, batch), jax.nn.softmax(logits_BxC)

    return evaluate
