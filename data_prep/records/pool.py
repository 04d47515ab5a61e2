"""Clips → files of records, on this machine: workers compute, serialise and write."""

import collections
import concurrent.futures
import functools
import itertools
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
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
from ser_jax.common.errors import UserError

CLIPS_A_BATCH = 8
BATCHES_AHEAD = 4  # for each process


class RecordPool:
    """Builds all views at once, in the memory that a bucket takes; a context that ends its workers.

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
        """Starts the workers.

        Args:
          recipe: what the records are made of.
          fields: what each holds.
          views: of every clip.
          folder: empty; what is sorted lies there.
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
                "a process that prepares records was killed, most likely for want of memory; free "
                "some and run again."
            ) from error

    def compute(self) -> dict[str, str]:
        """Sorts the records of all clips; {clip id: why} of those that cannot be used."""
        clips = self._recipe.corpus.utterances
        hashers = {view: hashing.Hasher(view) for view in self._sorters}
        make = functools.partial(
            self._pool.submit,
            examples.serialised,
            self._recipe.without_clips(),
            self._fields,
            tuple(self._sorters),
        )
        every: dict[str, str] = {}
        with tqdm(total=len(clips), unit="clip", disable=None, leave=False) as progress:
            batches = workers.batches(clips, CLIPS_A_BATCH)
            ahead = BATCHES_AHEAD * self._n_processes
            for batch, (records, left_out) in _read_ahead(make, batches, ahead):
                for view, clip, record in records:
                    self._sorters[view].add(hashers[view].hash_key(clip), record)
                every.update(left_out)
                progress.update(len(batch))
        return every

    def write(
        self,
        file_format: tfds.core.FileFormat,
        template_of: Callable[[str], naming.ShardedFileTemplate],
    ) -> list[tfds.core.SplitInfo]:
        """The sorted records → the files of each view, cut where TFDS would cut them.

        Args:
          file_format: of the files.
          template_of: a view's name → how its files are called.
        """
        splits, writing = [], []
        for view, sorter in self._sorters.items():
            template, n_records, n_bytes = template_of(view), sorter.n_records, sorter.n_bytes
            n_files = shard_utils.ShardConfig.calculate_number_shards(n_bytes, n_records)
            ends = shard_utils.get_shard_boundaries(n_records, n_files)
            lengths = np.diff(ends, prepend=0).tolist()
            paths = [
                os.fspath(template.sharded_filepath(shard_index=i, num_shards=n_files))
                for i in range(n_files)
            ]
            writing.append(self._pool.submit(_write_files, file_format, sorter, paths, lengths))
            splits.append(
                tfds.core.SplitInfo(
                    name=view,
                    shard_lengths=lengths,
                    num_bytes=n_bytes,
                    filename_template=template,
                )
            )
        for future in writing:
            future.result()
        return splits


def _write_files(
    file_format: tfds.core.FileFormat, sorter: Sorter, paths: list[str], lengths: list[int]
) -> None:
    """The records of a view, so many to each file; a worker's task."""
    in_order = iter(sorter)
    for path, length in zip(paths, lengths, strict=True):
        writer.ExampleWriter(file_format).write(path, itertools.islice(in_order, length))


def _read_ahead(
    submit: Callable[[Any], concurrent.futures.Future], items: Iterable, ahead: int
) -> Iterator[tuple[Any, Any]]:
    """(item, result of submit(item)) in order, a bounded number of items ahead of the consumer."""
    waiting: collections.deque = collections.deque()
    for item in items:
        waiting.append((item, submit(item)))
        if len(waiting) > ahead:
            done, future = waiting.popleft()
            yield done, future.result()
    for done, future in waiting:
        yield done, future.result()
