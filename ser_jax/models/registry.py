"""Name → network. A new network is a file in this folder and a line in MODELS."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ser_jax.common.errors import UserError
from ser_jax.models.classical import Classical
from ser_jax.models.cnn import CNN1D, CNN2D, PaperCNN
from ser_jax.models.crnn import CRNN
from ser_jax.models.network import Network, check_choice
from ser_jax.models.probe import Probe
from ser_jax.models.whisper import Whisper

DTYPES = ("float32", "bfloat16")

MODELS: dict[str, type[Network]] = {
    "cnn1d": CNN1D,
    "cnn2d": CNN2D,
    "paper": PaperCNN,
    "crnn": CRNN,
    "probe": Probe,
    "whisper": Whisper,
    "classical": Classical,
}


def build(
    name: str, n_classes: int, fields: Mapping[str, Any] | None = None, *, dtype: str = "float32"
) -> Network:
    """Return the network `name`.

    Args:
      name: a key of MODELS.
      n_classes: number of logits.
      fields: the config section `model` without its name; missing keys take the class's defaults.
      dtype: of the arithmetic, one of DTYPES.

    Raises:
      UserError: the name, a key or a value is invalid.
    """
    check_choice("name", name, MODELS)
    check_choice("dtype", dtype, DTYPES)
    # JSON has no tuples, and a Flax module must be hashable.
    fields = {k: tuple(v) if isinstance(v, list) else v for k, v in (fields or {}).items()}
    known = field_names(name)
    for key in fields:
        if key not in known:
            raise UserError(f"model.{key} is unknown; {name} has {', '.join(known)}.")
    network = MODELS[name](n_classes=n_classes, dtype=dtype, **fields)
    network.check()
    return network


def from_config(config: Mapping[str, Any], n_classes: int) -> Network:
    """Return the network that a whole config describes, a ConfigDict or its JSON values.

    Raises:
      UserError: as `build`.
    """
    fields = {key: value for key, value in config["model"].items() if key != "name"}
    dtype = config["train"]["compute_dtype"]
    return build(config["model"]["name"], n_classes, fields, dtype=dtype)


def complete(config: ConfigDict) -> None:
    """Set, in a whole config, the fields of its network that the file at encoder.path decides.

    Raises:
      UserError: they are to be read, and there is no encoder.
    """
    if config.model.name in MODELS:
        fields = {key: value for key, value in config.model.items() if key != "name"}
        network = MODELS[config.model.name]
        config.model.update(network.read_fields(fields, Path(config.encoder.path)))


def field_names(name: str) -> list[str]:
    """Return the keys of the network's config section, without "name"."""
    shared = {field.name for field in dataclasses.fields(Network)}
    return [f.name for f in dataclasses.fields(MODELS[name]) if f.name not in shared]
