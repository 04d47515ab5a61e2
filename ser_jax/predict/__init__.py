"""Prediction for audio files and waveforms; python -m ser_jax.predict."""
