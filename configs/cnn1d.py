"""The report's 1D CNN on one vector: flattened MFCC, zero-crossing rates, energies.

    python launch.py --config=configs/cnn1d.py
    python launch.py --config=configs/cnn1d.py --config.split.name=random_file

Measured times and scores: docs/benchmarks.md.
"""

from ml_collections import ConfigDict

from configs import default, variants


def get_config(variant: str = "") -> ConfigDict:
    """The variants are those of configs/variants.py."""
    config = default.get_config()
    config.name = "cnn1d"
    config.input.kind = "vector"
    config.model.name = "cnn1d"
    config.model.widths = (256, 256, 128)
    config.model.kernels = (5, 5, 3)
    config.model.dense = 512
    config.model.pool = 5
    config.optimizer.name = "rmsprop"
    config.train.batch_size = 32  # the report's
    return variants.apply(config, variant)
