"""Encoders of other libraries: waveform → hidden states, clip by clip.

Axes: B batch, S samples, P positions, D width.
"""

import abc
import bisect
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ser_jax.common.errors import UserError
from ser_jax.encoders.embedding import Encoder
from ser_jax.features.spec import LONGEST_EMBEDDED, Array, EncoderSpec


class ClipwiseEncoder(Encoder):
    """An encoder that JAX cannot trace. A new one defines `run`, and calls `measure` when ready.

    Each clip is computed at its own length, since many encoders normalise over all of their input,
    padding included.

    Attributes:
      path: where it lies, for messages.
      fixed: samples of every input, if it takes one length alone, else 0.
    """

    takes_batches = False

    def __init__(self, path: Path, sampling_rate: int):
        self.path, self.sampling_rate, self.fixed = path, sampling_rate, 0

    @abc.abstractmethod
    def run(self, waveform_1xS: np.ndarray) -> Sequence[np.ndarray]:
        """Return all hidden states of a clip, 1xPxD each; may be called by several threads."""

    def embed(self, spec: EncoderSpec, waveform_BxS: Array, n_samples_B: Array) -> Array:
        """Return the plane of a padded batch of clips; see Encoder."""
        if not isinstance(waveform_BxS, np.ndarray):
            raise UserError(
                f"the encoder {self.path} is no program of JAX, so it cannot be part of an "
                "exported file; predict with the workdir of the run."
            )
        return super().embed(spec, waveform_BxS, n_samples_B)

    def states(
        self,
        waveform_BxS: np.ndarray,
        n_samples_B: np.ndarray,
        context: int,
        numbers: Sequence[int],
    ) -> list[np.ndarray]:
        """Return some hidden states of a batch; see Encoder."""
        shape = len(waveform_BxS), self.n_positions(waveform_BxS.shape[1]), self.width
        states = [np.zeros(shape, np.float32) for _ in numbers]
        seen = context * self.hop_length + self.least - 1 if context else 0
        for row, n_samples in enumerate(map(int, n_samples_B)):
            padded_S = np.zeros(self.fixed or max(n_samples, self.least, seen), np.float32)
            padded_S[:n_samples] = waveform_BxS[row, :n_samples]
            states_of_clip = self._states_of(padded_S)
            n_valid = min(self.n_positions(n_samples), shape[1], len(states_of_clip[0]))
            for state_BxPxD, number in zip(states, numbers, strict=True):
                state_BxPxD[row, :n_valid] = states_of_clip[number][:n_valid]
        return states

    def measure(self) -> None:
        """Find the sizes of the states, and how many positions a clip has, with silent clips.

        Raises:
          UserError: the states are not as they must be.
        """
        n_samples = self.fixed or self.sampling_rate // 2
        states = self._states_of(np.zeros(n_samples, np.float32))
        self.n_states, (n_positions, self.width) = len(states), states[0].shape
        if self.fixed:
            self.hop_length, self.longest = self.fixed // n_positions, n_positions
            return

        def count(n: int) -> int:
            return len(self._states_of(np.zeros(n, np.float32))[0])

        def first_with_more_than(n_before: int, start: int) -> int:
            """Return the least number of samples from `start` on with more than these positions."""
            likely = range(start, start + 2 * n_samples // max(1, added))
            return start + bisect.bisect_right(likely, n_before, key=count)

        added = count(2 * n_samples) - n_positions
        first = first_with_more_than(n_positions, n_samples)
        second = first_with_more_than(n_positions + 1, first)
        self.hop_length, self.least = second - first, first - n_positions * (second - first)
        if added < 1 or count(2 * n_samples) != self.n_positions(2 * n_samples):
            raise UserError(
                f"{self.path} has {n_positions} positions for half a second and "
                f"{n_positions + added} for one, which are not a constant time apart; give an "
                "encoder whose positions follow the waveform."
            )
        self.longest = LONGEST_EMBEDDED * self.sampling_rate // self.hop_length

    def _states_of(self, waveform_S: np.ndarray) -> list[np.ndarray]:
        """Return all hidden states of a clip, PxD each, after checking them."""
        n_samples = len(waveform_S)
        try:
            states = [np.asarray(x) for x in self.run(waveform_S[None])]
        except Exception as error:  # each library has its own
            reason = " ".join(str(error).split())
            raise UserError(
                f"{self.path} cannot compute a clip of {n_samples} samples ({reason[:200]})."
            ) from error
        shapes = [x.shape for x in states]
        if len({*shapes}) != 1 or len(shapes[0]) != 3 or len(states[0]) != 1 or not states[0].size:
            raise UserError(
                f"{self.path} returns arrays of shape {', '.join(map(str, shapes)) or 'none'} for "
                "one clip; an encoder's layers are [1, positions, width] and alike."
            )
        if not all(np.isfinite(x).all() for x in states):
            raise UserError(
                f"{self.path} returns values that are not finite for a clip of {n_samples} "
                "samples; its weights may be damaged."
            )
        return [x[0] for x in states]
