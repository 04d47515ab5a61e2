"""Nested settings as dotted keys, and what their numbers must be."""

import difflib
import os
from collections.abc import Callable, Mapping
from typing import Any

from ser_jax.common.errors import UserError

# What numbers must be, and their keys. Features, views, models and the made corpus check the rest.
_RULES: tuple[tuple[str, Callable[[float], bool], str], ...] = (
    ("from 0 to 4294967295", lambda v: 0 <= v < 2**32, "seed split.seed"),
    (
        "0 or more",
        lambda v: v >= 0,
        """features.top_db input.max_frames input.memory_limit_gb optimizer.learning_rate
        optimizer.l2 optimizer.plateau_cooldown optimizer.min_learning_rate train.stopping_patience
        train.stopping_min_delta train.checkpoint_seconds replicas.at_once devices.replica
        devices.data report.clips_a_cell encoder.context optimizer.weight_decay
        optimizer.clip_norm optimizer.encoder_factor online_augmentation.time_masks
        online_augmentation.time_mask_frames online_augmentation.frequency_masks
        online_augmentation.frequency_mask_columns online_augmentation.frequency_shift
        online_augmentation.time_shift online_augmentation.level_sd online_augmentation.noise_sd
        online_augmentation.mixup train.focal_gamma""",
    ),
    (
        "1 or more",
        lambda v: v >= 1,
        "train.epochs train.batch_size replicas.seeds evaluate.batch_size",
    ),
    (
        "in [0, 1)",
        lambda v: 0 <= v < 1,
        "train.dropout train.label_smoothing optimizer.warmup optimizer.ema_decay",
    ),
    ("above 0", lambda v: v > 0, "train.teacher_temperature"),
    ("above 0 and at most 1", lambda v: 0 < v <= 1, "optimizer.layer_decay"),
    ("between 0 and 1", lambda v: 0 < v < 1, "split.test_fraction split.val_fraction"),
)
_PATHS = "records_dir init_from corpus.root corpus.tables_dir encoder.path train.teacher".split()


def check(config: Any) -> None:
    """Check the numbers of a run's ConfigDict, swept ones included, and that it is complete.

    Raises:
      UserError: a number is outside its range, or a second training has no first one.
    """
    values = flatten(config.to_dict())
    for rule, is_met, keys in _RULES:
        for key in keys.split():
            swept = f"replicas.sweep.{key.replace('.', '__')}"
            given = [(key, values.get(key)), *((swept, v) for v in values.get(swept, ()))]
            for name, value in given:
                if isinstance(value, int | float) and not is_met(value):
                    raise UserError(f"{name}={value!r} must be {rule}.")
    if "retrain" in config.name.split("-") and not config.init_from:
        raise UserError(
            f"{config.name} is a second training; give the workdir of the first one as "
            "--config.init_from."
        )


def expand_home(config: Any) -> None:
    """Replace "~" by the home folder in the paths of a ConfigDict, as a shell would."""
    values = flatten(config.to_dict())
    config.update_from_flattened_dict(
        {key: os.path.expanduser(values[key]) for key in _PATHS if values.get(key)}
    )


def unknown(key: str, settings: Mapping[str, Any]) -> str:
    """Say what is wrong with a dotted key, and name similar ones; "" if nested settings have it."""
    section, node = "config", settings
    for name in key.split("."):
        if not isinstance(node, Mapping) or name not in node:
            break
        section, node = f"{section}.{name}", node[name]
    else:
        return ""
    close = difflib.get_close_matches(key, flatten(settings))
    what = f"did you mean {' or '.join(close)}?"
    if not close:
        what = f"it has {', '.join(node)}." if isinstance(node, Mapping) else "it has no keys."
    return f"config.{key} is unknown: {section} has no {name}; {what}"


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested sections as {"train.epochs": 10}."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    start = f"{prefix}." if prefix else ""
    return {k: v for key, sub in tree.items() for k, v in flatten(sub, start + key).items()}


def overrides(defaults: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    """Return the flags that turn defaults into settings, both nested.

    Keys that only one of them has, as after a change of version, are left out.
    """
    before, after = flatten(defaults), flatten(settings)
    return [
        f"--config.{key}={_as_tuple(after[key])}"
        for key in before
        if key in after and _as_tuple(after[key]) != _as_tuple(before[key])
    ]


def _as_tuple(value: Any) -> Any:
    """Return JSON's lists as the tuples that configs have."""
    return tuple(map(_as_tuple, value)) if isinstance(value, list | tuple) else value
