"""Speech emotion recognition in JAX: feature spaces and learning models, compared honestly."""
