"""Variants of every model's config, given as --config=configs/cnn2d.py:VARIANT.

Several are separated by commas and applied in that order: cnn2d.py:librosa,log_mel.
"""

from collections.abc import Callable, Mapping

from ml_collections import ConfigDict

Change = Callable[[ConfigDict], None]


def apply(config: ConfigDict, variant: str, own: Mapping[str, Change] | None = None) -> ConfigDict:
    """Change the config by each named variant, in place, and return it; `own` are its config's.

    Raises:
      ValueError: a variant is unknown.
    """
    known = VARIANTS | dict(own or {})
    for name in variant.split(",") if variant else ():
        if name not in known:
            raise ValueError(f"the variant {name!r} is unknown; use one of {', '.join(known)}.")
        known[name](config)
        config.name = f"{config.name}-{name}"
    return config


def _log_mel(config: ConfigDict) -> None:
    """Give a 2D model the log-mel spectrogram, from the same records."""
    config.input.kind = "log_mel"


def _librosa(config: ConfigDict) -> None:
    """Use librosa's MFCC defaults: longer frames and hops, a third of the arithmetic."""
    config.features.pre_emphasis = 0.0
    config.features.frame_length = 2048  # samples, 128 ms at 16 kHz
    config.features.hop_length = 512  # samples, 32 ms
    config.features.n_fft = 2048
    config.features.window = "hann"
    config.features.n_mels = 128


def _retrain(config: ConfigDict) -> None:
    """Repeat the reference report's second training: ten epochs from the weights of init_from."""
    config.train.epochs = 10
    config.train.batch_size = 32


def _demo(config: ConfigDict) -> None:
    """Train a narrow network on the synthetic corpus, in minutes on two cores."""
    config.corpus.name = "synthetic"
    config.corpus.root = "data/synthetic"
    config.split.name = "speaker_kfold"
    _librosa(config)
    narrow = {
        "widths": tuple(max(8, width // 8) for width in config.model.get("widths", ())),
        "dense": 64,
        "batch_norm_momentum": 0.9,  # for 53 steps per epoch
    }
    config.model.update({key: value for key, value in narrow.items() if key in config.model})
    config.train.epochs = 15
    config.train.batch_size = 32


def generalise(config: ConfigDict) -> None:
    """Train towards unseen speakers: online augmentation, decay, one cycle, averaged weights."""
    online = config.online_augmentation
    online.time_masks = 1
    online.time_mask_frames = 25
    online.frequency_masks = 1
    online.frequency_mask_columns = 10
    online.frequency_shift = 4
    online.level_sd = 0.3
    config.optimizer.learning_rate = 2e-3
    config.optimizer.l2 = 0.0
    config.optimizer.weight_decay = 0.02
    config.optimizer.clip_norm = 2.0
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup = 0.15
    config.optimizer.ema_decay = 0.995
    config.optimizer.plateau_patience = 1000  # the schedule alone
    config.train.batch_size = 64
    config.train.epochs = 25
    config.train.stopping_patience = 0
    config.train.dropout = 0.3
    config.train.label_smoothing = 0.1


def _modern(config: ConfigDict) -> None:
    """Give a network of the reference report log-mels and the training of configs/crnn.py."""
    _log_mel(config)
    config.input.views = ()
    config.augmentation.views = ()
    generalise(config)


VARIANTS = {
    "log_mel": _log_mel,
    "librosa": _librosa,
    "retrain": _retrain,
    "demo": _demo,
    "modern": _modern,
}
