"""Finished runs side by side: python -m ser_jax.compare."""
