"""Nested settings as dotted keys."""

from typing import Any


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
