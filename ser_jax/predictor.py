"""Shortcut for prediction in Python: `from ser_jax.predictor import Predictor`."""

from ser_jax.predict.predictor import Prediction, Predictor

__all__ = ["Prediction", "Predictor"]
