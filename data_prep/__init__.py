"""Offline preparation: audio becomes feature records. Nothing in ser_jax imports this."""
