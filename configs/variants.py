"""What may follow the colon in --config=configs/cnn2d.py:VARIANT, for every model.

Several are joined by commas and applied in that order: cnn2d.py:librosa,log_mel.
"""

from ml_collections import ConfigDict


def apply(config: ConfigDict, variant: str) -> ConfigDict:
    """The config, changed by each variant that is named.

    Raises:
      ValueError: there is no such variant.
    """
    for name in variant.split(",") if variant else ():
        if name not in VARIANTS:
            raise ValueError(f"the variant {name!r} is unknown; use one of {', '.join(VARIANTS)}.")
        VARIANTS[name](config)
        config.name = f"{config.name}-{name}"
    return config


def _log_mel(config: ConfigDict) -> None:
    """The 2D models on the log-mel spectrogram, from the same records."""
    config.input.kind = "log_mel"


def _librosa(config: ConfigDict) -> None:
    """librosa's defaults for MFCC: longer frames and hops, a third of the arithmetic."""
    config.features.pre_emphasis = 0.0
    config.features.frame_length = 2048  # samples, 128 ms at 16 kHz
    config.features.hop_length = 512  # samples, 32 ms
    config.features.n_fft = 2048
    config.features.window = "hann"
    config.features.n_mels = 128


def _retrain(config: ConfigDict) -> None:
    """The report's second training: ten more epochs from the best weights (config.init_from)."""
    config.train.epochs = 10
    config.train.batch_size = 32


def _demo(config: ConfigDict) -> None:
    """A made corpus and a narrow network: minutes on two cores."""
    config.corpus.name = "synthetic"
    config.corpus.root = "data/synthetic"
    config.split.name = "speaker_kfold"
    _librosa(config)
    config.model.widths = tuple(max(8, width // 8) for width in config.model.widths)
    config.model.dense = 64
    config.model.batch_norm_momentum = 0.9  # 53 steps an epoch
    config.train.epochs = 15
    config.train.batch_size = 32


VARIANTS = {"log_mel": _log_mel, "librosa": _librosa, "retrain": _retrain, "demo": _demo}
