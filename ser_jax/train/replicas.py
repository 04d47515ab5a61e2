"""A replica is one training: a seed, a fold, and values for the keys that are swept."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from ser_jax.common.errors import UserError
from ser_jax.data import splits


@dataclasses.dataclass(frozen=True)
class Replica:
    """What tells one training of a run from the others.

    Attributes:
      seed: of initialisation, dropout and the order of the batches.
      fold: of the protocol.
      setting: the swept keys' values, such as {"optimizer.learning_rate": 3e-4}.
    """

    seed: int
    fold: int
    setting: dict[str, Any] = dataclasses.field(default_factory=dict)

    def value(self, config: ConfigDict, key: str) -> Any:
        """The value of "section.key" for this replica."""
        section, name = key.split(".")
        return self.setting.get(key, config[section][name])

    def __str__(self) -> str:
        setting = "".join(f", {key}={value}" for key, value in self.setting.items())
        return f"seed {self.seed}, fold {self.fold}{setting}"


def expand(config: ConfigDict) -> tuple[Replica, ...]:
    """All replicas of a run: by setting, then by fold, then by seed.

    Raises:
      UserError: no seed, an unknown fold, or a swept value of another type than its key's.
    """
    if config.replicas.seeds < 1:
        raise UserError(f"replicas.seeds={config.replicas.seeds} must be 1 or more.")
    folds = splits.folds(config.split.name, config.split.fold, config.split.n_folds)
    swept = {
        name.replace("__", "."): values
        for name, values in config.replicas.sweep.items()
        if len(values)
    }
    for key, values in swept.items():
        _check(config, key, values)
    settings = [
        dict(zip(swept, chosen, strict=True)) for chosen in itertools.product(*swept.values())
    ]
    seeds = range(config.seed, config.seed + config.replicas.seeds)
    return tuple(
        Replica(seed, fold, setting) for setting in settings for fold in folds for seed in seeds
    )


def best_setting(settings: Sequence[dict[str, Any]], value_R: np.ndarray) -> dict[str, Any]:
    """The setting that was best on validation; of equals the first.

    Args:
      settings: of each replica.
      value_R: monitored value of each replica's best epoch; larger is better, −∞ if it failed.
    """
    return max(
        settings,
        key=lambda setting: np.mean(
            [value for other, value in zip(settings, value_R, strict=True) if other == setting]
        ),
    )


def _check(config: ConfigDict, key: str, values: tuple) -> None:
    section, name = key.split(".")
    kind = type(config[section][name])
    for value in values:
        if not isinstance(value, (int, float) if kind is float else kind):
            raise UserError(
                f"replicas.sweep.{section}__{name} holds {value!r}; give values such as "
                f"({config[section][name]!r},)."
            )
    if len(set(values)) < len(values):
        raise UserError(f"replicas.sweep.{section}__{name} names a value twice: {values}.")
