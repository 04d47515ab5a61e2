"""Nested settings as dotted keys."""

from typing import Any


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested sections as {"train.epochs": 10}."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    start = f"{prefix}." if prefix else ""
    return {k: v for key, sub in tree.items() for k, v in flatten(sub, start + key).items()}
