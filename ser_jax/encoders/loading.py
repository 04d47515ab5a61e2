"""The encoder that a path names, and its description."""

import functools
import threading
from collections.abc import Sequence
from pathlib import Path

from ser_jax.common import files
from ser_jax.common.errors import UserError
from ser_jax.encoders import weights
from ser_jax.encoders.embedding import Encoder
from ser_jax.features.spec import EncoderSpec

# A cache alone would let each thread of a pool that starts load the weights for itself.
_loading = threading.Lock()


def describe(
    path: Path, *, pooling: str = "statistics", states: Sequence[int] = (), context: float = 0.0
) -> EncoderSpec:
    """Return what identifies an encoder and what is kept of its hidden states.

    Args:
      path: the folder of an encoder, or its file.
      pooling, states, context: see EncoderSpec.

    Raises:
      UserError: there is no encoder, it is damaged, or the settings do not fit it.
    """
    from ser_jax.encoders.whisper import Whisper

    file = weights.file_in(path)
    size = weights.read_size(file)
    return EncoderSpec(
        sha256=_sha256_of(file),
        width=size.width,
        n_states=size.n_layers + 2,
        hop_length=Whisper.hop_length,
        pooling=pooling,
        states=tuple(states),
        context=context,
    )


def load(path: Path, spec: EncoderSpec) -> Encoder:
    """Return the encoder at a path, loaded once per process.

    Raises:
      UserError: there is no encoder, it is damaged, or not the one that `spec` describes.
    """
    file = weights.file_in(path)
    with _loading:
        if (sha256 := _sha256_of(file)) != spec.sha256:
            raise UserError(
                f"{file} is another encoder (SHA-256 {sha256[:12]}…) than the one of the features "
                f"({spec.sha256[:12]}…); give that one, or prepare again."
            )
        return _load(file)


@functools.cache
def _sha256_of(file: Path) -> str:
    return files.sha256_of(file)


@functools.cache
def _load(file: Path) -> Encoder:
    from ser_jax.encoders.whisper import Whisper

    return Whisper(*weights.read(file))
