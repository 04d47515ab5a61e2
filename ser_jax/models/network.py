"""The interface that training, prediction and export expect of every network.

Axes: B batch, L vector length, T frames, F coefficients, C classes.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import flax.linen as nn
import jax

from ser_jax.common.errors import UserError

RateFactors = Callable[[tuple[str, ...]], float]  # names of a parameter's modules, and its own


class Network(nn.Module, kw_only=True):
    """A classifier of feature vectors or planes.

    The fields that a subclass adds, with their defaults, are the keys of its config section
    `model`; all values are hashable.
    """

    n_classes: int
    dtype: str = "float32"  # of the arithmetic; parameters, statistics and logits are float32
    portable: bool = False  # use only operations that run anywhere at any batch size, for export

    input_kind: ClassVar[str] = "plane"  # x_BxTxF; or "vector", x_BxL
    takes_steps: ClassVar[bool] = True  # of an optimiser; or is fitted, see train.classical
    # Mean and sd that pretrained weights expect of every column, in place of the training part's.
    normalisation: ClassVar[tuple[float, float] | None] = None
    is_pretrained: ClassVar[bool] = False  # begins with the weights at encoder.path

    def __call__(
        self,
        x: jax.Array,
        *,
        train: bool,
        dropout_rate: float | jax.Array = 0.0,
        mask_B: jax.Array | None = None,
        n_frames_B: jax.Array | None = None,
    ) -> jax.Array:
        """Return the logits of a batch.

        Args:
          x: x_BxL or x_BxTxF, see `input_kind`.
          train: use batch statistics and dropout, which needs an rng named "dropout".
          dropout_rate: 0 ≤ rate < 1; may be traced, so that a sweep over it compiles once.
          mask_B: False for rows that only pad the batch; batch statistics ignore them.
          n_frames_B: length of each clip, past which a plane is zero; None if all are complete.

        Returns:
          logits_BxC, float32.

        Raises:
          UserError: `x` is too small for the network.
        """
        raise NotImplementedError

    @nn.nowrap
    def check(self) -> None:
        """Raise a UserError if a field of the config section has an invalid value."""

    @nn.nowrap
    def check_features(self, settings: Mapping[str, Any]) -> None:
        """Raise a UserError unless these settings of the features are those the network needs."""

    @classmethod
    def read_fields(cls, fields: Mapping[str, Any], encoder: Path) -> dict[str, Any]:
        """Return those of its fields that a file of pretrained weights decides."""
        return {}

    @nn.nowrap
    def pretrained(self, encoder: Path) -> dict[str, Any]:
        """Return parameters to begin with in place of random ones, by the name of their module.

        Raises:
          UserError: there is no encoder, or it is damaged.
        """
        return {}

    @nn.nowrap
    def check_source(self, metadata: Mapping[str, Any], encoder: Path) -> None:
        """Raise a UserError unless a run with these metadata can be one to start from."""

    @nn.nowrap
    def adopt(
        self, params: Mapping[str, Any], batch_stats: Mapping[str, Any], source: Mapping[str, Any]
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Return the parameters and batch statistics with which a warm start begins.

        Args:
          params, batch_stats: of a start without it.
          source: a replica's best weights, as they are in a checkpoint.
        """
        del params, batch_stats
        return source["params"], source.get("batch_stats", {})

    @nn.nowrap
    def rate_factors(self, encoder_factor: float, layer_decay: float) -> RateFactors | None:
        """Return the factors of the learning rate; None if all are 1. They are hashable."""

    @nn.nowrap
    def check_sizes(self, *keys: str) -> None:
        """Raise a UserError unless these fields hold positive integers, or tuples of them."""
        for key in keys:
            value, default = getattr(self, key), getattr(type(self), key)
            sizes = value if isinstance(default, tuple) else (value,)
            if not (isinstance(sizes, tuple) and sizes and all(map(_is_size, sizes))):
                raise UserError(
                    f"model.{key}={value!r} is invalid; use positive integers as in {default}."
                )


def check_choice(key: str, value: Any, choices: Iterable[str]) -> None:
    """Raise a UserError unless model.<key> is one of the choices."""
    if value not in tuple(choices):
        raise UserError(f"model.{key}={value!r} is unknown; use one of {', '.join(choices)}.")


def _is_size(value: Any) -> bool:
    return type(value) is int and value > 0  # True is an int, too
