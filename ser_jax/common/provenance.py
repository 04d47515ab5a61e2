"""Provenance of a result: the device, precision, libraries and code that computed it."""

import functools
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy", "scipy")
_ROOT = Path(__file__).parents[2]


def collect(compute_dtype: str) -> dict[str, Any]:
    """Return the provenance of what this process computes, as JSON values."""
    import jax

    products = jax.config.jax_default_matmul_precision or "default"
    return {
        "device": jax.devices()[0].device_kind,
        "n_devices": jax.device_count(),
        "precision": f"{compute_dtype}, products {products}",
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
        "python": platform.python_version(),
        "code": code_version(),
    }


def as_text(provenance: dict[str, Any] | None) -> dict[str, str]:
    """Return a provenance as {what: text}; {} for a result of an earlier version, without one."""
    if not provenance:
        return {}
    libraries = {**provenance["libraries"], "Python": provenance["python"]}
    return {
        "device": f"{provenance['n_devices']} × {provenance['device']}",
        "precision": provenance["precision"],
        "libraries": ", ".join(f"{name} {version}" for name, version in libraries.items()),
        "code": provenance["code"],
    }


@functools.cache
def code_version() -> str:
    """Return this code's commit, marked where files have changed since; else its version."""
    if (_ROOT / ".git").exists():
        command = ["git", "-C", str(_ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
        try:
            quiet = {"text": True, "timeout": 10, "stderr": subprocess.DEVNULL}
            return subprocess.check_output(command, **quiet).strip()  # noqa: S603 — constant
        except (OSError, subprocess.SubprocessError):
            pass  # no Git, or a checkout of another user
    try:
        return metadata.version("ser_jax")
    except metadata.PackageNotFoundError:
        return "unknown"
