"""Replicas: the trainings of a run, each with a seed, a fold and values of the swept keys."""

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
    """What distinguishes one training of a run from the others."""

    seed: int  # of initialisation, dropout and batch order
    fold: int  # of the protocol
    # Values of the swept keys, such as {"optimizer.learning_rate": 3e-4}.
    setting: dict[str, Any] = dataclasses.field(default_factory=dict)

    def value(self, config: ConfigDict, key: str) -> Any:
        """Return this replica's value of "section.key"."""
        section, name = key.split(".")
        return self.setting.get(key, config[section][name])

    @property
    def without_seed(self) -> str:
        """Its name where nothing is random."""
        return f"fold {self.fold}" + "".join(f", {k}={value}" for k, value in self.setting.items())

    def __str__(self) -> str:
        return f"seed {self.seed}, {self.without_seed}"


def expand(config: ConfigDict) -> tuple[Replica, ...]:
    """Return all replicas of a run, ordered by setting, then fold, then seed.

    Raises:
      UserError: an unknown fold, or a swept value that has not its key's type.
    """
    folds = splits.folds(config.split.name, config.split.fold, config.split.n_folds)
    swept = {k.replace("__", "."): values for k, values in config.replicas.sweep.items() if values}
    for key, values in swept.items():
        _check(config, key, values)
    seeds = range(config.seed, config.seed + config.replicas.seeds)
    return tuple(
        Replica(seed, fold, dict(zip(swept, values, strict=True)))
        for values in itertools.product(*swept.values())
        for fold in folds
        for seed in seeds
    )


def best_setting(settings: Sequence[dict[str, Any]], value_R: np.ndarray) -> dict[str, Any]:
    """Return the setting with the best mean on validation, the first one of equals.

    Settings with fewer failed replicas come first; the mean is over the others.

    Args:
      settings: of each replica.
      value_R: monitored value of each replica's best epoch; larger is better, −∞ if it failed.
    """

    def rank(setting: dict[str, Any]) -> tuple[int, float]:
        values = [v for s, v in zip(settings, value_R, strict=True) if s == setting]
        finite = [v for v in values if np.isfinite(v)]
        return len(finite) - len(values), float(np.mean(finite)) if finite else -np.inf

    return max(settings, key=rank)


def _check(config: ConfigDict, key: str, values: tuple) -> None:
    section, name = key.split(".")
    default = config[section][name]
    allowed = (int, float) if isinstance(default, float) else type(default)
    for value in values:
        if not isinstance(value, allowed):
            raise UserError(
                f"replicas.sweep.{section}__{name} contains {value!r}; give values such as "
                f"({default!r},)."
            )
    if len(set(values)) < len(values):
        raise UserError(f"replicas.sweep.{section}__{name} repeats a value: {values}.")
