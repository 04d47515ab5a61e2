"""Records → examples: read once, normalised by the training part, in a seeded order.

An example is one view of one clip. Example number = view number · clips + clip number, with clips
sorted by id, so the original views come first and a clip's number is also its first example.
Axes: N examples, T frames, F feature columns.
"""

import math
from collections.abc import Sequence

import numpy as np

from ser_jax.common.errors import UserError
from ser_jax.data import records as data_records
from ser_jax.features import INPUTS

_FIT_AT_ONCE = 512  # examples
_ALIGNMENT = 64  # bytes; XLA:CPU's


class Examples:
    """The views that a run needs, in memory if they fit, else read from disk batch by batch.

    Attributes:
      n_frames_N: frames of each example, at most max_frames.
      label_N: class number of each.
      clip_N: clip number of each.
      max_frames: all are padded and cut to this.
      width: feature columns F.
      x_NxTxF: the features, float32, zero past an example's end; None if they are streamed.
    """

    def __init__(
        self,
        records: data_records.Records,
        *,
        kind: str,
        views: Sequence[str] = (),
        max_frames: int = 0,
        memory_limit_gb: float = 8.0,
    ):
        """Opens the views.

        Args:
          records: where from.
          kind: a key of features.INPUTS.
          views: augmented views, beside the original.
          max_frames: 0 takes the longest original.
          memory_limit_gb: larger arrays are streamed, 10⁹ bytes.

        Raises:
          UserError: the records lack a view or a plane, or are damaged.
        """
        if kind not in INPUTS:
            raise UserError(f"input.kind={kind!r} is unknown; use one of {', '.join(INPUTS)}.")
        missing = sorted(set(views) - set(records.views)) + [
            plane for plane in INPUTS[kind] if plane not in records.spec.planes
        ]
        if missing:
            raise UserError(
                f"{records.folder} has no {missing[0]}; add it to augmentation.views or to "
                "features.planes and prepare again."
            )
        self._planes = INPUTS[kind]
        builder = data_records.open_builder(records.folder)
        names = (data_records.ORIGINAL, *views)
        self._views = [data_records.View(builder, name, self._features_of) for name in names]
        n_clips, n_views = len(records.clips.ids), len(self._views)
        self.width = sum(records.spec.width(plane) for plane in self._planes)
        self.label_N = np.tile(np.array(records.clips.labels, np.int32), n_views)
        self.clip_N = np.tile(np.arange(n_clips, dtype=np.int32), n_views)
        self.n_frames_N = np.zeros(n_views * n_clips, np.int32)
        self._position_N = np.zeros(n_views * n_clips, np.int64)  # in its view's files
        clip_of = {clip_id: i for i, clip_id in enumerate(records.clips.ids)}
        for view, name in enumerate(names):
            self._scan(view, data_records.View(builder, name, _id_and_length), clip_of)
        self.max_frames = max_frames or int(self.n_frames_N[:n_clips].max())
        self.n_frames_N = np.minimum(self.n_frames_N, self.max_frames)
        self.x_NxTxF: np.ndarray | None = None
        if self.n_bytes <= memory_limit_gb * 1e9:
            self.x_NxTxF = self.read(np.arange(len(self.label_N)))

    @property
    def n_bytes(self) -> int:
        """What all features take in memory."""
        return len(self.label_N) * self.bytes_an_example

    @property
    def bytes_an_example(self) -> int:
        return 4 * self.max_frames * self.width

    def read(self, example_B: np.ndarray) -> np.ndarray:
        """Features of some examples from disk: float32 [B, max_frames, F]."""
        x_BxTxF = _aligned_zeros((len(example_B), self.max_frames, self.width))
        n_clips = len(self.label_N) // len(self._views)
        for view, source in enumerate(self._views):
            here = np.flatnonzero(example_B // n_clips == view)
            position = self._position_N[example_B[here]]
            in_file_order = np.argsort(position)
            rows = source.read(position[in_file_order])
            for row, (_, x_TxF) in zip(here[in_file_order], rows, strict=True):
                x_BxTxF[row, : len(x_TxF)] = x_TxF
        return x_BxTxF

    def batch(self, example_B: np.ndarray) -> np.ndarray:
        """Features of some examples, from memory or from disk."""
        return self.read(example_B) if self.x_NxTxF is None else self.x_NxTxF[example_B]

    def _features_of(self, fields: data_records.Fields) -> np.ndarray:
        planes = [fields.plane(name)[: self.max_frames] for name in self._planes]
        return planes[0] if len(planes) == 1 else np.concatenate(planes, axis=1)

    def _scan(self, view: int, source: data_records.View, clip_of: dict[str, int]) -> None:
        """Notes where each clip of a view is and how long."""
        if len(source) != len(clip_of):
            raise source.damaged("a view lacks clips")
        for position, (clip_id, n_frames) in source:
            example = view * len(clip_of) + clip_of[clip_id]
            self.n_frames_N[example] = n_frames
            self._position_N[example] = position


def _id_and_length(fields: data_records.Fields) -> tuple[str, int]:
    return fields.text("id"), fields.numbers("n_frames")[0]


def _aligned_zeros(shape: Sequence[int]) -> np.ndarray:
    """float32, where XLA wants it: on a CPU it then takes the very array, not a copy of all."""
    n_bytes = 4 * math.prod(shape)
    memory = np.zeros(n_bytes + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + n_bytes].view(np.float32).reshape(shape)


def fit_normalisation(examples: Examples, example_M: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column over the frames of some examples.

    Returns:
      float32 [F] each; a constant column keeps its scale.
    """
    n, total, squares = 0, 0.0, 0.0
    # About a common offset, since a variance from raw sums of squares would cancel.
    offset_F = None
    for start in range(0, len(example_M), _FIT_AT_ONCE):
        some = example_M[start : start + _FIT_AT_ONCE]
        inside_BxT = np.arange(examples.max_frames) < examples.n_frames_N[some, None]
        x_KxF = examples.batch(some)[inside_BxT].astype(np.float64)
        offset_F = x_KxF.mean(axis=0) if offset_F is None else offset_F
        n += len(x_KxF)
        total = total + (x_KxF - offset_F).sum(axis=0)
        squares = squares + ((x_KxF - offset_F) ** 2).sum(axis=0)
    sd_F = np.sqrt(np.maximum(squares / n - (total / n) ** 2, 0))
    sd_F = np.where(sd_F > 1e-12, sd_F, 1.0)
    return (offset_F + total / n).astype(np.float32), sd_F.astype(np.float32)


def shuffled(example_N: np.ndarray, batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """One epoch's order, [steps, batch_size]; −1 fills the last batch. Depends on nothing else."""
    order = np.random.default_rng([seed, epoch]).permutation(example_N)
    return in_batches(order, batch_size)


def in_batches(example_N: np.ndarray, batch_size: int) -> np.ndarray:
    """[steps, batch_size], in order; −1 fills the last batch, so that no example is left out."""
    n_steps = -(-len(example_N) // batch_size)
    filled = np.full(n_steps * batch_size, -1, np.int32)
    filled[: len(example_N)] = example_N
    return filled.reshape(n_steps, batch_size)


def padded(orders: Sequence[np.ndarray]) -> np.ndarray:
    """Orders of several replicas, SxB each → GxSxB; the shorter ones end in empty batches."""
    n_steps = max(map(len, orders))
    return np.stack(
        [np.pad(o, ((0, n_steps - len(o)), (0, 0)), constant_values=-1) for o in orders]
    )
