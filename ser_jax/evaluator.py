"""Clips → probabilities and metric sums: validation and test alike, each clip once."""

from typing import Any

import numpy as np

from ser_jax import input_pipeline, parallel, train_step
from ser_jax.task import Task
from ser_jax.train_state import Normalisation, Sums


class Evaluator:
    """A model, compiled once, over the original views of clips."""

    def __init__(self, task: Task, feed: parallel.Feed):
        self._feed = feed
        self._batch_size = task.config.evaluate.batch_size
        self._n_classes = len(task.records.labels)
        self._evaluate = parallel.compile_evaluation(
            train_step.make_logits(task.model, task.config.input.kind)
        )

    def __call__(
        self, params: Any, batch_stats: Any, normalisation: Normalisation, clip_M: np.ndarray
    ) -> tuple[Sums, np.ndarray]:
        """Sums over the clips, and probabilities [clips, classes] in their order."""
        sums, probabilities = Sums.zero(self._n_classes), []
        # A clip's number is that of its original example.
        for batch in self._feed.batches(input_pipeline.in_batches(clip_M, self._batch_size)):
            sums, probability_BxC = self._evaluate(params, batch_stats, normalisation, sums, batch)
            probabilities.append(probability_BxC)
        return sums, np.concatenate([np.asarray(p) for p in probabilities])[: len(clip_M)]
