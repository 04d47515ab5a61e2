"""Offline preparation: a corpus of audio becomes feature records. Nothing in ser_jax imports this."""
