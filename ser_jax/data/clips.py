"""The table of a corpus's clips, which protocols split."""

import dataclasses
from collections.abc import Mapping

import numpy as np


@dataclasses.dataclass(frozen=True)
class Clips:
    """What a protocol may look at: columns of equal length, sorted by the unique ids."""

    ids: tuple[str, ...]
    speakers: tuple[str, ...]
    labels: tuple[int, ...]  # class numbers
    sha256: tuple[str, ...]  # checksums of the decoded samples; () before they are decoded
    label_names: tuple[str, ...]
    sentences: tuple[str, ...] = ()  # "" where unknown; () if the corpus provides none
    # Further columns of the corpus: {name: value of each clip}.
    attributes: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    def take(self, rows: np.ndarray) -> "Clips":
        """Return these rows as a table of their own."""

        def taken(column: tuple) -> tuple:
            return tuple(column[row] for row in rows) if column else ()

        names = "ids speakers labels sha256 sentences".split()
        return dataclasses.replace(
            self,
            **{name: taken(getattr(self, name)) for name in names},
            attributes={name: taken(column) for name, column in self.attributes.items()},
        )
