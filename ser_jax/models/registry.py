"""Name → network. A new model is entered here."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from ser_jax.common.errors import UserError
from ser_jax.models.cnn import CNN1D, CNN2D, Network, PaperCNN

DTYPES = ("float32", "bfloat16")


PADDINGS = ("same", "valid")


MODELS: Mapping[str, type[Network]] = {"cnn1d": CNN1D, "cnn2d": CNN2D, "paper": PaperCNN}


def build(
    name: str, n_classes: int, fields: Mapping[str, Any] | None = None, *, dtype: str = "float32"
) -> Network:
    """The model `name`, with `fields` (those of Network) in place of its defaults.

    Raises:
      UserError: an unknown model, field or value.
    """
    _check_choice("name", name, MODELS)
    _check_choice("dtype", dtype, DTYPES)
    defaults = {
        field.name: field.default
        for field in dataclasses.fields(MODELS[name])
        if field.name not in ("n_classes", "dtype", "portable", "parent", "name")
    }
    values = dict(fields or {})
    for key, value in values.items():
        if key not in defaults:
            raise UserError(f"model.{key} is unknown; {name} has {', '.join(defaults)}.")
        if key == "padding":
            _check_choice(key, value, PADDINGS)
            continue
        if key == "batch_norm_momentum":
            if not 0 <= value < 1:
                raise UserError(f"model.{key}={value} must lie between 0 and 1, below 1.")
            continue
        if isinstance(value, list):  # JSON knows no tuples, and a module has to be hashable
            values[key] = value = tuple(value)
        if not _are_sizes(value, like=defaults[key]):
            raise UserError(
                f"model.{key}={value!r} is no size; use positive integers as in {defaults[key]}."
            )
    model = MODELS[name](n_classes=n_classes, dtype=dtype, **values)
    if len(model.widths) != len(model.kernels):
        raise UserError(
            f"model.widths={model.widths} and model.kernels={model.kernels} differ in length; "
            "give each convolution one of both."
        )
    return model


def _check_choice(key: str, value: Any, choices: Iterable[str]) -> None:
    if value not in tuple(choices):
        raise UserError(f"model.{key}={value!r} is unknown; use one of {', '.join(choices)}.")


def _are_sizes(value: Any, like: int | tuple[int, ...]) -> bool:
    if isinstance(like, int):
        return type(value) is int and value > 0
    return isinstance(value, tuple) and value != () and all(_are_sizes(v, 1) for v in value)
