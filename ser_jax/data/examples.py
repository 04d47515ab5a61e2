"""Training examples: features in memory or read batch by batch, normalisation, batch order.

An example is one view of one clip. Example number = view number · clips + clip number, with clips
sorted by id: original views come first, so a clip's number is also that of its original example.
Axes: N examples, B batch, S steps, G replicas, T frames, F feature columns.
"""

import math
from collections.abc import Sequence

import numpy as np

from ser_jax.common.errors import UserError
from ser_jax.data.records import ORIGINAL, Fields, Records, View, open_builder
from ser_jax.features import INPUTS

SAMPLINGS = ("shuffled", "balanced")
_EXAMPLES_PER_FIT = 512  # in memory at a time while the normalisation is fitted
_ALIGNMENT = 64  # bytes, as XLA:CPU requires


class Examples:
    """The views that a run needs, in memory if they fit, else read from disk batch by batch.

    Attributes:
      n_frames_N: number of frames of each example, at most max_frames.
      label_N: class number of each example.
      clip_N: clip number of each example.
      max_frames: length that all examples are padded and cut to.
      width: number of feature columns F.
      fixed_frames: whether frame t is the same thing in every clip, a hidden state of an encoder.
      x_NxTxF: float32 features, zero past an example's end; None if they are streamed.
    """

    def __init__(
        self,
        records: Records,
        *,
        kind: str,
        views: Sequence[str] = (),
        max_frames: int = 0,
        memory_limit_gb: float = 8.0,
    ):
        """Open the views.

        Args:
          kind: a key of features.INPUTS.
          views: augmented views to use beside the original.
          max_frames: see above; 0 takes the longest original.
          memory_limit_gb: size, in 10⁹ bytes, above which the features are streamed.

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
        self.fixed_frames = records.spec.fixed_frames
        builder = open_builder(records.folder)
        names = (ORIGINAL, *views)
        self._views = [View(builder, name, self._features_of) for name in names]
        n_clips, n_views = len(records.clips.ids), len(self._views)
        self.width = sum(records.spec.width(plane) for plane in self._planes)
        self.label_N = np.tile(np.array(records.clips.labels, np.int32), n_views)
        self.clip_N = np.tile(np.arange(n_clips, dtype=np.int32), n_views)
        self.n_frames_N = np.zeros(n_views * n_clips, np.int32)
        self._position_N = np.zeros(n_views * n_clips, np.int64)  # in the files of its view
        clip_of = {clip_id: i for i, clip_id in enumerate(records.clips.ids)}
        for number, name in enumerate(names):
            view = View(builder, name, lambda f: (f.text("id"), f.numbers("n_frames")[0]))
            if len(view) != n_clips:
                raise view.damaged("a view lacks clips")
            for position, (clip_id, n_frames) in view:
                example = number * n_clips + clip_of[clip_id]
                self.n_frames_N[example] = n_frames
                self._position_N[example] = position
        self.max_frames = max_frames or int(self.n_frames_N[:n_clips].max())
        self.n_frames_N = np.minimum(self.n_frames_N, self.max_frames)
        self.x_NxTxF: np.ndarray | None = None
        if self.n_bytes <= memory_limit_gb * 1e9:
            self.x_NxTxF = self.read(np.arange(len(self.label_N)))

    @property
    def n_bytes(self) -> int:
        """Size of all features in memory."""
        return len(self.label_N) * self.bytes_per_example

    @property
    def bytes_per_example(self) -> int:
        return 4 * self.max_frames * self.width

    def batch(self, example_B: np.ndarray) -> np.ndarray:
        """Return the features of these examples, float32 [B, max_frames, F]."""
        return self.read(example_B) if self.x_NxTxF is None else self.x_NxTxF[example_B]

    def read(self, example_B: np.ndarray) -> np.ndarray:
        """Return the same as `batch`, from disk."""
        x_BxTxF = _aligned_zeros((len(example_B), self.max_frames, self.width))
        n_clips = len(self.label_N) // len(self._views)
        for number, view in enumerate(self._views):
            rows = np.flatnonzero(example_B // n_clips == number)
            positions = self._position_N[example_B[rows]]
            in_file_order = np.argsort(positions)
            features = view.read(positions[in_file_order])
            for row, (_, x_TxF) in zip(rows[in_file_order], features, strict=True):
                x_BxTxF[row, : len(x_TxF)] = x_TxF
        return x_BxTxF

    def _features_of(self, fields: Fields) -> np.ndarray:
        planes = [fields.plane(name)[: self.max_frames] for name in self._planes]
        return planes[0] if len(planes) == 1 else np.concatenate(planes, axis=1)


def _aligned_zeros(shape: Sequence[int]) -> np.ndarray:
    """Return float32 zeros aligned so that XLA:CPU uses the array itself instead of a copy."""
    n_bytes = 4 * math.prod(shape)
    memory = np.zeros(n_bytes + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    return memory[start : start + n_bytes].view(np.float32).reshape(shape)


def fit_normalisation(examples: Examples, example_M: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each column, float32 [F] each.

    They are over all frames, or per frame if these are fixed, [T, F]. The standard deviation of a
    constant column is 1.
    """
    n, total, squares = 0, 0.0, 0.0
    # Sums are about an offset near the mean: the variance from raw sums of squares would cancel.
    offset_F = None
    for start in range(0, len(example_M), _EXAMPLES_PER_FIT):
        example_B = example_M[start : start + _EXAMPLES_PER_FIT]
        valid_BxT = np.arange(examples.max_frames) < examples.n_frames_N[example_B, None]
        x_BxTxF = examples.batch(example_B)
        x_KxF = x_BxTxF if examples.fixed_frames else x_BxTxF[valid_BxT]
        x_KxF = x_KxF.astype(np.float64)
        offset_F = x_KxF.mean(axis=0) if offset_F is None else offset_F
        n += len(x_KxF)
        total = total + (x_KxF - offset_F).sum(axis=0)
        squares = squares + ((x_KxF - offset_F) ** 2).sum(axis=0)
    sd_F = np.sqrt(np.maximum(squares / n - (total / n) ** 2, 0))
    sd_F = np.where(sd_F > 1e-12, sd_F, 1.0)
    return (offset_F + total / n).astype(np.float32), sd_F.astype(np.float32)


def shuffled_batches(
    example_N: np.ndarray,
    batch_size: int,
    seed: int,
    epoch: int,
    label_N: np.ndarray | None = None,
) -> np.ndarray:
    """Return one epoch's example numbers in random order, SxB; −1 fills the last batch.

    The order is a function of the arguments alone. With the examples' labels there are as many of
    each class, up to one, and as many in all: rare ones come again, of frequent ones some wait.
    """
    random = np.random.default_rng([seed, epoch])
    if label_N is not None:
        members = [example_N[label_N == label] for label in np.unique(label_N)]
        shares = np.diff(np.linspace(0, len(example_N), len(members) + 1).astype(int))
        repeated = [
            [random.permutation(own) for _ in range(-(-n // len(own)))]
            for own, n in zip(members, shares, strict=True)
        ]
        example_N = np.concatenate(
            [np.concatenate(rounds)[:n] for rounds, n in zip(repeated, shares, strict=True)]
        )
    return sequential_batches(random.permutation(example_N), batch_size)


def sequential_batches(example_N: np.ndarray, batch_size: int) -> np.ndarray:
    """Return the example numbers in their order, SxB; −1 fills the last batch."""
    n_steps = -(-len(example_N) // batch_size)
    filled = np.full(n_steps * batch_size, -1, np.int32)
    filled[: len(example_N)] = example_N
    return filled.reshape(n_steps, batch_size)


def stack_batches(orders: Sequence[np.ndarray]) -> np.ndarray:
    """Stack the batches of several replicas, SxB each, to GxSxB; empty batches fill the end."""
    n_steps = max(map(len, orders))
    return np.stack(
        [np.pad(o, ((0, n_steps - len(o)), (0, 0)), constant_values=-1) for o in orders]
    )
