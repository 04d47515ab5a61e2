"""Clips → probabilities and metric sums: validation and test alike, each clip once a replica.

Axes: R replicas, B batch, C classes, M clips.
"""

from collections.abc import Sequence

import jax
import numpy as np

from ser_jax.data import examples
from ser_jax.parallel import placement, processes, programs
from ser_jax.parallel.mesh import Layout
from ser_jax.train import step
from ser_jax.train.experiment import Experiment
from ser_jax.train.loader import BatchLoader
from ser_jax.train.state import Sums, Weights


class Evaluator:
    """A model, compiled once, over the original views of clips."""

    def __init__(self, task: Experiment, feed: BatchLoader, layout: Layout):
        self._feed, self._layout = feed, layout
        self._batch_size = task.config.evaluate.batch_size
        zero = Sums.zero(len(task.records.labels))
        self._zero = placement.place([zero] * layout.n_replicas, layout)
        self._evaluate = programs.compile_evaluation(
            step.make_evaluation(task.model, task.config.input.kind), layout
        )

    def sums(self, groups: Sequence[Weights], clip_RxM: Sequence[np.ndarray]) -> list[Sums]:
        """Sums over each replica's own clips, a group each, on the devices."""
        return [sums for sums, _ in self._run(groups, clip_RxM)]

    def __call__(
        self, groups: Sequence[Weights], clip_RxM: Sequence[np.ndarray]
    ) -> tuple[Sums, list[np.ndarray]]:
        """Sums with R entries, and a replica's probabilities MxC in the order of its clips."""
        results = self._run(groups, clip_RxM)
        sums = [processes.fetch(sums) for sums, _ in results]
        probabilities = []
        for _, batches in results:
            probability_GxNxC = np.concatenate([processes.fetch(b) for b in batches], axis=1)
            probabilities += list(probability_GxNxC)
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *sums), [
            probability_NxC[: len(clip_M)]
            for probability_NxC, clip_M in zip(probabilities, clip_RxM, strict=True)
        ]

    def _run(
        self, groups: Sequence[Weights], clip_RxM: Sequence[np.ndarray]
    ) -> list[tuple[Sums, list[jax.Array]]]:
        results = []
        for group, zero, members in zip(groups, self._zero, self._layout.groups, strict=True):
            # A clip's number is that of its original example.
            order_GxSxB = examples.stack_batches(
                [
                    examples.sequential_batches(clip_M, self._batch_size)
                    for clip_M in clip_RxM[members]
                ]
            )
            sums, probabilities = zero, []
            for batch in self._feed.batches(order_GxSxB):
                sums, probability_GxBxC = self._evaluate(*group, sums, batch)
                probabilities.append(probability_GxBxC)
            results.append((sums, probabilities))
        return results
