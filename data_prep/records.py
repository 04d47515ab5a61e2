"""Corpus → feature records: a TFDS dataset in ArrayRecord files, built once and found again.

One record is one utterance, one TFDS split is one view (original, noise, pitch, stretch). There is
no train or test in the records, so one cache serves every protocol and every model. The folder's
name carries a fingerprint of all that the features depend on; a change of any makes new records and
leaves the old ones.
"""

import ast
import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import json
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging
from tensorflow_datasets.core import writer
from tensorflow_datasets.proto import tf_example_pb2
from tqdm import tqdm

from data_prep import augment, corpora, workers
from ser_jax import audio, features, files
from ser_jax.errors import UserError

CLIPS_A_BATCH = 32
SECONDS_A_BATCH = 320  # of audio; longer clips go in smaller batches
BATCHES_AHEAD = 8
_SOURCES = (audio, augment, features)  # the code that makes a feature


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All that determines the records.

    Attributes:
      corpus: the clips.
      spec: the features.
      augmentation: the views beside the original.
      dtype: how features are stored, "float32" or "float16".
    """

    corpus: corpora.Corpus
    spec: features.FeatureSpec
    augmentation: augment.Augmentation
    dtype: str = "float32"

    def __post_init__(self):
        if self.dtype not in ("float32", "float16"):
            raise UserError(f"records_dtype is float32 or float16, not {self.dtype!r}.")

    def settings(self) -> dict[str, Any]:
        """What the records depend on beside the clips themselves, as JSON values."""
        return settings(self.spec, self.augmentation, self.dtype)

    def fingerprint(self) -> str:
        """Twelve hex digits that change with the settings, the labels or the bytes of any clip."""
        clips = [
            [u.id, u.emotion, u.speaker, dict(u.attributes), u.votes, checksum]
            for u, checksum in zip(self.corpus.utterances, _checksums(self.corpus), strict=True)
        ]
        everything = [self.settings(), self.corpus.name, self.corpus.labels, clips]
        text = json.dumps(everything, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def settings(
    spec: features.FeatureSpec, augmentation: augment.Augmentation, dtype: str
) -> dict[str, Any]:
    """See Recipe.settings."""
    everything = {
        "features": dataclasses.asdict(spec),
        "augmentation": dataclasses.asdict(augmentation),
        "dtype": dtype,
        "code": _code_version(),
        # They resample, shift and stretch.
        "libraries": {name: metadata.version(name) for name in ("librosa", "soxr")},
    }
    return json.loads(json.dumps(everything))  # tuples become lists, as they will on disk


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
            _build_here(builder)
        else:
            _build_with_beam(builder, beam)
    left_out = builder.left_out
    print(f"Prepared {builder.info.splits[augment.ORIGINAL].num_examples} clips.", end=" ")
    print(f"{len(left_out)} were left out:" if left_out else "None was left out.")
    for reason in left_out.values():
        print(f"  {reason}")
    return folder


def _build_here(builder: "_Records") -> None:
    context = multiprocessing.get_context("spawn")  # JAX's threads do not survive a fork
    n_processes = len(os.sched_getaffinity(0))
    with concurrent.futures.ProcessPoolExecutor(
        n_processes, context, initializer=workers.exit_with_parent
    ) as builder.pool:
        try:
            builder.write()
        except BaseException:
            builder.pool.shutdown(cancel_futures=True)
            raise


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


class _Writer(writer.ExampleWriter):
    """Writes a record's fields in sorted order, so that the same records are the same bytes.

    protobuf's own order differs from process to process.
    """

    def write(self, path, examples: Iterable[tuple[Any, bytes]]) -> None:
        def sort_fields(record: bytes) -> bytes:
            return tf_example_pb2.Example.FromString(record).SerializeToString(deterministic=True)

        super().write(path, ((key, sort_fields(record)) for key, record in examples))


class _Records(tfds.core.GeneratorBasedBuilder):
    """Feature records of a speech emotion corpus."""

    name = "feature_records"
    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, **kwargs):
        self.left_out: dict[str, str] = {}  # clip id → why
        self.pool: concurrent.futures.Executor | None = None  # decodes, in a build without Beam
        self.left_out_dir: Path | None = None  # where Beam's workers say what they leave out
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        recipe = self.builder_config.recipe
        corpus, dtype = recipe.corpus, np.dtype(recipe.dtype)
        attributes = corpus.utterances[0].attributes if corpus.utterances else {}
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"Features of {corpus.title}, one split a view.",
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "label": tfds.features.ClassLabel(names=list(corpus.labels)),
                    "speaker": tfds.features.Text(),
                    "n_frames": np.int32,
                    "audio_sha256": tfds.features.Text(),  # of the decoded samples
                    "votes": tfds.features.Tensor(shape=(None,), dtype=np.int32),
                    "attributes": {name: tfds.features.Text() for name in attributes},
                    "planes": {
                        plane: tfds.features.Tensor(
                            shape=(None, recipe.spec.width(plane)), dtype=dtype
                        )
                        for plane in recipe.spec.planes
                    },
                }
            ),
            metadata=tfds.core.MetadataDict(
                corpus=corpus.title,
                labels=list(corpus.labels),
                settings=recipe.settings(),
                left_out=self.left_out,
            ),
        )

    def _example_writer(self) -> _Writer:  # TFDS asks for it
        return _Writer(self.info.file_format)

    def write(self, config: tfds.download.DownloadConfig | None = None) -> None:
        """Builds the records and says nothing."""
        with _quiet(), tempfile.TemporaryDirectory() as nothing_to_download:
            self.download_and_prepare(download_dir=nothing_to_download, download_config=config)

    def _split_generators(self, dl_manager) -> dict[str, Any]:
        del dl_manager  # the audio is there already
        recipe = self.builder_config.recipe
        views = (augment.ORIGINAL, *recipe.augmentation.views)
        if self.left_out_dir:
            return {view: self._beam_transform(view) for view in views}
        progress = tqdm(
            total=len(views) * len(recipe.corpus.utterances), unit="clip", disable=None, leave=False
        )
        return {view: self._generate_examples(view, progress) for view in views}

    def _generate_examples(self, view: str, progress: tqdm) -> Iterator[tuple[str, dict]]:
        recipe = self.builder_config.recipe
        progress.set_description(view)
        load = functools.partial(
            augment.load_views, recipe.augmentation, view, recipe.spec.sampling_rate
        )
        by_id = {u.id: u for u in recipe.corpus.utterances}
        batches = _batches([(u.id, u.path) for u in by_id.values()], CLIPS_A_BATCH)
        for batch, waveforms in _read_ahead(self.pool, load, batches):
            good, bad = _sort_out([by_id[clip_id] for clip_id, _ in batch], waveforms)
            self.left_out.update(bad)
            progress.update(len(batch))
            yield from _examples(recipe, good)
        self._refuse_none_left()

    def _beam_transform(self, view: str) -> Any:
        """A view's examples as a beam.PTransform.

        An element is a batch, the same as without Beam: a feature's last bits may depend on the
        shape of the batch that it is computed in.
        """
        import apache_beam as beam

        recipe = self.builder_config.recipe
        no_clips = dataclasses.replace(recipe.corpus, utterances=(), ignored=())
        make = functools.partial(
            _load_and_make, dataclasses.replace(recipe, corpus=no_clips), view, self.left_out_dir
        )
        batches = list(enumerate(_batches(recipe.corpus.utterances, CLIPS_A_BATCH)))
        return beam.Create(batches) | "Examples" >> beam.FlatMapTuple(make)

    def _process_pipeline_result(self, pipeline_result) -> None:  # TFDS calls it after Beam
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


def _load_and_make(
    recipe: Recipe, view: str, left_out_dir: Path, index: int, clips: Sequence[corpora.Utterance]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Examples of one batch, and a file that tells which of its clips are left out and why."""
    paths = [(u.id, u.path) for u in clips]
    waveforms = augment.load_views(recipe.augmentation, view, recipe.spec.sampling_rate, paths)
    good, bad = _sort_out(clips, waveforms)
    if bad:  # a batch that is tried again, or another view of it, writes the same once more
        files.write_json(left_out_dir / f"{index}.json", bad)
    yield from _examples(recipe, good)


def _sort_out(
    clips: Sequence[corpora.Utterance], waveforms: Sequence[np.ndarray | str]
) -> tuple[list[tuple[corpora.Utterance, np.ndarray]], dict[str, str]]:
    """The clips that could be decoded, and of the others {id: why}."""
    pairs = list(zip(clips, waveforms, strict=True))
    good = [(clip, waveform) for clip, waveform in pairs if not isinstance(waveform, str)]
    return good, {clip.id: why for clip, why in pairs if isinstance(why, str)}


def _examples(
    recipe: Recipe, clips: list[tuple[corpora.Utterance, np.ndarray]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Features of some clips, as TFDS wants them."""
    spec = recipe.spec
    if not clips:
        return
    # Whole seconds and a fixed number of rows: a handful of shapes to compile, bounded memory.
    second = spec.sampling_rate
    n_samples = -(-max(len(w) for _, w in clips) // second) * second
    n_rows = max(1, min(CLIPS_A_BATCH, SECONDS_A_BATCH * second // n_samples))
    for some in _batches(clips, n_rows):
        waveform_BxS = np.zeros((n_rows, n_samples), np.float32)
        n_samples_B = np.zeros(n_rows, np.int32)
        for row, (_, waveform) in enumerate(some):
            waveform_BxS[row, : len(waveform)] = waveform
            n_samples_B[row] = len(waveform)
        planes = features.extract(spec, waveform_BxS, n_samples_B)
        planes = {name: np.asarray(x).astype(recipe.dtype) for name, x in planes.items()}
        for row, (utterance, waveform) in enumerate(some):
            n_frames = spec.n_frames(len(waveform))
            yield (
                utterance.id,
                {
                    "id": utterance.id,
                    "label": utterance.emotion,
                    "speaker": utterance.speaker,
                    "n_frames": n_frames,
                    "audio_sha256": hashlib.sha256(waveform.tobytes()).hexdigest(),
                    "votes": np.array(utterance.votes, np.int32),
                    "attributes": dict(utterance.attributes),
                    "planes": {name: x[row, :n_frames] for name, x in planes.items()},
                },
            )


def _batches(items: Sequence, size: int) -> list[Sequence]:
    return [items[i : i + size] for i in range(0, len(items), size)]


def _read_ahead(
    pool: concurrent.futures.Executor, function: Callable, batches: Iterable
) -> Iterator[tuple[Any, Any]]:
    """(batch, function(batch)) in order, a bounded number of batches ahead of the consumer."""
    waiting: collections.deque = collections.deque()
    for batch in batches:
        waiting.append((batch, pool.submit(function, batch)))
        if len(waiting) > BATCHES_AHEAD:
            done, future = waiting.popleft()
            yield done, future.result()
    for done, future in waiting:
        yield done, future.result()


def _checksums(corpus: corpora.Corpus) -> list[str]:
    """SHA-256 of each clip's file; a file that is missing is found out when it is decoded."""

    def checksum(utterance: corpora.Utterance) -> str:
        return files.sha256_of(utterance.path) if utterance.path.is_file() else "missing"

    with concurrent.futures.ThreadPoolExecutor() as pool:
        return list(pool.map(checksum, corpus.utterances))


@functools.cache
def _code_version() -> str:
    """Changes with the code that makes a feature, not with its comments and docstrings."""
    digest = hashlib.sha256()
    for module in _SOURCES:
        tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list) and body and _is_docstring(body[0]):
                body[0] = ast.Pass()
        digest.update(ast.dump(tree).encode())
    return digest.hexdigest()[:12]


def _is_docstring(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


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
