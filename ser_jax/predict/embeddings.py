"""What the network saw of each file, as one .npz for one's own use.

Axes: N files or segments, T frames, F columns.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ser_jax.common.errors import UserError
from ser_jax.common.files import replacing
from ser_jax.predict.formats import Row


def write(path: Path, rows: Sequence[Row]) -> None:
    """Write path [N], start and end [N] in seconds (NaN for whole files) and embedding [N, T, F].

    Raises:
      UserError: no file could be read, or `path` cannot be written.
    """
    if not rows:
        raise UserError(f"no file could be read, so {path} was not written.")
    spans = np.array([row.span or (np.nan, np.nan) for row in rows], np.float64)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            path=np.array([row.path for row in rows]),
            start=spans[:, 0],
            end=spans[:, 1],
            embedding=np.stack([row.prediction.features_TxF for row in rows]),
        )
