"""Where ser-predict, ser-export and ser-compare start: each runs its package, as python -m does."""

import runpy


def predict() -> None:
    """Run ser-predict."""
    _run("ser_jax.predict")


def export() -> None:
    """Run ser-export."""
    _run("ser_jax.export")


def compare() -> None:
    """Run ser-compare."""
    _run("ser_jax.compare")


def _run(package: str) -> None:
    # Not an import: only as "__main__" does a package see to Ctrl-C before it loads the rest.
    runpy.run_module(package, run_name="__main__")
