"""All replicas of a run: their states on the devices, and what is done to all of them at once.

Axes: R replicas, G replicas of one program, S steps, B batch.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ser_jax.parallel import mesh, placement, processes, programs
from ser_jax.parallel.mesh import Layout
from ser_jax.train import checkpoints, optimizer
from ser_jax.train import step as train_step
from ser_jax.train.experiment import Experiment
from ser_jax.train.loader import BatchLoader, take
from ser_jax.train.state import Sums, TrainState, Weights

SECONDS_A_CALL = 2.0  # the devices work that long before the host looks for Ctrl-C
STEPS_A_LOOK = 16  # likewise, where batches are streamed


class Trainer:
    """The replicas, in groups that the layout makes.

    A step of the crowd is a step of every replica that has a batch left and has not stopped.

    Attributes:
      layout: with no more replicas at once than memory holds.
      feed: the examples.
    """

    def __init__(self, task: Experiment, states: Sequence[TrainState]):
        config = task.config
        step = train_step.make_train_step(
            task.model, optimizer.make(config.optimizer.name), config.input.kind
        )
        layout = mesh.layout(config, len(states))
        self.feed = BatchLoader(task.examples, layout)  # before it is known what is left beside it
        self.layout = layout = _fitted(task, layout, step, states[0])
        if layout.n_replicas > 1:
            step = train_step.busy_only(step)
        self._steps = programs.compile_steps(step, take, layout)
        self._step = programs.compile_step(step, layout)
        self._end_of_epoch = programs.compile_end_of_epoch(
            train_step.make_end_of_epoch(
                optimizer.plateau(config.optimizer),
                config.train.monitor,
                config.train.stopping_patience,
                config.train.stopping_min_delta,
            ),
            layout,
        )
        self._groups = placement.place(states, layout)
        self._metadata = task.metadata()
        self._steps_a_call = 1  # then as many as fill SECONDS_A_CALL

    def restore(self, workdir: Path) -> int:
        """Takes up the last state that was saved; returns its step, or 0."""
        saved = checkpoints.load_last(workdir, placement.shape_of(self._groups[0], self.layout))
        if saved is None:
            return 0
        step, state = saved
        self._groups = placement.cut(state, self.layout)
        return step

    def save_last(self, workdir: Path, step: int) -> None:
        checkpoints.save_last(workdir, step, placement.join(self._groups, self.layout))

    def save_best(self, workdir: Path, epoch: int) -> None:
        saved = [(group.best, group.normalisation) for group in self._groups]
        checkpoints.save_best(workdir, epoch, *placement.join(saved, self.layout), self._metadata)

    def look(self, get: Callable[[TrainState], Any]) -> Any:
        """Some small part of the states, on the host: leaves with R entries."""
        parts = [processes.fetch(get(group)) for group in self._groups]
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)

    def weights(self) -> list[Weights]:
        """A group each."""
        return [Weights(g.params, g.batch_stats, g.normalisation) for g in self._groups]

    def advance(self, order_RxSxB: np.ndarray, first: int) -> Iterator[int]:
        """Trains from step `first` of an epoch to its end; yields now and then how many it did."""
        if self.feed.pool is None:
            return self._advance_streamed(order_RxSxB, first)
        return self._advance_resident(order_RxSxB, first)

    def end_epoch(self, val_sums: Sequence[Sums], epoch: int) -> None:
        """Best weights, plateau and stopping, by the validation sums of each group."""
        self._groups = [
            self._end_of_epoch(group, sums, epoch)
            for group, sums in zip(self._groups, val_sums, strict=True)
        ]

    def _advance_resident(self, order_RxSxB: np.ndarray, first: int) -> Iterator[int]:
        layout = self.layout
        orders = [jax.device_put(order_RxSxB[g], layout.orders) for g in layout.groups]
        step, n_steps = first, order_RxSxB.shape[1]
        while step < n_steps:
            n = min(self._steps_a_call, n_steps - step)
            begin = time.perf_counter()
            for i, order_GxSxB in enumerate(orders):
                self._groups[i] = self._steps(
                    self._groups[i], self.feed.pool, order_GxSxB, step, step + n
                )
            jax.block_until_ready(self._groups)
            seconds = time.perf_counter() - begin
            self._steps_a_call = max(1, int(n * SECONDS_A_CALL / seconds))
            step += n
            yield n

    def _advance_streamed(self, order_RxSxB: np.ndarray, first: int) -> Iterator[int]:
        feeds = [self.feed.batches(order_RxSxB[g], first) for g in self.layout.groups]
        n = 0
        for batches in zip(*feeds, strict=True):
            for i, batch in enumerate(batches):
                self._groups[i] = self._step(self._groups[i], batch)
            n += 1
            if n == STEPS_A_LOOK:
                yield n
                n = 0
        if n:
            yield n


def _fitted(task: Experiment, layout: Layout, step: Callable, state: TrainState) -> Layout:
    """The layout with no more replicas at once than memory holds."""
    by_memory = layout.strategy == "vmap" and not task.config.replicas.at_once
    if not by_memory or layout.at_once == layout.mesh.shape["replica"]:
        return layout
    examples, size = task.examples, task.config.train.batch_size
    batch = train_step.Batch(
        jax.ShapeDtypeStruct((size, examples.max_frames, examples.width), np.float32),
        *(jax.ShapeDtypeStruct((size,), kind) for kind in (np.int32, np.int32, bool)),
    )
    bytes_a_replica = programs.bytes_of_step(step, state, batch)
    # The first device holds all states already, and a checkpoint joins them on each.
    joined = layout.n_replicas * sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    free = mesh.free_bytes() - joined
    return dataclasses.replace(
        layout, at_once=mesh.replicas_that_fit(layout, bytes_a_replica, free)
    )
