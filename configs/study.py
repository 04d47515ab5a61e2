"""The whole comparison: every model, seen and unseen speakers, and what the report left open.

    python launch.py --config=configs/study.py
    python launch.py --config=configs/study.py --config.replicas.seeds=5
    python launch.py --config=configs/study.py --config.split.name=emosuperb5 \\
        --config.split.fold=all
    python launch.py --config=configs/study.py:librosa
    python launch.py --config=configs/study.py:demo

Fifteen runs, one after another; the same command goes on where it stopped. All but `runs` is the
base of every run: a flag such as --config.corpus.root reaches all of them, and --config.split those
with unseen speakers. What a run sets itself stays, unless the flag names the run:
--config.runs.cnn2d_seen_again.train.epochs=5.

Measured times and scores: docs/benchmarks.md.
"""

from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from configs import cnn1d, cnn2d, default, paper, variants

SEEN = {"split": {"name": "random_file", "fold": "0"}}  # the reference report's protocol
SENTENCES = {"split": {"name": "speaker_sentence"}}  # unseen ones, by unseen speakers
VARIANTS = ("librosa", "demo")

# What the page calls models and inputs; "" leaves an input out.
TITLES = {
    **{"cnn1d": "1D CNN", "cnn2d": "2D CNN", "paper": "paper's CNN"},
    **{"vector": "", "mfcc": "MFCC", "log_mel": "log-mel"},
}
# The runs of Table 1, by protocol.
TABLE1_SEEN = ("cnn1d_seen", "cnn2d_seen", "cnn2d_log_mel_seen", "paper_seen")
TABLE1_UNSEEN = ("cnn1d_unseen", "cnn2d_unseen", "cnn2d_log_mel_unseen", "paper_unseen")
TABLE1_SENTENCES = ("cnn2d_unseen_sentences",)
# What the reference report's numbers are.
REFERENCE = {
    "metric": "accuracy",  # that it gives; it decides every claim
    "corpus": "CREMA-D",
    "column": "the report: seen",  # head of its column in Table 1
    "note": """\
The report's numbers are of CREMA-D, one seed, 2,233 test clips of speakers heard in training; it
gives one for its 2D CNN and names both inputs. The article that the third network is from gives
57.4 % for four corpora together and none for CREMA-D alone, so there is none to compare with.""",
}
# The page's sections. A pair is a run, the run that it is compared with, and what differs.
COMPARISONS = (
    {
        "title": "Models",
        "note": "Both on the same test clips.",
        "pairs": (
            ("cnn2d_seen", "cnn1d_seen", "2D CNN on MFCC instead of 1D CNN"),
            ("cnn2d_log_mel_seen", "cnn1d_seen", "2D CNN on log-mel instead of 1D CNN"),
            ("cnn2d_unseen", "cnn1d_unseen", "2D CNN on MFCC instead of 1D CNN"),
            ("cnn2d_log_mel_unseen", "cnn1d_unseen", "2D CNN on log-mel instead of 1D CNN"),
        ),
    },
    {
        "title": "Inputs",
        "note": "Both on the same test clips.",
        "pairs": (
            ("cnn2d_log_mel_seen", "cnn2d_seen", "2D CNN on log-mel instead of MFCC"),
            ("cnn2d_log_mel_unseen", "cnn2d_unseen", "2D CNN on log-mel instead of MFCC"),
        ),
    },
    {
        "title": "Seen and unseen speakers",
        "note": "Speakers (and sentences) that training has not heard, less speakers that it has. "
        "The test clips differ, and so do the sizes of the training parts.",
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
        "note": "From the best weights of the first, with a fresh optimiser. Both on the same test "
        "clips.",
        "pairs": (("cnn2d_seen_again", "cnn2d_seen", "2D CNN on MFCC, trained again"),),
    },
    {
        "title": "Augmentation",
        "note": "Each less the same network trained on the original clips alone. An epoch with "
        "views has more steps, so after few epochs a part of the difference is the longer "
        "training.",
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
        "note": "Each class weighs the same in the loss, less the same without weights.",
        "pairs": (("cnn2d_unseen_balanced", "cnn2d_unseen", "2D CNN on MFCC, balanced"),),
    },
)
# What the reference report says, and what decides it: the value that it reports for a run; pairs
# of COMPARISONS, each of which should be above 0; or the best of some runs, on validation, which
# should be above human listeners.
CLAIMS = (
    {"claim": "The 1D CNN reaches 43.08 %.", "run": "cnn1d_seen", "reported": 0.4308},
    {"claim": "The 2D CNN on MFCC reaches 53.8 %.", "run": "cnn2d_seen", "reported": 0.538},
    {
        "claim": "The 2D CNN on log-mel reaches 53.8 %.",
        "run": "cnn2d_log_mel_seen",
        "reported": 0.538,
    },
    {
        "claim": "The 2D CNN on MFCC recognises more than the 1D CNN.",
        "pairs": (("cnn2d_seen", "cnn1d_seen"), ("cnn2d_unseen", "cnn1d_unseen")),
    },
    {
        "claim": "The 2D CNN on log-mel recognises more than the 1D CNN.",
        "pairs": (("cnn2d_log_mel_seen", "cnn1d_seen"), ("cnn2d_log_mel_unseen", "cnn1d_unseen")),
    },
    {
        "claim": "The mel spectrogram is the better input of the 2D CNN.",
        "pairs": (("cnn2d_log_mel_seen", "cnn2d_seen"), ("cnn2d_log_mel_unseen", "cnn2d_unseen")),
    },
    {
        "claim": "A second training improves the 2D CNN on MFCC.",
        "pairs": (("cnn2d_seen_again", "cnn2d_seen"),),
    },
    {
        "claim": "Augmentation by noise helps the 2D CNN on MFCC.",
        "pairs": (("cnn2d_unseen_noise", "cnn2d_unseen_no_views"),),
    },
    {
        "claim": "Augmentation by pitch helps the 2D CNN on MFCC.",
        "pairs": (("cnn2d_unseen_pitch", "cnn2d_unseen_no_views"),),
    },
    {
        "claim": "Augmentation by stretch helps the 2D CNN on MFCC.",
        "pairs": (("cnn2d_unseen_stretch", "cnn2d_unseen_no_views"),),
    },
    {
        "claim": "Augmentation by noise, pitch and stretch helps the 2D CNN on MFCC.",
        "pairs": (("cnn2d_unseen", "cnn2d_unseen_no_views"),),
    },
    {
        "claim": "The best network recognises more than listeners do.",
        "best_of": (TABLE1_SEEN, TABLE1_UNSEEN, TABLE1_SENTENCES),
    },
)


def get_config(variant: str = "") -> ConfigDict:
    """The base's keys, and `runs`: what each run changes of them.

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
        config.split.n_folds = 3  # to test on eight of the 24 voices
        config.train.epochs = 5

    def run(model: ModuleType, further: str = "", **changes: Any) -> ConfigDict:
        """What a model's config changes of the base, and what this run changes of that.

        The model's section is complete, for its keys may differ from the base's. Values that equal
        the base's refer to them, so that a flag such as --config.model.padding reaches every run.
        """
        own = model.get_config(",".join(filter(None, (variant, further))))
        fields = own.model.to_dict()
        del own.model
        overrides = ConfigDict(_difference(own.to_dict(), base))
        overrides.model = {
            key: config.model.get_oneway_ref(key) if config.model.get(key) == value else value
            for key, value in fields.items()
        }
        overrides.update(changes)
        return overrides

    config.runs = runs = ConfigDict()
    # The report's Table 1, and the same for speakers that are new to the network.
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
    # What the report asks for. Whether a view helps with new voices is the question worth asking.
    # All three together are cnn2d_unseen, and so are classes without weights.
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


def _difference(ours: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """What `ours` has otherwise than `base`, at any depth."""
    found = {}
    for key, value in ours.items():
        if isinstance(value, dict):
            value = _difference(value, base[key])
            if value:
                found[key] = value
        elif value != base[key]:
            found[key] = value
    return found
