"""Opens feature records: what they say of the clips, and views whose features stay on disk."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ser_jax.common.errors import UserError
from ser_jax.data.splits import Clips
from ser_jax.features import FeatureSpec

ORIGINAL = "original"
_READ_AT_ONCE, _BYTES_AT_ONCE = 4096, 2**26  # records, at most so many bytes of them


@dataclasses.dataclass(frozen=True)
class Records:
    """An opened folder of feature records; features stay on disk.

    Attributes:
      folder: where they are.
      corpus: its title.
      spec: the features' definition.
      labels: class names.
      views: the original first.
      clips: what protocols look at.
      attributes: {name: a value for each clip}.
      votes: listeners' votes for each clip, a count a class, or () for a clip without.
    """

    folder: Path
    corpus: str
    spec: FeatureSpec
    labels: tuple[str, ...]
    views: tuple[str, ...]
    clips: Clips
    attributes: dict[str, tuple[str, ...]]
    votes: tuple[tuple[int, ...], ...]


def open_records(folder: Path) -> Records:
    """Reads everything but the features.

    Raises:
      UserError: no records, or damaged ones.
    """
    builder = open_builder(folder)
    features = builder.info.features
    # Sorted, for what TFDS reads from its file has another order in each process.
    names = sorted(features["attributes"]) if "attributes" in features else []
    known: dict[Any, Any] = {}  # what many clips have in common is kept once

    def row_of(fields: Fields) -> tuple:
        common = (
            fields.text("speaker"),
            fields.numbers("label")[0],
            fields.numbers("votes"),
            *(fields.text(f"attributes/{name}") for name in names),
        )
        return (
            fields.text("id"),
            fields.text("audio_sha256"),
            *(known.setdefault(value, value) for value in common),
        )

    rows = sorted(row for _, row in View(builder, ORIGINAL, row_of))
    ids, sha256, speakers, labels, votes, *values = zip(*rows, strict=True)
    attributes = dict(zip(names, values, strict=True))
    try:
        metadata = dict(builder.info.metadata)
        corpus, class_names, settings = (metadata[k] for k in ("corpus", "labels", "settings"))
    except Exception as error:  # a cut file is no JSON, an empty one has no keys
        raise _unreadable(folder, error) from error
    return Records(
        folder=folder,
        corpus=corpus,
        spec=FeatureSpec(**settings["features"]),
        labels=tuple(class_names),
        views=(ORIGINAL, *settings["augmentation"]["views"]),
        clips=Clips(
            ids=ids,
            speakers=speakers,
            labels=labels,
            sha256=sha256,
            label_names=tuple(class_names),
            sentences=attributes.get("sentence", ()),
        ),
        attributes=attributes,
        votes=votes,
    )


class Fields:
    """A record's fields, each taken from its protocol buffer when it is asked for.

    TFDS decodes all of them, which takes several times as long as reading the record.
    """

    def __init__(self, example: Any, planes: Mapping[str, tuple[str, np.dtype, int]]):
        self._fields, self._planes = example.features.feature, planes

    def text(self, name: str) -> str:
        return self._fields[name].bytes_list.value[0].decode()

    def numbers(self, name: str) -> tuple[int, ...]:
        return tuple(self._fields[name].int64_list.value)

    def plane(self, name: str) -> np.ndarray:
        """[frames, columns], as it is stored."""
        key, dtype, width = self._planes[name]
        return np.frombuffer(self._fields[key].bytes_list.value[0], dtype).reshape(-1, width)


class View:
    """One view's records, of which only what `take` takes is decoded."""

    def __init__(self, builder: Any, name: str, take: Callable[[Fields], Any]):
        import tensorflow_datasets as tfds
        from tensorflow_datasets.proto import tf_example_pb2

        self._folder, self._take = builder.data_dir, take
        split = builder.info.splits[name]
        self._bytes_a_record = 1 + split.num_bytes // max(1, split.num_examples)
        self._parse = tf_example_pb2.Example.FromString
        self._planes = {
            plane: (f"planes/{plane}", feature.np_dtype, feature.shape[1])
            for plane, feature in builder.info.features["planes"].items()
        }
        self._source = builder.as_data_source(
            name, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        )

    def __len__(self) -> int:
        return len(self._source)

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        return self.read(range(len(self)))

    def read(self, position: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """(position, what is taken) for some positions in the files, many at a time."""
        at_once = max(1, min(_READ_AT_ONCE, _BYTES_AT_ONCE // self._bytes_a_record))
        for start in range(0, len(position), at_once):
            some = [int(i) for i in position[start : start + at_once]]
            try:
                raw = self._source.__getitems__(some)
                taken = [self._take(Fields(self._parse(record), self._planes)) for record in raw]
            except Exception as error:  # ArrayRecord and protobuf have no class in common
                raise self.damaged(_first_line(error)) from error
            yield from zip(some, taken, strict=True)

    def damaged(self, why: str) -> UserError:
        return UserError(
            f"{self._folder} holds a damaged record ({why}); delete the folder and run with "
            "--mode=prepare."
        )


def open_builder(folder: Path) -> Any:
    import tensorflow_datasets as tfds

    try:
        return tfds.builder_from_directory(os.fspath(folder))
    except Exception as error:  # TFDS raises a class of its own for each damage
        raise _unreadable(folder, error) from error


def _unreadable(folder: Path, error: Exception) -> UserError:
    return UserError(
        f"{folder} holds no readable records ({_first_line(error)}); delete it and run with "
        "--mode=prepare."
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
