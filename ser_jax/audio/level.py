"""DC offset and clipping of a recording, block by block. Axes: S samples, C channels."""

import numpy as np

FULL_SCALE = 1 - 2**-15  # the largest positive 16-bit sample
CLIPPED_RUN = 3  # consecutive samples at full scale; peak normalisation makes only single ones
MUCH_CLIPPING = 0.01
LARGE_OFFSET = 0.02


class Level:
    """Measures a recording.

    Attributes:
      n_samples: per channel.
      n_clipped: samples, in the channel with most, that end a run of CLIPPED_RUN at full scale.
    """

    def __init__(self):
        self.n_samples = 0
        self.n_clipped = 0
        self._sum = 0.0
        self._clipped_C: np.ndarray | float = 0.0
        self._tail_SxC: np.ndarray | None = None

    def add(self, block_SxC: np.ndarray) -> np.ndarray:
        """Measure the next block; return it with its channels averaged, [S]."""
        mono_S = block_SxC[:, 0] if block_SxC.shape[1] == 1 else block_SxC.mean(axis=1)
        self.n_samples += len(mono_S)
        self._sum += float(mono_S.sum(dtype=np.float64))
        # Blocks overlap, so that a run across a border is found.
        tail_SxC, self._tail_SxC = self._tail_SxC, block_SxC[1 - CLIPPED_RUN :]
        if max(block_SxC.max(), -block_SxC.min()) >= FULL_SCALE:
            if tail_SxC is not None and tail_SxC.shape[1] == block_SxC.shape[1]:
                block_SxC = np.concatenate([tail_SxC, block_SxC])
            full_SxC = np.abs(block_SxC) >= FULL_SCALE
            n_ends = max(len(full_SxC) - CLIPPED_RUN + 1, 0)
            runs_SxC = np.all([full_SxC[i : n_ends + i] for i in range(CLIPPED_RUN)], axis=0)
            self._clipped_C = self._clipped_C + runs_SxC.sum(axis=0)
            self.n_clipped = int(np.max(self._clipped_C))
        return mono_S

    @property
    def offset(self) -> float:
        """The mean of the samples."""
        return self._sum / max(self.n_samples, 1)

    @property
    def has_offset(self) -> bool:
        """Whether the offset is large."""
        return abs(self.offset) > LARGE_OFFSET

    @property
    def clipped_share(self) -> float:
        """The share of clipped samples."""
        return self.n_clipped / max(self.n_samples, 1)

    def notes(self) -> list[str]:
        """Return remarks on what would change a prediction."""
        notes = []
        if self.has_offset:
            notes.append(f"DC offset of {self.offset:+.2f} of full scale: remove it")
        if self.clipped_share > MUCH_CLIPPING:
            notes.append(f"clipped: {100 * self.clipped_share:.1f} % of its samples")
        return notes
