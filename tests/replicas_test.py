"""Replicas are the product of seeds, folds and swept values."""

import numpy as np
import pytest

from ser_jax.common.errors import UserError
from ser_jax.train.replicas import best_setting, expand


def test_single_replica_takes_the_config_values(tiny):
    (only,) = expand(tiny())
    assert (only.seed, only.fold, only.setting) == (0, 0, {})
    assert only.value(tiny(), "optimizer.learning_rate") == 1e-3


def test_replicas_are_ordered_by_setting_fold_and_seed(tiny):
    config = tiny()
    config.seed, config.replicas.seeds, config.split.fold = 7, 2, "all"
    config.replicas.sweep.optimizer__l2 = (0, 0.01)  # an integer is allowed
    config.replicas.sweep.train__class_weights = ("none", "balanced")
    replicas = expand(config)
    assert len(replicas) == 2 * 3 * 2 * 2
    assert [(r.seed, r.fold) for r in replicas[:7]] == [
        (7, 0),
        (8, 0),
        (7, 1),
        (8, 1),
        (7, 2),
        (8, 2),
        (7, 0),
    ]
    assert replicas[0].setting == {"optimizer.l2": 0, "train.class_weights": "none"}
    assert replicas[-1].value(config, "train.class_weights") == "balanced"
    assert replicas[-1].value(config, "train.dropout") == config.train.dropout
    assert str(replicas[-1]) == "seed 8, fold 2, optimizer.l2=0.01, train.class_weights=balanced"


@pytest.mark.parametrize(
    ("key", "values", "sentence"),
    [
        ("optimizer__l2", ("much",), "optimizer__l2 contains 'much'; give values such as"),
        ("train__class_weights", (1.0,), "train__class_weights contains 1.0"),
        ("train__dropout", (0.1, 0.1), "train__dropout repeats a value"),
    ],
)
def test_invalid_sweep_is_refused(tiny, key, values, sentence):
    config = tiny()
    config.replicas.sweep[key] = values
    with pytest.raises(UserError, match=sentence):
        expand(config)


@pytest.mark.parametrize(
    ("values", "best"),
    [
        ((0.5, 0.6, 0.7, 0.8), 1),
        ((0.5, 0.6, 0.9, -np.inf), 0),  # a setting whose seeds fail comes last
        ((-np.inf, -np.inf, 0.1, -np.inf), 1),
        ((-np.inf, 0.5, -np.inf, 0.6), 1),
    ],
)
def test_best_setting_has_the_fewest_failures_then_the_best_mean(values, best):
    settings = [{"optimizer.l2": number // 2} for number in range(4)]
    assert best_setting(settings, np.array(values)) == {"optimizer.l2": best}
