"""Whisper as an encoder: waveform → hidden states of its positions, 20 ms each.

Clips need not be padded to the 30 s that Whisper was trained on, which would cost a clip of 3 s ten
times as much: the positions past a clip's end, or past the context that is asked for, are hidden
from the others. With a context of 30 s the states are those of the original.

Axes: B batch, S samples, T frames, M mel bands, P positions, D width.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from ser_jax.encoders import network
from ser_jax.encoders.embedding import Encoder
from ser_jax.features import spectral
from ser_jax.features.spec import Array, FeatureSpec

SCALE = -40.0, 40.0  # dB: mean and sd that turn the log-mel into the network's input


def front_end(n_mels: int) -> FeatureSpec:
    """Return the definition of the log-mel before its affine step."""
    return FeatureSpec(
        sampling_rate=Whisper.sampling_rate,
        pre_emphasis=0.0,
        frame_length=400,
        hop_length=160,
        n_fft=400,
        window="hann",
        centered=False,  # `_mel` puts half a frame before the clip
        n_mels=n_mels,
        top_db=80.0,
        n_mfcc=1,
        planes=("log_mel",),
    )


class Whisper(Encoder):
    """Whisper's encoder, of any size; all its computations can be traced by JAX."""

    sampling_rate = 16_000
    hop_length = 160 * network.STRIDE

    def __init__(self, size: network.Size, params: Mapping[str, Any]):
        self.n_states, self.width, self.longest = size.n_layers + 2, size.width, size.n_positions
        self._spec = front_end(size.n_mels)
        self._network = network.Encoder(size)
        self._params = jax.device_put(params)
        self._compiled = jax.jit(self._states, static_argnames="numbers")

    def states(
        self, waveform_BxS: Array, n_samples_B: Array, context: int, numbers: Sequence[int]
    ) -> list[jax.Array]:
        """Return some hidden states of a batch; see Encoder."""
        xp = n_samples_B.__array_namespace__()
        n_positions = -(-waveform_BxS.shape[1] // self.hop_length)
        # One more than count, since the convolutions of the last one look beyond it.
        n_computed = n_positions + context + 1  # of a symbolic length
        if isinstance(n_positions, int):
            n_computed = min(max(n_positions, context) + 1, self.longest)
        mel_BxTxM = self._mel(waveform_BxS, n_samples_B, n_computed * network.STRIDE)
        n_attended_B = xp.maximum(-(-n_samples_B // self.hop_length), context)
        states = self._compiled(self._params, mel_BxTxM, n_attended_B, numbers=tuple(numbers))
        return [state_BxPxD[:, :n_positions] for state_BxPxD in states]

    def _mel(self, waveform_BxS: Array, n_samples_B: Array, n_frames: int) -> Array:
        """Return the scaled log-mel of clips that are followed by silence, BxTxM."""
        xp, spec = waveform_BxS.__array_namespace__(), self._spec
        inside_BxS = xp.arange(waveform_BxS.shape[1]) < n_samples_B[:, None]
        waveform_BxS = xp.where(inside_BxS, waveform_BxS, np.float32(0))
        n_needed = spec.n_samples(n_frames)
        silence = xp.zeros((waveform_BxS.shape[0], n_needed), np.float32)
        padded_BxS = xp.concatenate([waveform_BxS, silence], axis=1)
        # The original reflects the signal at its start, and at its end, where it is silent.
        reflected_BxS = padded_BxS[:, spec.frame_length // 2 : 0 : -1]
        padded_BxS = xp.concatenate([reflected_BxS, padded_BxS], axis=1)[:, :n_needed]
        all_B = xp.full_like(n_samples_B, padded_BxS.shape[1])
        decibel_BxTxM = spectral.planes(spec, padded_BxS, all_B)["log_mel"]
        mean, sd = SCALE
        return (decibel_BxTxM[:, :n_frames] - mean) / sd

    def _states(
        self,
        params: Mapping[str, Any],
        mel_BxTxM: jax.Array,
        n_attended_B: jax.Array,
        *,
        numbers: tuple[int, ...],
    ) -> list[jax.Array]:
        with jax.default_matmul_precision("highest"):  # records must not depend on the device
            states = self._network.apply({"params": params}, mel_BxTxM, n_attended_B)
        return [states[number] for number in numbers]
