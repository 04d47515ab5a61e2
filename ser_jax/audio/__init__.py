"""Audio files: finding, decoding, resampling, writing."""
