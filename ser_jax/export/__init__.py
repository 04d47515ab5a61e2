"""A trained run as one portable file; python -m ser_jax.export."""
