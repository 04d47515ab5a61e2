"""A clip → the records of its views. The workers' part of a build; JAX is not loaded for it."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import example_serializer
from tensorflow_datasets.proto import tf_example_pb2

from data_prep.augmentation import views as augmentation_views
from data_prep.corpora import Utterance
from data_prep.records.recipe import Recipe
from ser_jax import features
from ser_jax.audio import waveform
from ser_jax.common.errors import UserError


def schema(recipe: Recipe) -> tfds.features.FeaturesDict:
    """What a record holds."""
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
                    encoding="bytes",  # numbers one by one take longer than to compute
                )
                for plane in recipe.spec.planes
            },
        }
    )


def make(
    recipe: Recipe, views: Sequence[str], clips: Sequence[Utterance], left_out: dict[str, str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The examples of some clips.

    Args:
      recipe: what they are made of.
      views: of each clip, which is decoded once.
      clips: any number.
      left_out: takes {clip id: why} of those that cannot be used.

    Yields:
      (view, example), an example as TFDS wants it.
    """
    rate = recipe.spec.sampling_rate
    for clip in clips:
        try:
            waveform_S = waveform.load(clip.path, rate)
        except UserError as error:
            left_out[clip.id] = str(error)
            continue
        about = {
            "id": clip.id,
            "label": clip.emotion,
            "speaker": clip.speaker,
            "audio_sha256": hashlib.sha256(waveform_S.tobytes()).hexdigest(),
            "votes": np.array(clip.votes, np.int32),
            "attributes": dict(clip.attributes),
        }
        for view, view_S in augmentation_views.views_of(
            recipe.augmentation, views, waveform_S, rate, clip.id
        ):
            planes = features.extract_clip(recipe.spec, view_S)
            stored = {name: x_TxF.astype(recipe.dtype) for name, x_TxF in planes.items()}
            yield view, {**about, "n_frames": recipe.spec.n_frames(len(view_S)), "planes": stored}


def serialised(
    recipe: Recipe,
    fields: tfds.features.FeaturesDict,
    views: Sequence[str],
    clips: Sequence[Utterance],
) -> tuple[list[tuple[str, str, bytes]], dict[str, str]]:
    """The same as bytes.

    Returns:
      (view, clip id, record) of each, and {clip id: why} of those that are left out.
    """
    serializer = example_serializer.ExampleSerializer(fields.get_serialized_info())
    left_out: dict[str, str] = {}
    records = []
    for view, example in make(recipe, views, clips, left_out):
        fields_in_protobuf = serializer.get_tf_example(fields.encode_example(example))
        records.append((view, example["id"], _in_order(fields_in_protobuf)))
    return records, left_out


def sort_fields(record: bytes) -> bytes:
    """A record of TFDS as `serialised` gives it."""
    return _in_order(tf_example_pb2.Example.FromString(record))


def _in_order(example: tf_example_pb2.Example) -> bytes:
    """Its fields sorted: protobuf's own order differs from process to process."""
    return example.SerializeToString(deterministic=True)
