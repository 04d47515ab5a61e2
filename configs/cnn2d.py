"""The reference report's 2D CNN on MFCC.

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
    """Return the config; configs/variants.py lists the variants."""
    config = default.get_config()
    config.name = "cnn2d"
    config.train.batch_size = 64  # the reference report's

    model = config.model
    model.name = "cnn2d"
    model.widths = (256, 128, 128, 64)  # output channels of each convolution
    model.kernels = (6, 6, 6, 6)  # side of each convolution's kernel, values
    model.dense = 256  # units of the hidden layer
    model.pool = 4  # side of the pooling window, values
    model.stride = 2  # of the pools; that of the convolutions is 1
    model.padding = "same"  # of the pools; "valid" needs 46 columns or more
    # Validation normalises by running statistics. Keras's momentum takes hundreds of steps an epoch
    # to settle, as on CREMA-D; with a few hundred clips take 0.9.
    model.batch_norm_momentum = 0.99
    return variants.apply(config, variant)
