"""Every key that all models share, with its unit or its reason.

The other configs add the fields of their model and change what differs.

python launch.py --config=configs/cnn2d.py --config.optimizer.learning_rate=3e-4
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Return the reference report's settings on CREMA-D, with TFDS's speaker-independent split."""
    config = ConfigDict()
    config.name = "default"  # names the workdir: runs/<name>-<protocol>
    config.seed = 0  # of initialisation, dropout and batch order
    config.records_dir = "data/records"
    config.records_dtype = "float32"  # of the stored features; float16 halves their size
    config.init_from = ""  # a workdir whose best weights to start from; "" initialises at random

    config.corpus = corpus = ConfigDict()
    corpus.name = "crema_d"  # the reader: crema_d, ravdess, csv, synthetic
    corpus.title = ""  # its name in results; "" takes the reader's
    corpus.root = "data/crema_d"  # folder of the audio, searched recursively; csv: the table
    corpus.tables_dir = ""  # of CREMA-D's tables (votes, actors); "" is root
    corpus.label_map = ()  # ("old=new", …) renames or merges classes, "old=" leaves one out
    corpus.emotions = ()  # keep only these classes; () keeps all
    corpus.drop_defects = False  # leave out silent clips and copies of other clips
    corpus.made = made = ConfigDict()  # the synthetic corpus, written to an empty root
    made.n_speakers = 24
    made.n_sentences = 5
    made.seed = 0

    # Samples at 16 kHz. librosa's defaults are pre_emphasis 0, frame_length and n_fft 2048,
    # hop_length 512, window hann, n_mels 128.
    config.features = features = ConfigDict()
    features.sampling_rate = 16_000  # Hz
    features.pre_emphasis = 0.97
    features.frame_length = 400  # samples, 25 ms
    features.hop_length = 160  # samples, 10 ms
    features.n_fft = 512  # samples
    features.window = "hamming"
    features.centered = True  # frame t is centred on sample t · hop_length
    features.n_mels = 64
    features.f_min = 0.0  # Hz
    features.f_max = 0.0  # Hz; 0 is half the sampling rate
    features.mel_scale = "slaney"  # or htk
    features.top_db = 80.0  # dB below a clip's peak; 0 sets no floor
    features.n_mfcc = 20
    # Everything that any model needs, so that a study shares one set of records.
    features.planes = ("mfcc", "log_mel", "zero_crossing_rate", "energy")

    # A pretrained encoder, for the plane "embedding"; see configs/whisper.py.
    config.encoder = encoder = ConfigDict()
    encoder.path = ""  # its folder, with model.safetensors
    encoder.pooling = "statistics"  # mean and sd over a clip's positions; or positions
    encoder.states = ()  # numbers of the hidden states to keep, 0 the first layer's input; () all
    encoder.context = 0.0  # s of silence, the clip included, that its positions see

    config.augmentation = augmentation = ConfigDict()
    augmentation.views = ("noise", "pitch", "stretch")  # computed in addition to the original
    augmentation.snr_db = (10.0, 30.0)  # dB; each amount is drawn uniformly from its range
    augmentation.semitones = (-2.0, 2.0)
    augmentation.rate = (0.85, 1.15)  # above 1 is faster
    augmentation.seed = 0

    # In addition, drawn anew for every clip in every epoch; zeros switch it off.
    config.online_augmentation = online = ConfigDict()
    online.time_masks = 0  # spans of frames that are hidden, each of up to …
    online.time_mask_frames = 25
    online.frequency_masks = 0  # likewise of columns
    online.frequency_mask_columns = 10
    online.frequency_shift = 0  # columns, up or down, at most
    online.time_shift = 0  # frames cut off at a clip's start, at most
    online.level_sd = 0.0  # of a number added to a clip's normalised values, one for all of them
    online.noise_sd = 0.0  # likewise, one for each of them
    online.mixup = 0.0  # α of the Beta(α, α) by which two clips and their labels are mixed

    config.split = split = ConfigDict()
    # tfds, evar, random_file, emosuperb5, speaker_kfold, speaker_sentence, column
    split.name = "tfds"
    # Another protocol, whose test clips are left out, to choose settings without hearing them.
    split.inside = ""
    split.fold = "0"  # its number, or all; emosuperb5, speaker_kfold, speaker_sentence
    split.n_folds = 5  # speaker_kfold, speaker_sentence
    split.seed = 0  # random_file, speaker_kfold, speaker_sentence
    split.test_fraction = 0.3  # of all clips; random_file
    split.val_fraction = 0.05  # of the clips left for training; random_file
    split.column = "split"  # of the csv table, with train, dev and test; column

    config.input = inputs = ConfigDict()
    inputs.kind = "mfcc"  # mfcc, log_mel; vector for the 1D model; embedding of an encoder
    inputs.max_frames = 0  # clips are padded or cut to this; 0 is the longest clip's
    inputs.views = augmentation.get_oneway_ref("views")  # trained on in addition to the original
    inputs.normalise = True  # each column to mean 0, sd 1, fitted on the training part
    inputs.memory_limit_gb = 8.0  # larger training sets are streamed from the records

    config.model = model = ConfigDict()
    model.name = ""  # a key of ser_jax.models.registry.MODELS; each config adds its model's fields

    config.optimizer = optimizer = ConfigDict()
    optimizer.name = "adam"  # adam, rmsprop; with weight_decay it is AdamW
    optimizer.learning_rate = 1e-3
    optimizer.l2 = 0.01  # λ in λ·Σw² over the kernels, Keras's meaning: no ½
    optimizer.weight_decay = 0.0  # of kernels, decoupled from the gradient; usually in l2's place
    optimizer.encoder_factor = 1.0  # of the rate, for the top layer of an encoder that trains too
    optimizer.layer_decay = 1.0  # of the rate, from each of its layers to the one below
    optimizer.clip_norm = 0.0  # of the gradient, at most; 0 does not clip
    # Of the rate over all epochs: constant, or cosine (a linear rise for the share `warmup` of the
    # steps, then half a cosine down to 0). The plateau rule goes on top.
    optimizer.schedule = "constant"
    optimizer.warmup = 0.0
    optimizer.ema_decay = 0.0  # of a running mean of the weights, which is then what is evaluated
    optimizer.plateau_factor = 0.5  # the rate is multiplied by this …
    optimizer.plateau_patience = 3  # … after so many epochs without improvement
    optimizer.plateau_min_delta = 1e-4  # a smaller gain does not count (Keras's default)
    optimizer.plateau_cooldown = 0  # epochs
    optimizer.min_learning_rate = 0.0

    config.train = train = ConfigDict()
    train.epochs = 50  # at most
    train.batch_size = 32
    train.monitor = "accuracy"  # or uar, loss; of validation, for best weights, plateau, stopping
    train.stopping_patience = 5  # epochs without improvement; 0 never stops early
    train.stopping_min_delta = 0.0
    train.dropout = 0.2
    train.label_smoothing = 0.0
    train.class_weights = "none"  # or balanced: each class has the same weight in the loss
    train.sampling = "shuffled"  # every example once an epoch; balanced: as many of each class
    train.focal_gamma = 0.0  # above 0, the focal loss: what is learnt already counts less
    train.targets = "labels"  # or votes: the listeners' shares; or teacher: its probabilities
    train.teacher = ""  # the workdir of a finished run, or a file of ser_jax.export
    train.teacher_temperature = 1.0  # above 1 flattens its probabilities
    train.compute_dtype = "float32"  # or bfloat16; on NVIDIA float32 is multiplied as TF32
    # Between checkpoints, which are written in the background; a killed run loses no more.
    train.checkpoint_seconds = 60.0
    train.tensorboard = False  # also write event files, to <workdir>/tensorboard

    # Replicas are trained together: every seed with every fold and every swept value.
    config.replicas = replicas = ConfigDict()
    replicas.seeds = 1  # how many, counted up from config.seed
    replicas.sweep = sweep = ConfigDict()  # values per key, "__" for dots; () uses the key's own
    sweep.optimizer__learning_rate = ()
    sweep.optimizer__l2 = ()
    sweep.train__dropout = ()
    sweep.train__label_smoothing = ()
    sweep.train__class_weights = ()
    replicas.strategy = "auto"  # device (one replica per device at a time; auto), vmap or map
    replicas.at_once = 0  # vmap: at most so many per program; 0 is as many as fit in memory

    config.devices = devices = ConfigDict()  # the mesh; 0 is automatic: replicas first, then data
    devices.replica = 0  # groups of devices, each with a share of the replicas
    devices.data = 0  # devices per group, each with a share of every batch

    config.evaluate = evaluate = ConfigDict()
    evaluate.batch_size = 64

    config.report = report = ConfigDict()
    # Clips that the run report lists, plays and draws per cell of the confusion matrix; 0 is all.
    report.clips_a_cell = 10
    return config
