"""Corpus → feature records: a TFDS dataset in ArrayRecord files, built once and found again.

One record is one utterance, one TFDS split is one view (original, noise, pitch, stretch). There is
no train or test in the records, so one cache serves every protocol and every model. The folder's
name carries a fingerprint of all that the features depend on; a change of any makes new records and
leaves the old ones.
"""

import contextlib
import dataclasses
import functools
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from absl import logging
from tensorflow_datasets.core import writer

from data_prep import corpora, workers
from data_prep.augmentation import views as augmentation_views
from data_prep.records import examples
from data_prep.records import pool as records_pool
from data_prep.records.pool import RecordPool
from data_prep.records.recipe import Recipe
from ser_jax.common import files
from ser_jax.common.errors import UserError


def build(
    recipe: Recipe, records_dir: Path, beam: tfds.download.DownloadConfig | None = None
) -> Path:
    """Builds the records unless they are there; an interrupted build leaves none.

    Args:
      recipe: what they are made of.
      records_dir: where they and those of other recipes lie.
      beam: the Apache Beam runner that computes them, from beam_pipeline.configure; None computes
        them here. The records are the same, in the same order, to the last bit on processors of
        one kind; where there are several files a view, those of Beam are cut at other records.

    Returns:
      The folder of the records; tfds.builder_from_directory opens it.

    Raises:
      UserError: no clip could be used, or the folder cannot be written.
    """
    name = f"{recipe.corpus.name}-{recipe.fingerprint()}"
    with _quiet():
        builder = _Records(
            data_dir=os.fspath(records_dir), config=_Config(name=name, recipe=recipe)
        )
    folder = Path(builder.data_dir)
    with files.locked(folder.parent):  # the second of two runs finds what the first has built
        if folder.exists():
            return folder
        for leftover in folder.parent.glob(f"*{tfds.core.constants.INCOMPLETE_PREFIX}*"):
            shutil.rmtree(leftover)
        print(
            f"Preparing {len(recipe.corpus.utterances)} clips of {recipe.corpus.title} → {folder}"
        )
        tfds.disable_progress_bar()
        if beam is None:
            builder.write()
        else:
            _build_with_beam(builder, beam)
    left_out = builder.left_out
    print(
        f"Prepared {builder.info.splits[augmentation_views.ORIGINAL].num_examples} clips.", end=" "
    )
    print(f"{len(left_out)} were left out:" if left_out else "None was left out.")
    for reason in left_out.values():
        print(f"  {reason}")
    return folder


def _build_with_beam(builder: "_Records", config: tfds.download.DownloadConfig) -> None:
    # Beside the records, where every worker can write, and with a name that is tidied up.
    folder = Path(builder.data_dir).parent / f"{tfds.core.constants.INCOMPLETE_PREFIX}left_out"
    folder.mkdir()
    builder.left_out_dir = folder
    try:
        builder.write(config)
    except Exception:  # of any kind: each runner wraps what its workers raise
        builder.gather_left_out()
        raise
    finally:
        shutil.rmtree(folder)


def find(wanted: dict[str, Any], corpus_name: str, records_dir: Path) -> Path:
    """Records that travelled without their audio, found by their settings.

    Raises:
      UserError: there are none, or several.
    """
    root = records_dir / _Records.name
    found = [
        path.parent
        for path in sorted(root.glob(f"{corpus_name}-*/{_Records.VERSION}/metadata.json"))
        if files.read_json(path).get("settings") == wanted
    ]
    if len(found) != 1:
        raise UserError(
            f"corpus.root does not exist, and {root} holds {len(found) or 'no'} records of "
            f"{corpus_name} with these settings; set --config.corpus.root to the audio, or fetch "
            "CREMA-D with python -m data_prep.download."
        )
    return found[0]


@dataclasses.dataclass(eq=False)
class _Config(tfds.core.BuilderConfig):
    recipe: Recipe | None = dataclasses.field(default=None, repr=False)


class _Info(tfds.core.DatasetInfo):
    def initialize_from_bucket(self) -> None:
        """Nothing is there; TFDS would leave an empty folder behind for each build."""


class _Writer(writer.ExampleWriter):
    """Of Beam's workers."""

    def write(self, path, examples_: Iterable[tuple[Any, bytes]]) -> None:
        super().write(path, ((key, examples.sort_fields(record)) for key, record in examples_))


class _Records(tfds.core.GeneratorBasedBuilder):
    """Feature records of a speech emotion corpus."""

    name = "feature_records"
    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, **kwargs):
        self.left_out: dict[str, str] = {}  # clip id → why
        self.left_out_dir: Path | None = None  # where Beam's workers say what they leave out
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        recipe = self.builder_config.recipe
        return _Info(
            builder=self,
            description=f"Features of {recipe.corpus.title}, one split a view.",
            features=examples.schema(recipe),
            metadata=tfds.core.MetadataDict(
                corpus=recipe.corpus.title,
                labels=list(recipe.corpus.labels),
                settings=recipe.settings(),
                left_out=self.left_out,
            ),
        )

    def write(self, config: tfds.download.DownloadConfig | None = None) -> None:
        """Builds the records and says nothing."""
        with _quiet(), tempfile.TemporaryDirectory() as nothing_to_download:
            self.download_and_prepare(download_dir=nothing_to_download, download_config=config)

    def _views(self) -> tuple[str, ...]:
        return (augmentation_views.ORIGINAL, *self.builder_config.recipe.augmentation.views)

    def _generate_splits(self, dl_manager, download_config) -> Sequence[tfds.core.SplitInfo]:
        if self.left_out_dir:  # Beam
            return super()._generate_splits(dl_manager, download_config)
        recipe, views = self.builder_config.recipe, self._views()
        with (
            tempfile.TemporaryDirectory(prefix="sorting_", dir=self.data_dir) as folder,
            RecordPool(recipe, self.info.features, views, Path(folder)) as pool,
        ):
            self.left_out.update(pool.compute())
            self._refuse_none_left()
            return pool.write(self.info.file_format, self._get_filename_template)

    def _split_generators(self, dl_manager) -> dict[str, Any]:
        """Beam's way, as is all that follows."""
        del dl_manager  # the audio is there already
        return {view: self._generate_examples(view) for view in self._views()}

    def _generate_examples(self, view: str) -> Any:
        """A view's examples as a beam.PTransform, whose elements are batches of clips."""
        import apache_beam as beam

        recipe = self.builder_config.recipe
        make = functools.partial(_examples_of, recipe.without_clips(), view, self.left_out_dir)
        batches = list(
            enumerate(workers.batches(recipe.corpus.utterances, records_pool.CLIPS_A_BATCH))
        )
        return beam.Create(batches) | "Examples" >> beam.FlatMapTuple(make)

    def _example_writer(self) -> _Writer:
        return _Writer(self.info.file_format)

    def _process_pipeline_result(self, pipeline_result) -> None:
        del pipeline_result
        self.gather_left_out()

    def gather_left_out(self) -> None:
        """What Beam's workers left out, in the corpus's order, as without Beam."""
        told: dict[str, str] = {}
        for path in self.left_out_dir.glob("*.json"):
            told |= files.read_json(path)
        self.left_out.update(sorted(told.items()))
        self._refuse_none_left()

    def _refuse_none_left(self) -> None:
        corpus = self.builder_config.recipe.corpus
        if len(self.left_out) == len(corpus.utterances):
            reason = next(iter(self.left_out.values()), "it lists none.")
            raise UserError(f"no clip of {corpus.title} can be used; the first: {reason}")


def _examples_of(
    recipe: Recipe, view: str, left_out_dir: Path, index: int, clips: Sequence[corpora.Utterance]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Examples of one batch, and a file that tells which of its clips are left out and why."""
    left_out: dict[str, str] = {}
    for _, example in examples.make(recipe, (view,), clips, left_out):
        yield example["id"], example
    if left_out:  # a batch that is tried again, or another view of it, writes the same once more
        files.write_json(left_out_dir / f"{index}.json", left_out)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """TFDS would speak of a download and of a custom configuration: neither is the user's."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(None):
            yield
    finally:
        logging.set_verbosity(verbosity)
