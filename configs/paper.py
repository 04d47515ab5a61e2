"""The CNN of Zielonka et al., Electronics 11(22):3831, 2022, as the report rebuilt it.

    python launch.py --config=configs/paper.py
    python launch.py --config=configs/paper.py:log_mel

Its authors fed it mel spectrograms; the report fed it MFCC. Measured: docs/benchmarks.md.
"""

from ml_collections import ConfigDict

from configs import default, variants


def get_config(variant: str = "") -> ConfigDict:
    """The variants are those of configs/variants.py."""
    config = default.get_config()
    config.name = "paper"
    config.model.name = "paper"
    config.model.widths = (75, 135, 75)
    config.model.kernels = (5, 5, 5)  # the second and third are assumed
    config.model.dense = 45
    return variants.apply(config, variant)
