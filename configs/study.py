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

SEEN = {"split": {"name": "random_file", "fold": "0"}}  # the report's protocol
SENTENCES = {"split": {"name": "speaker_sentence"}}  # unseen ones, by unseen speakers
VARIANTS = ("librosa", "demo")


def get_config(variant: str = "") -> ConfigDict:
    """The base's keys, and `runs`: what each run changes of them.

    The variants are those of configs/variants.py that suit every model.
    """
    for name in variant.split(",") if variant else ():
        if name not in VARIANTS:
            raise ValueError(f"the study has no variant {name!r}; use {' or '.join(VARIANTS)}.")
    base = variants.apply(default.get_config(), variant).to_dict()
    config = default.get_config()
    config.name = "study"
    config.replicas.seeds = 3
    variants.apply(config, variant)
    if "demo" in variant.split(","):
        config.features.n_mels = 32
        config.features.n_mfcc = 13
        config.split.n_folds = 3  # to test on eight of the 24 voices
        config.train.epochs = 5

    def run(model: ModuleType, further: str = "", **changes: Any) -> ConfigDict:
        """What a model's config changes of the base, and what this run changes of that."""
        own = model.get_config(",".join(filter(None, (variant, further))))
        overrides = ConfigDict(_difference(own.to_dict(), base))
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
