"""The CNN of Zielonka et al., Electronics 11(22):3831, 2022, as in the reference report.

    python launch.py --config=configs/paper.py
    python launch.py --config=configs/paper.py:log_mel

The paper's input is mel spectrograms, the reference report's MFCC. Measured times and scores:
docs/benchmarks.md.
"""

from ml_collections import ConfigDict

from configs import default, variants


def get_config(variant: str = "") -> ConfigDict:
    """Return the config; configs/variants.py lists the variants."""
    config = default.get_config()
    config.name = "paper"

    model = config.model
    model.name = "paper"
    model.widths = (75, 135, 75)  # output channels of each convolution
    model.kernels = (5, 5, 5)  # side of each kernel, values; the second and third are assumed
    model.dense = 45  # units of the hidden layer
    model.pool = 4  # side of the pooling window, values; that of the later pools is assumed
    model.stride = 2  # of the pools; assumed likewise
    model.padding = "same"  # of the pools; "valid" needs 22 columns or more
    model.batch_norm_momentum = 0.99  # not used: this network has no batch normalisation
    return variants.apply(config, variant)
