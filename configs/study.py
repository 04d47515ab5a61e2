"""The full study: every model on seen and unseen speakers, and what the reference report left open.

    python launch.py --config=configs/study.py
    python launch.py --config=configs/study.py --config.replicas.seeds=5
    python launch.py --config=configs/study.py --config.split.name=emosuperb5 \\
        --config.split.fold=all
    python launch.py --config=configs/study.py:librosa
    python launch.py --config=configs/study.py:demo

Fifteen runs, one after another; the same command resumes where it stopped. The page shows the
comparisons and claims listed below; another run, comparison or claim is another entry here. Their
texts describe the runs as they stand here: where you change what a run is, change them too.

All other keys are shared by all runs: a flag such as --config.corpus.root reaches every run, and
--config.split those with unseen speakers. A value that a run sets itself stays, unless the flag
names the run: --config.runs.cnn2d_seen_again.train.epochs=5.

Measured times and scores: docs/benchmarks.md.
"""

from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from configs import cnn1d, cnn2d, default, paper, variants

SEEN = {"split": {"name": "random_file", "fold": "0"}}  # the reference report's protocol
SENTENCES = {"split": {"name": "speaker_sentence"}}  # unseen sentences by unseen speakers
VARIANTS = ("librosa", "demo")

# Models and inputs as the page calls them; an input called "" is not mentioned.
TITLES = {
    "cnn1d": "1D CNN",
    "cnn2d": "2D CNN",
    "paper": "paper's CNN",
    "vector": "",
    "mfcc": "MFCC",
    "log_mel": "log-mel",
}
# The runs in Table 1, by protocol.
TABLE1_SEEN = ("cnn1d_seen", "cnn2d_seen", "cnn2d_log_mel_seen", "paper_seen")
TABLE1_UNSEEN = ("cnn1d_unseen", "cnn2d_unseen", "cnn2d_log_mel_unseen", "paper_unseen")
TABLE1_SENTENCES = ("cnn2d_unseen_sentences",)
REFERENCE = {
    "metric": "accuracy",  # the one that the reference report gives; it decides every claim
    "corpus": "CREMA-D",
    "column": "reference report: seen",  # its column in Table 1
    "note": "The reference report's numbers are for CREMA-D, one seed and 2,233 test clips by "
    "speakers heard in training. It gives one number for its 2D CNN and names both inputs. The "
    "article behind the third network gives 57.4 % for four corpora together and no number for "
    "CREMA-D alone, so there is nothing to compare with.",
}
# The sections of the page. A pair is a run, the run it is compared with, and what differs.
COMPARISONS = (
    {
        "title": "Models",
        "note": "Both runs are tested on the same clips.",
        "pairs": (
            ("cnn2d_seen", "cnn1d_seen", "2D CNN on MFCC instead of 1D CNN"),
            ("cnn2d_log_mel_seen", "cnn1d_seen", "2D CNN on log-mel instead of 1D CNN"),
            ("cnn2d_unseen", "cnn1d_unseen", "2D CNN on MFCC instead of 1D CNN"),
            ("cnn2d_log_mel_unseen", "cnn1d_unseen", "2D CNN on log-mel instead of 1D CNN"),
        ),
    },
    {
        "title": "Inputs",
        "note": "Both runs are tested on the same clips.",
        "pairs": (
            ("cnn2d_log_mel_seen", "cnn2d_seen", "2D CNN on log-mel instead of MFCC"),
            ("cnn2d_log_mel_unseen", "cnn2d_unseen", "2D CNN on log-mel instead of MFCC"),
        ),
    },
    {
        "title": "Seen and unseen speakers",
        "note": "Speakers (and sentences) not heard in training, minus speakers heard in training. "
        "The test clips differ, and so does the size of the training part.",
        "pairs": (
            ("cnn1d_unseen", "cnn1d_seen", "1D CNN: unseen"),
            ("cnn2d_unseen", "cnn2d_seen", "2D CNN on MFCC: unseen"),
            ("cnn2d_log_mel_unseen", "cnn2d_log_mel_seen", "2D CNN on log-mel: unseen"),
            ("paper_unseen", "paper_seen", "paper's CNN on MFCC: unseen"),
            ("cnn2d_unseen_sentences", "cnn2d_seen", "2D CNN on MFCC: unseen, new sentences"),
        ),
    },
    {
        "title": "Second training",
        "note": "From the best weights of the first training, with a fresh optimiser. Both runs "
        "are tested on the same clips.",
        "pairs": (("cnn2d_seen_again", "cnn2d_seen", "2D CNN on MFCC, trained again"),),
    },
    {
        "title": "Augmentation",
        "note": "Each minus the same network trained on the original clips alone. Views add steps "
        "to an epoch, so after few epochs part of the difference comes from the longer training.",
        "pairs": (
            ("cnn2d_unseen_noise", "cnn2d_unseen_no_views", "2D CNN on MFCC with noise"),
            ("cnn2d_unseen_pitch", "cnn2d_unseen_no_views", "2D CNN on MFCC with pitch"),
            ("cnn2d_unseen_stretch", "cnn2d_unseen_no_views", "2D CNN on MFCC with stretch"),
            (
                "cnn2d_unseen",
                "cnn2d_unseen_no_views",
                "2D CNN on MFCC with noise, pitch and stretch",
            ),
        ),
    },
    {
        "title": "Class weights",
        "note": "Every class weighs the same in the loss, minus the same network without weights.",
        "pairs": (("cnn2d_unseen_balanced", "cnn2d_unseen", "2D CNN on MFCC, balanced"),),
    },
)
# What the reference report claims, and what decides it: a run that should exceed the reported
# value; pairs of COMPARISONS whose difference should exceed 0; or, per protocol, runs of which the
# best on validation should exceed human listeners.
CLAIMS = (
    {"claim": "The 1D CNN reaches 43.08 %.", "run": "cnn1d_seen", "reported": 0.4308},
    {"claim": "The 2D CNN on MFCC reaches 53.8 %.", "run": "cnn2d_seen", "reported": 0.538},
    {
        "claim": "The 2D CNN on log-mel reaches 53.8 %.",
        "run": "cnn2d_log_mel_seen",
        "reported": 0.538,
    },
    {
        "claim": "The 2D CNN on MFCC is more accurate than the 1D CNN.",
        "pairs": (("cnn2d_seen", "cnn1d_seen"), ("cnn2d_unseen", "cnn1d_unseen")),
    },
    {
        "claim": "The 2D CNN on log-mel is more accurate than the 1D CNN.",
        "pairs": (("cnn2d_log_mel_seen", "cnn1d_seen"), ("cnn2d_log_mel_unseen", "cnn1d_unseen")),
    },
    {
        "claim": "The mel spectrogram is the better input for the 2D CNN.",
        "pairs": (("cnn2d_log_mel_seen", "cnn2d_seen"), ("cnn2d_log_mel_unseen", "cnn2d_unseen")),
    },
    {
        "claim": "A second training improves the 2D CNN on MFCC.",
        "pairs": (("cnn2d_seen_again", "cnn2d_seen"),),
    },
    *(
        {
            "claim": f"Augmentation with {view} improves the 2D CNN on MFCC.",
            "pairs": ((f"cnn2d_unseen_{view}", "cnn2d_unseen_no_views"),),
        }
        for view in ("noise", "pitch", "stretch")
    ),
    {
        "claim": "Augmentation with noise, pitch and stretch improves the 2D CNN on MFCC.",
        "pairs": (("cnn2d_unseen", "cnn2d_unseen_no_views"),),
    },
    {
        "claim": "The best network is more accurate than human listeners.",
        "best_of": (TABLE1_SEEN, TABLE1_UNSEEN, TABLE1_SENTENCES),
    },
)


def get_config(variant: str = "") -> ConfigDict:
    """Return the base config, the runs with what each changes, and what the page shows of them.

    The variants are those of configs/variants.py that suit every model.
    """
    for name in variant.split(",") if variant else ():
        if name not in VARIANTS:
            raise ValueError(f"the study has no variant {name!r}; use {' or '.join(VARIANTS)}.")
    config = default.get_config()
    config.name = "study"
    config.model = cnn2d.get_config().model
    base = variants.apply(config, variant).to_dict()
    config.replicas.seeds = 3
    if "demo" in variant.split(","):
        config.features.n_mels = 32
        config.features.n_mfcc = 13
        config.split.n_folds = 3  # tests on eight of the 24 voices
        config.train.epochs = 5

    def run(model: ModuleType, further: str = "", **changes: Any) -> ConfigDict:
        """Return where a model's config differs from the base, updated by the run's own changes.

        The model's section is complete, for its keys may differ from the base's. Values that equal
        the base's refer to them, so that a flag such as --config.model.padding reaches every run.
        """
        model_config = model.get_config(",".join(filter(None, (variant, further))))
        fields = model_config.model.to_dict()
        del model_config.model
        overrides = ConfigDict(_difference(model_config.to_dict(), base))
        overrides.model = {
            key: config.model.get_oneway_ref(key) if config.model.get(key) == value else value
            for key, value in fields.items()
        }
        overrides.update(changes)
        return overrides

    config.hours = 0.0  # after so many no run is begun; 0 is no limit
    config.runs = runs = ConfigDict()
    # The reference report's Table 1, and the same on unseen speakers.
    for name, model, further in (
        ("cnn1d", cnn1d, ""),
        ("cnn2d", cnn2d, ""),
        ("cnn2d_log_mel", cnn2d, "log_mel"),
        ("paper", paper, ""),
    ):
        runs[f"{name}_seen"] = run(model, further, **SEEN)
        runs[f"{name}_unseen"] = run(model, further)
    runs.cnn2d_unseen_sentences = run(cnn2d, **SENTENCES)
    # The second training: init_from names a run of this study.
    runs.cnn2d_seen_again = run(cnn2d, "retrain", **SEEN, init_from="cnn2d_seen")
    # The effect of each view and of class weights on unseen speakers, which the reference report
    # leaves open. All views together, without class weights, are cnn2d_unseen.
    runs.cnn2d_unseen_no_views = run(cnn2d, input={"views": ()})
    for view in config.augmentation.views:
        runs[f"cnn2d_unseen_{view}"] = run(cnn2d, input={"views": (view,)})
    runs.cnn2d_unseen_balanced = run(cnn2d, train={"class_weights": "balanced"})
    config.titles = TITLES
    config.table1 = (*TABLE1_SEEN, *TABLE1_UNSEEN, *TABLE1_SENTENCES)
    config.reference = REFERENCE
    config.comparisons = COMPARISONS
    config.claims = CLAIMS
    return config


def _difference(config: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """Return the values of `config` that differ from `base`, at any depth."""
    return {
        key: _difference(value, base[key]) if isinstance(value, dict) else value
        for key, value in config.items()
        if value != base[key]
    }
