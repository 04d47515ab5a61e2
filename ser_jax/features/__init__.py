"""The definition of all features, shared by preparation, training, prediction and export."""

from ser_jax.features.extraction import extract, extract_clip
from ser_jax.features.spec import INPUTS, PLANES, Array, FeatureSpec, model_input

__all__ = ["INPUTS", "PLANES", "Array", "FeatureSpec", "extract", "extract_clip", "model_input"]
