"""A search for settings, within a budget of time and without hearing the test clips.

    python launch.py --config=configs/search.py:crnn
    python launch.py --config=configs/search.py:crnn --config.hours=8
    python launch.py --config=configs/search.py:cnn2d,modern --config.split.inside=evar
    python launch.py --config=configs/search.py:cnn2d,demo

The variant names a file of this folder and, after a comma, variants of its own. That config as it
stands comes first, then settings drawn at random from SPACE, one run after another, each trained
and scored on all folds of speakers within the training and validation parts of split.inside. The
page lists every setting that was tried, with its score and its difference from the first. The same
command goes on, with --config.hours for longer. What is chosen is then tested once, by its own
config.

All other keys are those of the config that is searched, and shared by all runs.
"""

import importlib
from typing import Any

import numpy as np
from ml_collections import ConfigDict

N_SETTINGS = 40  # at most, the config as it is among them; each draws about half of the keys
MODELS = ("cnn1d", "cnn2d", "crnn", "paper", "whisper")
SEED = 0

# Values by key; a model uses the keys that it has, and of online_augmentation those that it uses.
SPACE = {
    "optimizer.learning_rate": (3e-4, 1e-3, 2e-3, 3e-3),
    "optimizer.weight_decay": (0.0, 0.02, 0.1),
    "train.batch_size": (32, 64),
    "train.dropout": (0.2, 0.3, 0.4, 0.5),
    "train.label_smoothing": (0.0, 0.05, 0.1),
    "model.input_dropout": (0.0, 0.2, 0.3),
    "online_augmentation.mixup": (0.0, 0.1, 0.3),
    "online_augmentation.time_masks": (0, 1, 2),
    "online_augmentation.frequency_masks": (0, 1, 2),
    "online_augmentation.frequency_shift": (0, 2, 4, 6),
    "online_augmentation.level_sd": (0.0, 0.3),
}


def get_config(variant: str = "crnn") -> ConfigDict:
    """Return the searched config, the runs with what each changes, and what the page shows."""
    model, _, further = variant.partition(",")
    if model not in MODELS:
        raise ValueError(f"search.py:{model} is unknown; name one of {', '.join(MODELS)}.")
    config = importlib.import_module(f"configs.{model}").get_config(further)
    inside = "tfds" if config.corpus.name == "crema_d" else "speaker_kfold"
    config.name = f"search-{config.name}"
    config.split.update(name="speaker_kfold", inside=inside, n_folds=4, fold="all")
    config.hours = 2.0  # no setting is begun after so many; 0 tries all
    config.runs = runs = ConfigDict({"as_it_is": {}})
    own, pairs, settings = config.to_dict(), [], [{}]
    generator = np.random.default_rng(SEED)
    space = {key: values for key, values in SPACE.items() if _is_used(own, key)}
    while len(runs) < N_SETTINGS:
        changed = [key for key in space if generator.random() < 0.5]
        drawn = {key: space[key][generator.integers(len(space[key]))] for key in changed}
        drawn = {key: value for key, value in drawn.items() if value != _at(own, key)}
        name, overrides = f"setting_{len(runs):02d}", {}
        if drawn in settings:
            continue
        settings.append(drawn)
        for key, value in drawn.items():
            section, _, field = key.rpartition(".")
            overrides.setdefault(section, {})[field] = value
        runs[name] = ConfigDict(overrides)
        pairs.append((name, "as_it_is", ", ".join(f"{k} {v:g}" for k, v in drawn.items())))
    config.titles, config.table1, config.claims = ConfigDict(), (), ()
    config.reference = {"metric": "accuracy", "corpus": "", "column": "", "note": ""}
    note = "Each minus the config as it is, on the same clips."
    config.comparisons = ({"title": "Settings", "note": note, "pairs": tuple(pairs)},)
    return config


def _at(config: dict[str, Any], key: str) -> Any:
    section, _, field = key.rpartition(".")
    return config[section].get(field)


def _is_used(config: dict[str, Any], key: str) -> bool:
    """Return whether a key has an effect: online augmentation only where the config has some."""
    is_plain = not any(v for k, v in config["online_augmentation"].items() if "mask_" not in k)
    return _at(config, key) is not None and not (
        key.startswith("online_augmentation.") and is_plain
    )
