"""Clips → record files on this machine: worker processes compute, serialise and write."""

import concurrent.futures
import functools
import itertools
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Self

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import hashing, naming, writer
from tensorflow_datasets.core.utils import shard_utils
from tqdm import tqdm

from data_prep import workers
from data_prep.records import examples
from data_prep.records.recipe import Recipe
from data_prep.records.sorting import Sorter
from ser_jax.common.concurrency import map_ahead
from ser_jax.common.errors import UserError

CLIPS_PER_BATCH = 8
BATCHES_AHEAD = 4  # per process


class RecordPool:
    """Worker processes that build the records of all views; a context manager that ends them.

    with RecordPool(recipe, fields, views, folder) as pool:
        left_out = pool.compute()
        splits = pool.write(file_format, template_of)
    """

    def __init__(
        self,
        recipe: Recipe,
        fields: tfds.features.FeaturesDict,
        views: Sequence[str],
        folder: Path,
    ):
        """Start the workers.

        Args:
          recipe: see Recipe.
          fields: the fields of a record.
          views: the views of each clip.
          folder: an empty folder for the records to be sorted.
        """
        self._recipe, self._fields = recipe, fields
        self._sorters = {view: Sorter(folder / view) for view in views}
        self._n_processes = workers.n_processors()
        context = multiprocessing.get_context("spawn")  # JAX's threads do not survive a fork
        self._pool = concurrent.futures.ProcessPoolExecutor(
            self._n_processes, context, initializer=workers.exit_with_parent
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: Any, traceback: Any) -> None:
        self._pool.shutdown(cancel_futures=kind is not None)
        if kind is BrokenProcessPool:
            raise UserError(
                "a worker process was killed, most likely because memory ran out; free some memory "
                "and run again."
            ) from error

    def compute(self) -> dict[str, str]:
        """Compute and sort the records of all clips.

        Returns:
          {clip id: reason} for clips that cannot be used.
        """
        clips = self._recipe.corpus.utterances
        batches = workers.batches(clips, CLIPS_PER_BATCH)
        hashers = {view: hashing.Hasher(view) for view in self._sorters}
        serialise = functools.partial(
            examples.serialise, self._recipe.without_clips(), self._fields, tuple(self._sorters)
        )
        ahead = BATCHES_AHEAD * self._n_processes
        results = map_ahead(serialise, batches, ahead=ahead, executor=self._pool)
        left_out: dict[str, str] = {}
        with tqdm(total=len(clips), unit="clip", disable=None, leave=False) as progress:
            for batch, (records, left_out_of_batch) in zip(batches, results, strict=True):
                for view, clip_id, record in records:
                    self._sorters[view].add(hashers[view].hash_key(clip_id), record)
                left_out.update(left_out_of_batch)
                progress.update(len(batch))
        return left_out

    def write(
        self,
        file_format: tfds.core.FileFormat,
        template_of: Callable[[str], naming.ShardedFileTemplate],
    ) -> list[tfds.core.SplitInfo]:
        """Write the sorted records of each view to files, cut where TFDS would cut them.

        Args:
          file_format: the format of the files.
          template_of: a view's name → the template of its file names.

        Returns:
          The splits as TFDS describes them, one per view.
        """
        splits, futures = [], []
        for view, sorter in self._sorters.items():
            template, n_records, n_bytes = template_of(view), sorter.n_records, sorter.n_bytes
            n_files = shard_utils.ShardConfig.calculate_number_shards(n_bytes, n_records)
            ends = shard_utils.get_shard_boundaries(n_records, n_files)
            lengths = np.diff(ends, prepend=0).tolist()
            paths = [
                os.fspath(template.sharded_filepath(shard_index=i, num_shards=n_files))
                for i in range(n_files)
            ]
            futures.append(self._pool.submit(_write_files, file_format, sorter, paths, lengths))
            splits.append(
                tfds.core.SplitInfo(
                    name=view,
                    shard_lengths=lengths,
                    num_bytes=n_bytes,
                    filename_template=template,
                )
            )
        for future in futures:
            future.result()
        return splits


def _write_files(
    file_format: tfds.core.FileFormat, sorter: Sorter, paths: list[str], lengths: list[int]
) -> None:
    """Write the records of a view, lengths[i] of them to paths[i]; runs in a worker."""
    records = iter(sorter)
    for path, length in zip(paths, lengths, strict=True):
        writer.ExampleWriter(file_format).write(path, itertools.islice(records, length))
