"""Transfer: a probe of a frozen Whisper encoder, whose embeddings are the records; or fine-tuning.

    python -m data_prep.download_encoder --name=whisper-base --root=data/encoders
    python launch.py --config=configs/whisper.py
    python launch.py --config=configs/whisper.py --config.replicas.seeds=5
    python launch.py --config=configs/whisper.py:linear
    python launch.py --config=configs/whisper.py:attention
    python launch.py --config=configs/whisper.py --config.encoder.path=data/encoders/whisper-small
    python launch.py --config=configs/whisper.py:finetune
    python launch.py --config=configs/whisper.py:finetune --config.model.trained_layers=2
    python launch.py --config=configs/whisper.py:finetune --config.init_from=runs/whisper-tfds

Measured times and scores: docs/benchmarks.md.
"""

from ml_collections import ConfigDict

from configs import default, variants


def get_config(variant: str = "") -> ConfigDict:
    """Return the config; the variants are below and in configs/variants.py."""
    config = default.get_config()
    config.name = "whisper"
    config.features.planes = ("embedding",)
    config.encoder.path = "data/encoders/whisper-base"
    config.encoder.context = 3.0  # better on validation than 0, on CREMA-D (resynthesised)
    config.augmentation.views = ()  # each view costs another pass through the encoder
    config.input.kind = "embedding"

    model = config.model
    model.name = "probe"
    model.pooling = "weights"  # one per hidden state; or attention over positions
    model.hidden = (256,)  # units; () is a linear probe
    model.input_dropout = 0.3

    config.optimizer.l2 = 0.0
    config.optimizer.weight_decay = 0.01
    config.optimizer.schedule = "cosine"
    config.optimizer.plateau_patience = 1000  # the schedule alone
    config.train.batch_size = 64
    config.train.epochs = 30
    config.train.stopping_patience = 0
    config.train.dropout = 0.5
    config.train.label_smoothing = 0.1
    own = {"linear": _linear, "attention": _attention, "finetune": _finetune}
    return variants.apply(config, variant, own)


def _linear(config: ConfigDict) -> None:
    """A linear probe of the weighted hidden states, as in benchmarks of encoders."""
    config.model.hidden = ()


def _attention(config: ConfigDict) -> None:
    """Attention over the positions of one hidden state."""
    config.encoder.pooling = "positions"
    config.encoder.states = (3,)
    config.model.pooling = "attention"


def _finetune(config: ConfigDict) -> None:
    """Train the encoder too, from its own log-mel on, with a smaller rate for lower layers."""
    features = config.features  # those that Whisper was trained on
    features.planes = ("log_mel",)
    features.pre_emphasis = 0.0
    features.n_fft = 400
    features.window = "hann"
    features.n_mels = 80  # large-v3 has 128
    config.input.kind = "log_mel"
    config.input.max_frames = 300  # 3 s: of CREMA-D's clips one in six is longer, and is cut

    config.model = model = ConfigDict()
    model.name = "whisper"
    model.size = ()  # read off the encoder's file
    model.trained_layers = -1  # upper layers that train; -1 is all, with the convolutions
    model.context = config.encoder.context
    model.hidden = (256,)
    model.input_dropout = 0.3
    model.rematerialise = False  # True saves memory and costs a second forward pass

    config.optimizer.encoder_factor = 0.1  # the top layer's rate is 1e-4
    config.optimizer.layer_decay = 0.8
    config.optimizer.clip_norm = 1.0
    config.optimizer.warmup = 0.1
    config.online_augmentation.time_masks = 2
    config.online_augmentation.frequency_masks = 2
    config.train.batch_size = 32
    config.train.epochs = 6
    config.report.clips_a_cell = 2  # the saliency of a clip costs 18 passes through the encoder
