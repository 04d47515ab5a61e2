"""The report's 2D CNN on MFCC.

    python launch.py --config=configs/cnn2d.py
    python launch.py --config=configs/cnn2d.py:log_mel
    python launch.py --config=configs/cnn2d.py:librosa
    python launch.py --config=configs/cnn2d.py:retrain --config.init_from=runs/cnn2d-tfds
    python launch.py --config=configs/cnn2d.py:demo

Measured times and scores: docs/benchmarks.md.
"""

from ml_collections import ConfigDict

from configs import default, variants


def get_config(variant: str = "") -> ConfigDict:
    """The variants are those of configs/variants.py."""
    config = default.get_config()
    config.name = "cnn2d"
    config.train.batch_size = 64  # the report's
    return variants.apply(config, variant)
