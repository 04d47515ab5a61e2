"""Corpus → feature records: a TFDS dataset in ArrayRecord files, built once and reused.

A record is one utterance, a TFDS split is one view (original, noise, pitch, stretch). The records
are not divided into train and test, so the same ones serve every protocol and model. The folder's
name contains a fingerprint of everything that the features depend on: if any of it changes, new
records are built and the old ones kept.
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
from data_prep.augmentation.views import ORIGINAL
from data_prep.records import examples, pool
from data_prep.records.recipe import Recipe, identity
from data_prep.records.sorting import Sorter
from ser_jax.common import files
from ser_jax.common.errors import UserError

_FINISHED = "batches"  # folder beside the records while an encoder computes them


def build(
    recipe: Recipe, records_dir: Path, beam: tfds.download.DownloadConfig | None = None
) -> Path:
    """Build the records unless they exist; an interrupted build leaves none.

    With an encoder it leaves the batches that it has finished, and the next build goes on there.

    Args:
      recipe: see Recipe.
      records_dir: the folder of all records, one subfolder per recipe.
      beam: the Apache Beam runner to use, from beam.configure; None computes the records in local
        processes. The records and their order are the same, bit for bit on the same kind of
        processor; if a view has several files, Beam cuts them at other records.

    Returns:
      The folder of the records, for tfds.builder_from_directory.

    Raises:
      UserError: no clip can be used, or the folder cannot be written.
    """
    name = f"{recipe.corpus.name}-{recipe.fingerprint()}"
    with _quiet():
        builder = _Records(
            data_dir=os.fspath(records_dir), config=_Config(name=name, recipe=recipe)
        )
    folder = Path(builder.data_dir)
    with files.locked(folder.parent):  # two runs at once: the second finds what the first has built
        if folder.exists():
            return folder
        for leftover in folder.parent.glob(f"*{tfds.core.constants.INCOMPLETE_PREFIX}*"):
            shutil.rmtree(leftover)
        print(
            f"Preparing {len(recipe.corpus.utterances)} clips of {recipe.corpus.title} → {folder}"
        )
        if n_finished := sum(1 for _ in (folder.parent / _FINISHED).glob("[0-9]*")):
            print(f"An interrupted preparation has finished {n_finished} batches of clips.")
        tfds.disable_progress_bar()
        with files.explain_full_disk(folder):
            if beam is None:
                builder.write()
            else:
                _build_with_beam(builder, beam)
    left_out = builder.remarks.left_out
    print(f"Prepared {builder.info.splits[ORIGINAL].num_examples} clips.", end=" ")
    verb = "was" if len(left_out) == 1 else "were"
    print(f"{len(left_out)} {verb} left out:" if left_out else "None was left out.")
    for reason in left_out.values():
        print(f"  {reason}")
    return folder


def _build_with_beam(builder: "_Records", config: tfds.download.DownloadConfig) -> None:
    # Beside the records, where every worker can write, and with a name that `build` deletes.
    with tempfile.TemporaryDirectory(
        prefix=tfds.core.constants.INCOMPLETE_PREFIX, dir=Path(builder.data_dir).parent
    ) as folder:
        builder.remarks_dir = Path(folder)
        try:
            builder.write(config)
        except Exception:  # each runner wraps its workers' errors in its own way
            builder.gather_remarks()
            raise


def find(
    settings: dict[str, Any],
    corpus_name: str,
    records_dir: Path,
    *,
    emotions: Sequence[str] = (),
    drop_defects: bool = False,
    label_map: Sequence[str] = (),
) -> Path:
    """Find records by their settings and selection of clips, where the audio is not available.

    Args:
      settings: as Recipe.settings returns them.
      corpus_name: a key of CORPORA.
      records_dir: the folder of all records.
      emotions, drop_defects, label_map: as in corpora.read.

    Raises:
      UserError: no records match, or several do.
    """
    root, spec = records_dir / _Records.name, corpora.CORPORA[corpus_name]
    metadata = {
        path.parent: files.read_json(path)
        for path in sorted(root.glob(f"{corpus_name}-*/{_Records.VERSION}/metadata.json"))
    }
    same = [
        folder
        for folder in metadata
        if identity(metadata[folder].get("settings", {})) == identity(settings)
    ]
    folders = [
        folder
        for folder in same
        if set(metadata[folder].get("label_map", ())) == set(label_map)
        and _is_selection(folder, metadata[folder], spec, emotions, drop_defects)
    ]
    if len(folders) != 1:
        other = "".join(
            f", and others of {', '.join(metadata[folder]['labels'])}, which are not what "
            "corpus.emotions, drop_defects and label_map select"
            for folder in same
            if folder not in folders
        )
        source = spec.source.format(root="FOLDER")
        raise UserError(
            f"corpus.root does not exist, and {root} holds {len(folders) or 'no'} records of "
            f"{corpus_name} with these settings{other}; set --config.corpus.root to the audio"
            f"{source and f' (to get it: {source})'}."
        )
    return folders[0]


def _is_selection(
    folder: Path,
    metadata: dict[str, Any],
    spec: corpora.CorpusSpec,
    emotions: Sequence[str],
    drop_defects: bool,
) -> bool:
    """Return whether records hold the classes and clips that corpora.read would select.

    Records of earlier versions do not say what was excluded; their classes and clips are checked.
    """
    labels, excluded = set(metadata["labels"]), set(metadata.get("excluded", ()))
    all_labels = (labels | excluded) - spec.defects.keys()
    if spec.labels and not metadata.get("label_map"):
        all_labels = set(spec.labels)
    if labels != set(emotions or all_labels):
        return False
    if not (drop_defects and spec.defects):
        return not spec.defects.keys() & excluded
    clips = tfds.builder_from_directory(os.fspath(folder)).as_data_source(ORIGINAL)
    return not spec.defects.keys() & {clip["id"].decode() for clip in clips}


@dataclasses.dataclass(eq=False)
class _Config(tfds.core.BuilderConfig):
    recipe: Recipe | None = dataclasses.field(default=None, repr=False)


class _Info(tfds.core.DatasetInfo):
    def initialize_from_bucket(self) -> None:
        """Skip TFDS's look-up of published datasets, which would leave an empty folder behind."""


class _Writer(writer.ExampleWriter):
    """Writes the files of Beam's workers, with the fields of each record sorted."""

    def write(self, path, records: Iterable[tuple[Any, bytes]]) -> None:
        super().write(path, ((key, examples.sort_fields(record)) for key, record in records))


class _Records(tfds.core.GeneratorBasedBuilder):
    """Feature records of a speech emotion corpus, as a TFDS builder."""

    name = "feature_records"
    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, **kwargs):
        self.remarks = examples.Remarks()
        self.remarks_dir: Path | None = None  # to which Beam's workers write theirs
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        recipe = self.builder_config.recipe
        return _Info(
            builder=self,
            description=f"Features of {recipe.corpus.title}, one split a view.",
            features=examples.schema(recipe),
            metadata=tfds.core.MetadataDict(
                corpus=recipe.corpus.title,
                licence=recipe.corpus.licence,
                labels=list(recipe.corpus.labels),
                settings=recipe.settings(),
                left_out=self.remarks.left_out,
                noted=self.remarks.noted,
                label_map=list(recipe.corpus.label_map),
                excluded=list(recipe.corpus.excluded),
            ),
        )

    def write(self, config: tfds.download.DownloadConfig | None = None) -> None:
        """Build the records without TFDS's own output."""
        # Beside the records, with a name that `build` deletes if this process is killed.
        unfinished = tfds.core.constants.INCOMPLETE_PREFIX
        place = Path(self.data_dir).parent
        with _quiet(), tempfile.TemporaryDirectory(prefix=unfinished, dir=place) as empty:
            self.download_and_prepare(download_dir=empty, download_config=config)

    def _views(self) -> tuple[str, ...]:
        return (ORIGINAL, *self.builder_config.recipe.augmentation.views)

    def _generate_splits(self, dl_manager, download_config) -> Sequence[tfds.core.SplitInfo]:
        if self.remarks_dir:  # Beam
            return super()._generate_splits(dl_manager, download_config)
        recipe, info = self.builder_config.recipe, self.info
        # Others take less time to compute than to keep.
        finished = Path(self.data_dir).with_name(_FINISHED) if recipe.spec.encoder else None
        with (
            tempfile.TemporaryDirectory(prefix="sorting_", dir=self.data_dir) as folder,
            workers.process_pool(workers.n_processors()) as processes,
        ):
            sorters = {view: Sorter(Path(folder, view)) for view in self._views()}
            self.remarks.add(pool.compute(processes, recipe, info.features, sorters, finished))
            self._refuse_none_left()
            splits = pool.write(processes, sorters, info.file_format, self._get_filename_template)
        if finished:
            shutil.rmtree(finished)
        return splits

    def _split_generators(self, dl_manager) -> dict[str, Any]:
        """Return the splits' examples; called only with Beam, as are the methods below."""
        del dl_manager  # nothing is downloaded
        return {view: self._generate_examples(view) for view in self._views()}

    def _generate_examples(self, view: str) -> Any:
        """Return the examples of a view as a beam.PTransform over batches of clips."""
        import apache_beam as beam

        recipe = self.builder_config.recipe
        make = functools.partial(_make_batch, recipe.without_clips(), view, self.remarks_dir)
        batches = list(enumerate(workers.batches(recipe.corpus.utterances, pool.CLIPS_PER_BATCH)))
        return beam.Create(batches) | "Examples" >> beam.FlatMapTuple(make)

    def _example_writer(self) -> _Writer:
        return _Writer(self.info.file_format)

    def _process_pipeline_result(self, pipeline_result) -> None:
        del pipeline_result
        self.gather_remarks()

    def gather_remarks(self) -> None:
        """Collect the remarks of Beam's workers, in the corpus's order."""
        for path in sorted(self.remarks_dir.glob("*.json")):
            self.remarks.add(examples.Remarks(**files.read_json(path)))
        self._refuse_none_left()

    def _refuse_none_left(self) -> None:
        corpus = self.builder_config.recipe.corpus
        if len(self.remarks.left_out) == len(corpus.utterances):
            reason = next(iter(self.remarks.left_out.values()), "it lists none.")
            raise UserError(f"no clip of {corpus.title} can be used; the first: {reason}")


def _make_batch(
    recipe: Recipe, view: str, remarks_dir: Path, index: int, clips: Sequence[corpora.Utterance]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (clip id, example) for a batch, and write a file with the remarks on its clips."""
    remarks = examples.Remarks()
    for _, example in examples.make(recipe, (view,), clips, remarks):
        yield example["id"], example
    if remarks != examples.Remarks():
        # A retried batch, or another view of it, writes the same file again.
        files.write_json(remarks_dir / f"{index:09}.json", dataclasses.asdict(remarks))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence TFDS, which reports a download and a custom configuration."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(None):
            yield
    finally:
        logging.set_verbosity(verbosity)
