"""Feature records on disk: what they say about the clips, and views that decode on demand."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ser_jax.common.errors import UserError
from ser_jax.data.clips import Clips
from ser_jax.features import FeatureSpec

ORIGINAL = "original"
_RECORDS_PER_READ, _BYTES_PER_READ = 4096, 2**26  # whichever is less


@dataclasses.dataclass(frozen=True)
class Records:
    """An opened folder of feature records; the features stay on disk."""

    folder: Path
    corpus: str  # its title
    spec: FeatureSpec
    labels: tuple[str, ...]  # class names
    views: tuple[str, ...]  # the original first
    clips: Clips  # the table that protocols split
    attributes: dict[str, tuple[str, ...]]  # {name: value of each clip}
    votes: tuple[tuple[int, ...], ...]  # listeners' votes per class for each clip, or ()
    licence: str = ""  # of the corpus; "" if it is not recorded
    # {id: reason} of clips that could not be used.
    left_out: Mapping[str, str] = dataclasses.field(default_factory=dict)


def open_records(folder: Path) -> Records:
    """Read everything but the features.

    Raises:
      UserError: the folder holds no records, or damaged ones.
    """
    builder = open_builder(folder)
    features = builder.info.features
    # Sorted: the order in which TFDS reads them from its file differs between processes.
    names = sorted(features["attributes"]) if "attributes" in features else []
    interned: dict[Any, Any] = {}  # values that many clips share are kept once

    def row_of(fields: Fields) -> tuple:
        shared = (
            fields.text("speaker"),
            fields.numbers("label")[0],
            fields.numbers("votes"),
            *(fields.text(f"attributes/{name}") for name in names),
        )
        return (
            fields.text("id"),
            fields.text("audio_sha256"),
            *(interned.setdefault(value, value) for value in shared),
        )

    rows = sorted(row for _, row in View(builder, ORIGINAL, row_of))
    ids, sha256, speakers, labels, votes, *values = zip(*rows, strict=True)
    attributes = dict(zip(names, values, strict=True))
    try:
        metadata = dict(builder.info.metadata)
        corpus, class_names, settings = (metadata[k] for k in ("corpus", "labels", "settings"))
    except Exception as error:  # truncated JSON or missing keys
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
            attributes=attributes,
        ),
        attributes=attributes,
        votes=votes,
        licence=metadata.get("licence", ""),
        left_out=metadata.get("left_out", {}),
    )


class Fields:
    """Fields of one record, each decoded from its protocol buffer on access.

    TFDS would decode all of them, which takes several times as long as reading the record.
    """

    def __init__(self, example: Any, planes: Mapping[str, tuple[str, np.dtype, int]]):
        self._fields, self._planes = example.features.feature, planes

    def text(self, name: str) -> str:
        return self._fields[name].bytes_list.value[0].decode()

    def numbers(self, name: str) -> tuple[int, ...]:
        return tuple(self._fields[name].int64_list.value)

    def plane(self, name: str) -> np.ndarray:
        """Return a plane of features as stored, [frames, columns]."""
        key, dtype, width = self._planes[name]
        return np.frombuffer(self._fields[key].bytes_list.value[0], dtype).reshape(-1, width)


class View:
    """The records of one view, as the values that `take` extracts from their fields."""

    def __init__(self, builder: Any, name: str, take: Callable[[Fields], Any]):
        import tensorflow_datasets as tfds
        from tensorflow_datasets.proto import tf_example_pb2

        self._folder, self._take = builder.data_dir, take
        split = builder.info.splits[name]
        self._bytes_per_record = 1 + split.num_bytes // max(1, split.num_examples)
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

    def read(self, positions: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """Yield (position, value) for these positions in the files, reading many at a time."""
        size = max(1, min(_RECORDS_PER_READ, _BYTES_PER_READ // self._bytes_per_record))
        for start in range(0, len(positions), size):
            chunk = [int(i) for i in positions[start : start + size]]
            try:
                records = self._source.__getitems__(chunk)
                values = [self._take(Fields(self._parse(r), self._planes)) for r in records]
            except Exception as error:  # ArrayRecord's and protobuf's errors share no base class
                raise self.damaged(_first_line(error)) from error
            yield from zip(chunk, values, strict=True)

    def damaged(self, reason: str) -> UserError:
        return UserError(
            f"{self._folder} holds a damaged record ({reason}); delete the folder and run with "
            "--mode=prepare."
        )


def open_builder(folder: Path) -> Any:
    """Return the TFDS builder of a folder of records."""
    import tensorflow_datasets as tfds

    try:
        return tfds.builder_from_directory(os.fspath(folder))
    except Exception as error:  # TFDS raises a different class for each kind of damage
        raise _unreadable(folder, error) from error


def _unreadable(folder: Path, error: Exception) -> UserError:
    return UserError(
        f"{folder} holds no readable records ({_first_line(error)}); delete it and run with "
        "--mode=prepare."
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
