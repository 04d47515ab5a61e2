"""The evaluator: probabilities and metric sums of clips, for validation and test alike.

Axes: R replicas, G replicas of one program, S steps, B batch, C classes, M clips of a replica,
N the same with padding.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from ser_jax.common import interrupts
from ser_jax.data.examples import sequential_batches, stack_batches
from ser_jax.data.loader import BatchLoader
from ser_jax.parallel import placement, processes, programs
from ser_jax.parallel.mesh import Layout
from ser_jax.train.experiment import Experiment
from ser_jax.train.state import Sums, Weights
from ser_jax.train.step import make_evaluation


class Evaluator:
    """Evaluates the original views of clips, each once per replica, with one compiled program."""

    def __init__(self, experiment: Experiment, loader: BatchLoader, layout: Layout):
        config = experiment.config
        self._loader, self._layout = loader, layout
        self._batch_size = config.evaluate.batch_size
        zero = Sums.zero(len(experiment.records.labels))
        self._zero = placement.place([zero] * layout.n_replicas, layout)
        self._evaluate = _program(experiment.model, config.input.kind, layout)

    def sums(self, groups: Sequence[Weights], clip_RxM: Sequence[np.ndarray]) -> list[Sums]:
        """Return each group's sums over the clips of each replica, still on the devices."""
        return [sums for sums, _ in self._run(groups, clip_RxM)]

    def __call__(
        self, groups: Sequence[Weights], clip_RxM: Sequence[np.ndarray]
    ) -> tuple[Sums, list[np.ndarray]]:
        """Return sums with R entries, and each replica's probability_MxC in its clips' order."""
        sums, batches = zip(*self._run(groups, clip_RxM), strict=True)
        probabilities = []
        for probability_SxGxBxC in batches:
            probabilities += list(np.concatenate(processes.fetch(probability_SxGxBxC), axis=1))
        return placement.fetch(sums, self._layout), [
            probability_NxC[: len(clip_M)]  # without the copies that fill the last group
            for probability_NxC, clip_M in zip(probabilities, clip_RxM, strict=False)
        ]

    def _run(
        self, groups: Sequence[Weights], clip_RxM: Sequence[np.ndarray]
    ) -> list[tuple[Sums, list[jax.Array]]]:
        results = []
        for group, zero, replicas in zip(groups, self._zero, self._layout.groups, strict=True):
            # A clip's number is also that of its original example.
            order_GxSxB = stack_batches(
                [sequential_batches(clip_RxM[r], self._batch_size) for r in replicas]
            )
            sums, probabilities = zero, []
            for batch in self._loader.batches(order_GxSxB):
                interrupts.check()
                sums, probability_GxBxC = self._evaluate(*group, sums, batch)
                probabilities.append(probability_GxBxC)
            results.append((sums, probabilities))
        return results


@functools.lru_cache(maxsize=16)  # runs of equal shapes share it, which JAX then compiles once
def _program(model: nn.Module, kind: str, layout: Layout) -> Callable[..., Any]:
    return programs.compile_for_group(make_evaluation(model, kind), layout)
