"""Finished runs compared: python -m ser_jax.compare."""
