"""Prediction for audio files: python -m ser_jax.predict."""
