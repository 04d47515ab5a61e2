"""The encoder that a path names, and its description.

A path may name

    FOLDER               of Whisper, with model.safetensors, or that file: our own network
    FOLDER               of another encoder in Hugging Face's layout, by transformers and PyTorch
    transformers:FOLDER  any encoder in that layout, Whisper too, by transformers and PyTorch
    FILE.onnx            by onnxruntime
"""

import functools
import os
import threading
from collections.abc import Sequence
from pathlib import Path

from ser_jax.common import files
from ser_jax.common.errors import UserError
from ser_jax.encoders import onnx_file, transformers_folder, weights
from ser_jax.encoders.embedding import Encoder
from ser_jax.features.spec import EncoderSpec

_BY_TRANSFORMERS = "transformers:"
# A cache alone would let each thread of a pool that starts load the weights for itself.
_loading = threading.Lock()


def describe(
    path: Path,
    *,
    sampling_rate: int = 16_000,
    pooling: str = "statistics",
    states: Sequence[int] = (),
    context: float = 0.0,
) -> EncoderSpec:
    """Return what identifies an encoder and what is kept of its hidden states.

    Args:
      path: see above.
      sampling_rate: of the waveforms, Hz.
      pooling, states, context: see EncoderSpec.

    Raises:
      UserError: there is no encoder, it is damaged, or the settings do not fit it.
    """
    kind, path = _found(path)
    sha256 = _sha256_of(path)
    if kind == "whisper":  # the header of its file says all
        from ser_jax.encoders.whisper import Whisper

        if sampling_rate != Whisper.sampling_rate:
            raise UserError(
                f"{path} takes waveforms at {Whisper.sampling_rate} Hz, and features.sampling_rate "
                f"is {sampling_rate}; set --config.features.sampling_rate={Whisper.sampling_rate}."
            )
        size = weights.read_size(path)
        sizes = {
            "width": size.width,
            "n_states": size.n_layers + 2,
            "hop_length": Whisper.hop_length,
        }
    else:
        with _loading:
            encoder = _load(kind, path, sampling_rate)
        sizes = {n: getattr(encoder, n) for n in ("width", "n_states", "hop_length", "least")}
    return EncoderSpec(
        sha256=sha256,
        **sizes,
        pooling=pooling,
        states=tuple(states),
        context=context,
    )


def load(path: Path, spec: EncoderSpec, sampling_rate: int = 16_000) -> Encoder:
    """Return the encoder at a path, loaded once per process.

    Raises:
      UserError: there is no encoder, it is damaged, or not the one that `spec` describes.
    """
    kind, path = _found(path)
    with _loading:
        if (sha256 := _sha256_of(path)) != spec.sha256:
            raise UserError(
                f"{path} is another encoder (SHA-256 {sha256[:12]}…) than the one of the features "
                f"({spec.sha256[:12]}…); give that one, or prepare again."
            )
        return _load(kind, path, sampling_rate)


def _found(path: Path) -> tuple[str, Path]:
    """Return the kind of an encoder, and the file or folder that is read."""
    text = os.fspath(path)
    by_transformers = text.startswith(_BY_TRANSFORMERS)
    path = Path(text.removeprefix(_BY_TRANSFORMERS)).expanduser()
    if not path.exists():
        weights.file_in(path)  # says so
    if by_transformers:
        return "transformers", path
    if path.suffix.lower() == onnx_file.SUFFIX:
        return "onnx", path
    if transformers_folder.model_type(path) not in ("", "whisper"):
        return "transformers", path
    return "whisper", weights.file_in(path)


@functools.cache
def _sha256_of(path: Path) -> str:
    if path.is_dir():
        return transformers_folder.sha256_of(path)
    return files.sha256_of(path)


@functools.cache
def _load(kind: str, path: Path, sampling_rate: int) -> Encoder:
    if kind == "onnx":
        return onnx_file.OnnxEncoder(path, sampling_rate)
    if kind == "transformers":
        return transformers_folder.TransformersEncoder(path, sampling_rate)
    from ser_jax.encoders.whisper import Whisper

    return Whisper(*weights.read(path))
