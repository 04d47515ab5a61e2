"""Clips → record files on this machine: worker processes compute, serialise and write."""

import functools
import itertools
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import hashing, naming, writer
from tensorflow_datasets.core.utils import shard_utils
from tqdm import tqdm

from data_prep import workers
from data_prep.records import examples, resuming
from data_prep.records.recipe import Recipe
from data_prep.records.sorting import Sorter
from ser_jax.common.concurrency import map_ahead, result_of

CLIPS_PER_BATCH = 8
BATCHES_AHEAD = 4  # per process


def compute(
    pool: ProcessPoolExecutor,
    recipe: Recipe,
    fields: tfds.features.FeaturesDict,
    sorters: Mapping[str, Sorter],
    finished: Path | None = None,
) -> examples.Remarks:
    """Compute the records of all clips, add those of each view to its sorter; return remarks.

    The batches in the folder `finished` are taken from there, and the others put there.
    """
    clips = recipe.corpus.utterances
    batches = workers.batches(clips, CLIPS_PER_BATCH)
    hashers = {view: hashing.Hasher(view) for view in sorters}
    serialise = functools.partial(
        examples.serialise, recipe.without_clips(), fields, tuple(sorters)
    )
    tasks = batches
    if finished:
        serialise = functools.partial(resuming.serialise_once, serialise, finished)
        tasks = list(enumerate(batches))
    # JAX uses all cores, or the accelerator, in one process: threads suffice for an encoder.
    results = map_ahead(
        serialise,
        tasks,
        ahead=BATCHES_AHEAD * workers.n_processors(),
        n_threads=workers.n_processors(),
        executor=None if recipe.spec.encoder else pool,
    )
    remarks = examples.Remarks()
    with tqdm(total=len(clips), unit="clip", disable=None, leave=False) as progress:
        for batch, (records, remarks_on_batch) in zip(batches, results, strict=True):
            for view, clip_id, record in records:
                sorters[view].add(hashers[view].hash_key(clip_id), record)
            remarks.add(remarks_on_batch)
            progress.update(len(batch))
    return remarks


def write(
    pool: ProcessPoolExecutor,
    sorters: Mapping[str, Sorter],
    file_format: tfds.core.FileFormat,
    template_of: Callable[[str], naming.ShardedFileTemplate],
) -> list[tfds.core.SplitInfo]:
    """Write the sorted records of each view to files, cut where TFDS would cut them.

    Returns:
      The splits as TFDS describes them, one per view.
    """
    splits, futures = [], []
    for view, sorter in sorters.items():
        template = template_of(view)
        n_files = shard_utils.ShardConfig.calculate_number_shards(sorter.n_bytes, sorter.n_records)
        ends = shard_utils.get_shard_boundaries(sorter.n_records, n_files)
        lengths = np.diff(ends, prepend=0).tolist()
        paths = [
            os.fspath(template.sharded_filepath(shard_index=i, num_shards=n_files))
            for i in range(n_files)
        ]
        futures.append(pool.submit(_write_files, file_format, sorter, paths, lengths))
        splits.append(tfds.core.SplitInfo(view, lengths, sorter.n_bytes, template))
    for future in futures:
        result_of(future)
    return splits


def _write_files(
    file_format: tfds.core.FileFormat, sorter: Sorter, paths: list[str], lengths: list[int]
) -> None:
    """Write the records of a view, lengths[i] of them to paths[i]; runs in a worker."""
    records = iter(sorter)
    for path, length in zip(paths, lengths, strict=True):
        writer.ExampleWriter(file_format).write(path, itertools.islice(records, length))
