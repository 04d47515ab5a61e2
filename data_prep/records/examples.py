"""A clip → the records of its views. This runs in the workers of a build.

JAX is loaded for the embeddings of an encoder alone.
"""

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import example_serializer
from tensorflow_datasets.proto import tf_example_pb2

from data_prep.augmentation.views import make_views
from data_prep.corpora import Utterance
from data_prep.records.recipe import Recipe
from ser_jax import features
from ser_jax.audio import waveform
from ser_jax.common.errors import UserError

# As notes begin, of `make` and of waveform.load; others are a "remark".
NOTES = ("silent", "cut short", "DC offset", "clipped")


@dataclasses.dataclass
class Remarks:
    """What the records do not show of a corpus."""

    left_out: dict[str, str] = dataclasses.field(default_factory=dict)  # clip id → why
    # File, used all the same → kinds of notes on it.
    noted: dict[str, list[str]] = dataclasses.field(default_factory=dict)

    def add(self, other: "Remarks") -> None:
        """Add the remarks on further clips."""
        self.left_out |= other.left_out
        for path, kinds in other.noted.items():  # which may have several clips
            self.noted[path] = sorted({*self.noted.get(path, ()), *kinds})

    def note(self, path: str, notes: Sequence[str]) -> None:
        """Add the notes on a file that is used."""
        kinds = [next((k for k in NOTES if note.startswith(k)), "remark") for note in notes]
        if kinds:
            self.add(Remarks(noted={path: kinds}))


def schema(recipe: Recipe) -> tfds.features.FeaturesDict:
    """Return the fields of a record."""
    corpus, dtype = recipe.corpus, np.dtype(recipe.dtype)
    attributes = corpus.utterances[0].attributes if corpus.utterances else {}
    return tfds.features.FeaturesDict(
        {
            "id": tfds.features.Text(),
            "label": tfds.features.ClassLabel(names=list(corpus.labels)),
            "speaker": tfds.features.Text(),
            "n_frames": np.int32,
            "audio_sha256": tfds.features.Text(),  # of the clip's decoded samples
            "votes": tfds.features.Tensor(shape=(None,), dtype=np.int32),
            "attributes": {name: tfds.features.Text() for name in attributes},
            "planes": {
                plane: tfds.features.Tensor(
                    shape=(None, recipe.spec.width(plane)),
                    dtype=dtype,
                    encoding="bytes",  # writing number by number takes longer than computing
                )
                for plane in recipe.spec.planes
            },
        }
    )


def make(
    recipe: Recipe, views: Sequence[str], clips: Sequence[Utterance], remarks: Remarks
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Compute the examples of `clips`, decoding each clip once for all its views.

    `remarks` receives those on the clips; the recipe's own clips are not used.

    Yields:
      (view, example), where the example is a dict with the fields of `schema`.
    """
    rate, encoder = recipe.spec.sampling_rate, None
    if recipe.spec.encoder:
        from ser_jax.encoders import loading  # loads JAX

        encoder = loading.load(recipe.encoder, recipe.spec.encoder, rate)
    for clip in clips:
        notes: list[str] = []
        try:
            waveform_S = waveform.load(clip.path, rate, notes=notes, segment=clip.segment)
        except UserError as error:
            remarks.left_out[clip.id] = str(error)
            continue
        if waveform.rms(waveform_S) < waveform.SILENT_RMS:
            notes.append("silent")
        remarks.note(str(clip.path), notes)
        shared = {
            "id": clip.id,
            "label": clip.emotion,
            "speaker": clip.speaker,
            "audio_sha256": hashlib.sha256(waveform_S.tobytes()).hexdigest(),
            "votes": np.array(clip.votes, np.int32),
            "attributes": dict(clip.attributes),
        }
        for view, view_S in make_views(recipe.augmentation, views, waveform_S, rate, clip.id):
            planes = features.extract_clip(recipe.spec, view_S, encoder)
            stored = {name: x_TxF.astype(recipe.dtype) for name, x_TxF in planes.items()}
            yield view, {**shared, "n_frames": recipe.spec.n_frames(len(view_S)), "planes": stored}


def serialise(
    recipe: Recipe,
    fields: tfds.features.FeaturesDict,
    views: Sequence[str],
    clips: Sequence[Utterance],
) -> tuple[list[tuple[str, str, bytes]], Remarks]:
    """Compute the examples of `clips` as bytes; see `make`. `fields` are schema(recipe).

    Returns:
      [(view, clip id, record)], and the remarks on the clips.
    """
    serializer = example_serializer.ExampleSerializer(fields.get_serialized_info())
    records, remarks = [], Remarks()
    for view, example in make(recipe, views, clips, remarks):
        encoded = serializer.get_tf_example(fields.encode_example(example))
        records.append((view, example["id"], _to_bytes(encoded)))
    return records, remarks


def sort_fields(record: bytes) -> bytes:
    """Return a record that TFDS has serialised with its fields in the order of `serialise`."""
    return _to_bytes(tf_example_pb2.Example.FromString(record))


def _to_bytes(example: tf_example_pb2.Example) -> bytes:
    """Serialise with sorted fields: protobuf's default order differs from process to process."""
    return example.SerializeToString(deterministic=True)
