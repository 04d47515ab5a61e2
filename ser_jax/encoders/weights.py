"""Whisper's weights: a safetensors file in Hugging Face's layout → parameters of the network."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ser_jax.common.errors import UserError
from ser_jax.encoders.network import HEAD_WIDTH, KERNEL, Size

FILE = "model.safetensors"
_PREFIX = re.compile(r"(.*\bencoder\.)conv1\.weight")
# Our name → the file's. Kernels of convolutions are [out, in, frames] there, others [out, in].
_STEM = {"conv1": "conv1", "conv2": "conv2", "final_norm": "layer_norm"}
_LAYER = {
    ("attention_norm",): "self_attn_layer_norm",
    ("attention", "query"): "self_attn.q_proj",
    ("attention", "key"): "self_attn.k_proj",
    ("attention", "value"): "self_attn.v_proj",
    ("attention", "out"): "self_attn.out_proj",
    ("mlp_norm",): "final_layer_norm",
    ("mlp1",): "fc1",
    ("mlp2",): "fc2",
}
_WITHOUT_BIAS = {"self_attn.k_proj"}
_FLOATS = ("F16", "BF16", "F32")


def file_in(path: Path) -> Path:
    """Return the file of weights that a folder, or the path of a file, means.

    Raises:
      UserError: there is none.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(
            f"there is no encoder at {path}; fetch one with python -m data_prep.download_encoder, "
            "or give a folder with model.safetensors as --config.encoder.path."
        )
    if (path / FILE).is_file():
        return path / FILE
    if any(path.glob("model-*-of-*.safetensors")):
        raise UserError(f"{path} holds an encoder in several files; save it as one {FILE}.")
    if any(path.glob("*.bin")) or any(path.glob("*.pt")):
        raise UserError(
            f"{path} holds pickled weights, which could run code when they are read; get them as "
            f"{FILE}."
        )
    raise UserError(f"{path} has no {FILE}; give the folder of an encoder.")


def read_size(path: Path) -> Size:
    """Return the sizes of the encoder in a safetensors file, whose header alone is read.

    Raises:
      UserError: it is damaged, of another network, or lacks a tensor of the encoder.
    """
    with _opened(path) as (size, _, _):
        return size


def read(path: Path) -> tuple[Size, dict[str, Any]]:
    """Return the sizes and float32 parameters of the encoder in a safetensors file.

    Raises:
      UserError: as read_size, or a value is not finite.
    """
    with _opened(path) as (size, file, prefix):
        tensors = {}
        for name in _expected_shapes(size):
            tensors[name] = file.get_tensor(prefix + name).astype(np.float32)
            if not np.isfinite(tensors[name]).all():
                raise _wrong(path, f"{prefix}{name} has values that are not finite")
    return size, _parameters(size, tensors)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Size, Any, str]]:
    """Yield sizes, the open file and the prefix of its names, after checking all shapes."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            names = set(file.keys())
            prefix = _prefix_of(path, names)
            shapes = {
                name.removeprefix(prefix): tuple(file.get_slice(name).get_shape())
                for name in names
                if name.startswith(prefix)
            }
            size = _size_of(path, shapes)
            for name, shape in _expected_shapes(size).items():
                if name not in shapes:
                    raise UserError(f"{path} lacks the tensor {prefix}{name}; get the file again.")
                if shapes[name] != shape:
                    raise _wrong(path, f"{prefix}{name} is {shapes[name]}, not {shape}")
                if (dtype := file.get_slice(prefix + name).get_dtype()) not in _FLOATS:
                    raise _wrong(path, f"{prefix}{name} is of type {dtype}")
            yield size, file, prefix
    except SafetensorError as error:
        raise UserError(
            f"{path} is not a complete safetensors file ({error}); get it again."
        ) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}).") from error


def _prefix_of(path: Path, names: set[str]) -> str:
    """Return what stands before the names of the encoder's tensors."""
    for name in names:
        if match := _PREFIX.fullmatch(name):
            return match[1]
    if any("decoder." in name for name in names):
        raise UserError(f"{path} holds a decoder alone; get the whole model, or its encoder.")
    raise UserError(f"{path} is not Whisper's: it has no tensor encoder.conv1.weight.")


def _size_of(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> Size:
    layers = [re.fullmatch(r"layers\.(\d+)\.fc1\.weight", name) for name in shapes]
    n_layers = 1 + max((int(match[1]) for match in layers if match), default=-1)
    try:
        width, n_mels, _ = shapes["conv1.weight"]
        n_positions, _ = shapes["embed_positions.weight"]
        mlp_width, _ = shapes["layers.0.fc1.weight"]
    except (KeyError, ValueError) as error:
        raise _wrong(path, f"{error} of the encoder is missing or misshapen") from error
    if width % HEAD_WIDTH:
        raise _wrong(path, f"its width {width} is not a multiple of {HEAD_WIDTH}")
    return Size(n_mels, width, n_layers, mlp_width, n_positions)


def _expected_shapes(size: Size) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor, by its name without the prefix."""
    d, m = size.width, size.mlp_width
    shapes: dict[str, tuple[int, ...]] = {
        "conv1.weight": (d, size.n_mels, KERNEL),
        "conv1.bias": (d,),
        "conv2.weight": (d, d, KERNEL),
        "conv2.bias": (d,),
        "embed_positions.weight": (size.n_positions, d),
        "layer_norm.weight": (d,),
        "layer_norm.bias": (d,),
    }
    for number in range(size.n_layers):
        for theirs in _LAYER.values():
            rows = m if theirs == "fc1" else d
            weight = (d,) if "norm" in theirs else (rows, m if theirs == "fc2" else d)
            shapes[f"layers.{number}.{theirs}.weight"] = weight
            if theirs not in _WITHOUT_BIAS:
                shapes[f"layers.{number}.{theirs}.bias"] = (rows,)
    return shapes


def _parameters(size: Size, tensors: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return the tensors as the parameters of `network.Encoder`, one by one to save memory."""

    def module(theirs: str) -> dict[str, np.ndarray]:
        weight = tensors.pop(f"{theirs}.weight")
        own = {"scale" if "norm" in theirs else "kernel": np.ascontiguousarray(weight.T)}
        if f"{theirs}.bias" in tensors:
            own["bias"] = tensors.pop(f"{theirs}.bias")
        return own

    params: dict[str, Any] = {ours: module(theirs) for ours, theirs in _STEM.items()}
    params["positions"] = tensors["embed_positions.weight"]
    for number in range(size.n_layers):
        layer: dict[str, Any] = {}
        for path, theirs in _LAYER.items():
            inner = layer.setdefault(path[0], {}) if len(path) > 1 else layer
            inner[path[-1]] = module(f"layers.{number}.{theirs}")
        params[f"layer{number}"] = layer
    return params


def _wrong(path: Path, reason: str) -> UserError:
    return UserError(f"{path} does not hold a Whisper encoder as published: {reason}.")
