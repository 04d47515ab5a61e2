"""The trainer: the states of all replicas on the devices, and the operations on all of them.

Axes: R replicas, G replicas of one program, S steps, B batch.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax

from ser_jax.data.loader import Batch, BatchLoader, take
from ser_jax.data.online_augmentation import OnlineAugmentation
from ser_jax.parallel import mesh, placement, programs
from ser_jax.parallel.mesh import Layout
from ser_jax.train import checkpoints
from ser_jax.train.experiment import Experiment
from ser_jax.train.optimizer import (
    Schedule,
    make_optimizer,
    make_plateau,
    make_schedule,
    settings_of,
)
from ser_jax.train.state import Sums, TrainState, Weights
from ser_jax.train.step import make_end_of_epoch, make_train_step, skip_if_idle

SECONDS_PER_CALL = 2.0  # of work for the devices before the host checks for Ctrl-C
STEPS_PER_CHECK = 16  # the same for streamed batches


class Trainer:
    """Trains all replicas of a run, in the groups of its layout.

    A step advances every replica that has a batch left and has not stopped.

    Attributes:
      layout: with groups small enough for the devices' memory.
      loader: of the examples.
      schedule: of the learning rate.
    """

    def __init__(self, experiment: Experiment, states: Sequence[TrainState]):
        config = experiment.config
        self.schedule = make_schedule(
            config.optimizer.schedule,
            config.optimizer.warmup,
            config.train.epochs * experiment.n_steps,
        )
        optimizer = make_optimizer(*settings_of(config, experiment.model))
        augmentation = OnlineAugmentation(**config.online_augmentation)
        step = _train_step(
            experiment.model,
            optimizer,
            config.input.kind,
            self.schedule,
            augmentation,
            config.optimizer.ema_decay,
            config.train.focal_gamma,
        )
        layout = mesh.make_layout(config, len(states))
        # The examples come first: the memory that they leave limits the groups.
        self.loader = BatchLoader(experiment.examples, layout)
        self.layout = layout = _fit_to_memory(experiment, layout, step, states[0])
        self._steps, self._step = _step_programs(step, layout)
        self._end_of_epoch = _end_of_epoch(
            make_plateau(config.optimizer),
            config.train.monitor,
            config.train.stopping_patience,
            config.train.stopping_min_delta,
            layout,
        )
        self._groups = placement.place(states, layout)
        self._steps_per_call = 1  # adapted to SECONDS_PER_CALL

    def restore(self, workdir: Path) -> int:
        """Load the last checkpoint, if there is one; return its step, else 0."""
        like = placement.joined_shape(self._groups[0], self.layout)
        saved = checkpoints.load_last(workdir, like)
        if saved is None:
            return 0
        step, state = saved
        self._groups = placement.split(state, self.layout)
        return step

    def state(self) -> TrainState:
        """Return a copy of the states of all R replicas, which is independent of the layout."""
        return placement.join(self._groups, self.layout)

    def fetch(self, select: Callable[[TrainState], Any]) -> Any:
        """Fetch a small part of the states to the host; each leaf has R entries."""
        return placement.fetch([select(group) for group in self._groups], self.layout)

    def weights(self) -> list[Weights]:
        """Return the current weights of each group, or their running mean."""
        return [Weights(*g.evaluated, g.normalisation) for g in self._groups]

    def advance(self, order_RxSxB: np.ndarray, first: int) -> Iterator[int]:
        """Train from step `first` to the end of an epoch; yield numbers of steps as they finish."""
        if self.loader.resident is None:
            return self._advance_streamed(order_RxSxB, first)
        return self._advance_resident(order_RxSxB, first)

    def end_epoch(self, val_sums: Sequence[Sums], epoch: int) -> None:
        """Update best weights, plateau and stopping from the validation sums of each group."""
        self._groups = [
            self._end_of_epoch(group, sums, epoch)
            for group, sums in zip(self._groups, val_sums, strict=True)
        ]

    def _advance_resident(self, order_RxSxB: np.ndarray, first: int) -> Iterator[int]:
        layout = self.layout
        orders = [jax.device_put(order_RxSxB[g], layout.order_sharding) for g in layout.groups]
        step, n_steps = first, order_RxSxB.shape[1]
        while step < n_steps:
            n = min(self._steps_per_call, n_steps - step)
            begin = time.perf_counter()
            for i, order_GxSxB in enumerate(orders):
                self._groups[i] = self._steps(
                    self._groups[i], self.loader.resident, order_GxSxB, step, step + n
                )
            jax.block_until_ready(self._groups)
            seconds = time.perf_counter() - begin
            self._steps_per_call = max(1, int(n * SECONDS_PER_CALL / seconds))
            step += n
            yield n

    def _advance_streamed(self, order_RxSxB: np.ndarray, first: int) -> Iterator[int]:
        streams = [self.loader.batches(order_RxSxB[g], first) for g in self.layout.groups]
        n = 0
        for batches in zip(*streams, strict=True):
            for i, batch in enumerate(batches):
                self._groups[i] = self._step(self._groups[i], batch)
            n += 1
            if n == STEPS_PER_CHECK:
                yield n
                n = 0
        if n:
            yield n


# Equal arguments give the same functions, so runs of equal shapes, as in a study, share programs
# that JAX compiles once in a process.
_shared = functools.lru_cache(maxsize=16)


@_shared
def _train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    kind: str,
    schedule: Schedule,
    augmentation: OnlineAugmentation,
    ema_decay: float,
    focal_gamma: float,
) -> Callable[[TrainState, Batch], TrainState]:
    return make_train_step(model, optimizer, kind, schedule, augmentation, ema_decay, focal_gamma)


@_shared
def _step_programs(
    step: Callable[[TrainState, Batch], TrainState], layout: Layout
) -> tuple[Callable[..., TrainState], Callable[..., TrainState]]:
    """Return the programs for resident examples and for streamed batches."""
    if layout.n_replicas > 1:
        step = skip_if_idle(step)
    return (
        programs.compile_steps(step, take, layout),
        programs.compile_for_group(step, layout, donate=True),
    )


@_shared
def _end_of_epoch(
    plateau: optax.GradientTransformationExtraArgs,
    monitor: str,
    stopping_patience: int,
    stopping_min_delta: float,
    layout: Layout,
) -> Callable[[TrainState, Sums, int], TrainState]:
    end = make_end_of_epoch(plateau, monitor, stopping_patience, stopping_min_delta)
    return programs.compile_end_of_epoch(end, layout)


def _fit_to_memory(
    experiment: Experiment, layout: Layout, step: Callable, state: TrainState
) -> Layout:
    """Reduce the number of replicas at once to what the devices' memory holds."""
    automatic = layout.strategy == "vmap" and not experiment.config.replicas.at_once
    if not automatic or layout.at_once == layout.mesh.shape["replica"]:
        return layout
    examples, size = experiment.examples, experiment.config.train.batch_size
    batch = Batch(
        jax.ShapeDtypeStruct((size, examples.max_frames, examples.width), np.float32),
        *(jax.ShapeDtypeStruct((size,), dtype) for dtype in (np.int32, np.int32, bool, np.int32)),
    )
    bytes_per_replica = programs.step_bytes(step, state, batch)
    # The first device already holds all states, and a checkpoint joins them on every device.
    joined = layout.n_replicas * sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    free = mesh.free_bytes() - joined
    return dataclasses.replace(
        layout, at_once=mesh.replicas_that_fit(layout, bytes_per_replica, free)
    )
