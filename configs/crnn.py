"""A small network that generalises: convolutions, a recurrent layer, attentive pooling.

    python launch.py --config=configs/crnn.py
    python launch.py --config=configs/crnn.py --config.replicas.seeds=5
    python launch.py --config=configs/crnn.py:transformer
    python launch.py --config=configs/crnn.py:conv

0.6 million parameters. Every clip is augmented anew in every epoch, within the step, so no views
are prepared. Measured times and scores: docs/benchmarks.md.
"""

from ml_collections import ConfigDict

from configs import default, variants


def get_config(variant: str = "") -> ConfigDict:
    """Return the config; the variants are below and in configs/variants.py."""
    config = default.get_config()
    config.name = "crnn"
    config.input.kind = "log_mel"
    config.augmentation.views = ()

    model = config.model
    model.name = "crnn"
    model.widths = (16, 32, 64, 128)  # channels
    model.sequence = "gru"  # or transformer, none
    model.width = 128  # units, each direction
    model.heads = 4  # of the pooling
    model.input_dropout = 0.2  # before the sequence layer; train.dropout is before the logits
    model.batch_norm_momentum = 0.9

    variants.generalise(config)
    own = {"conv": _conv, "transformer": _transformer}
    return variants.apply(config, variant, own)


def _conv(config: ConfigDict) -> None:
    """Convolutions and the same pooling alone."""
    config.model.sequence = "none"


def _transformer(config: ConfigDict) -> None:
    """Two transformer layers in the place of the recurrent one."""
    config.model.sequence = "transformer"
