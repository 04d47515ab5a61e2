"""The reference report's 1D CNN on a vector of flattened MFCC, zero-crossing rates and energies.

    python launch.py --config=configs/cnn1d.py
    python launch.py --config=configs/cnn1d.py --config.split.name=random_file

Measured times and scores: docs/benchmarks.md.
"""

from ml_collections import ConfigDict

from configs import default, variants


def get_config(variant: str = "") -> ConfigDict:
    """Return the config; configs/variants.py lists the variants."""
    config = default.get_config()
    config.name = "cnn1d"
    config.input.kind = "vector"
    config.optimizer.name = "rmsprop"
    config.train.batch_size = 32  # the reference report's

    model = config.model
    model.name = "cnn1d"
    model.widths = (256, 256, 128)  # output channels of each convolution
    model.kernels = (5, 5, 3)  # kernel length of each convolution, values
    model.dense = 512  # units of the hidden layer
    model.pool = 5  # length of the pooling window, values
    model.stride = 2  # of the pools; that of the convolutions is 1
    model.padding = "same"  # of the pools: same or valid
    # Validation normalises by running statistics. Keras's momentum takes hundreds of steps an epoch
    # to settle, as on CREMA-D; with a few hundred clips take 0.9.
    model.batch_norm_momentum = 0.99
    return variants.apply(config, variant)
