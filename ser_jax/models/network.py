"""The interface that training, prediction and export expect of every network.

Axes: B batch, L vector length, T frames, F coefficients, C classes.
"""

from collections.abc import Iterable
from typing import Any, ClassVar

import flax.linen as nn
import jax

from ser_jax.common.errors import UserError


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
