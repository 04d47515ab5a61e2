"""Opens feature records: what they say of the clips, and views whose features stay on disk."""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ser_jax.errors import UserError
from ser_jax.features import FeatureSpec
from ser_jax.splits import Clips

ORIGINAL = "original"
_READ_AT_ONCE = 512  # records


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
    wanted = [name for name in builder.info.features if name != "planes"]
    rows = sorted((row for _, row in View(builder, ORIGINAL, wanted)), key=lambda row: row["id"])
    try:
        metadata = dict(builder.info.metadata)
        corpus, labels, settings = (metadata[k] for k in ("corpus", "labels", "settings"))
    except Exception as error:  # a cut file is no JSON, an empty one has no keys
        raise _unreadable(folder, error) from error
    attributes = {
        name: tuple(row["attributes"][name].decode() for row in rows)
        for name in rows[0].get("attributes", {})
    }
    return Records(
        folder=folder,
        corpus=corpus,
        spec=FeatureSpec(**settings["features"]),
        labels=tuple(labels),
        views=(ORIGINAL, *settings["augmentation"]["views"]),
        clips=Clips(
            ids=tuple(row["id"].decode() for row in rows),
            speakers=tuple(row["speaker"].decode() for row in rows),
            labels=tuple(int(row["label"]) for row in rows),
            sha256=tuple(row["audio_sha256"].decode() for row in rows),
            label_names=tuple(labels),
            sentences=attributes.get("sentence", ()),
        ),
        attributes=attributes,
        votes=tuple(tuple(row["votes"].tolist()) for row in rows),
    )


class View:
    """One view's records, of which only some features are decoded: the rest costs nothing."""

    def __init__(self, builder: Any, name: str, wanted: Sequence[str], planes: Sequence[str] = ()):
        import tensorflow_datasets as tfds

        self._folder = builder.data_dir
        self._source = builder.as_data_source(
            name, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        )
        features = {name: builder.info.features[name] for name in wanted}
        if planes:
            features["planes"] = {plane: features["planes"][plane] for plane in planes}
        self._features = tfds.features.FeaturesDict(features)

    def __len__(self) -> int:
        return len(self._source)

    def __iter__(self) -> Iterator[tuple[int, dict[str, Any]]]:
        return self.read(range(len(self)))

    def read(self, position: Sequence[int]) -> Iterator[tuple[int, dict[str, Any]]]:
        """(position, record) for some positions in the files, many at a time."""
        for start in range(0, len(position), _READ_AT_ONCE):
            some = [int(i) for i in position[start : start + _READ_AT_ONCE]]
            try:
                raw = self._source.__getitems__(some)
                rows = [self._features.deserialize_example_np(record) for record in raw]
            except Exception as error:  # ArrayRecord and protobuf have no class in common
                raise self.damaged(_first_line(error)) from error
            yield from zip(some, rows, strict=True)

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
