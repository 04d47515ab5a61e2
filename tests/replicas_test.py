"""Seeds × folds × swept values."""

import pytest

from ser_jax.common.errors import UserError
from ser_jax.train import replicas


def test_one_replica_is_the_config_itself(tiny):
    (only,) = replicas.expand(tiny())
    assert (only.seed, only.fold, only.setting) == (0, 0, {})
    assert only.value(tiny(), "optimizer.learning_rate") == 1e-3


def test_replicas_are_the_product_by_setting_fold_and_seed(tiny):
    config = tiny()
    config.seed, config.replicas.seeds, config.split.fold = 7, 2, "all"
    config.replicas.sweep.optimizer__l2 = (0, 0.01)  # a whole number will do
    config.replicas.sweep.train__class_weights = ("none", "balanced")
    found = replicas.expand(config)
    assert len(found) == 2 * 3 * 2 * 2
    assert [(r.seed, r.fold) for r in found[:7]] == [
        (7, 0),
        (8, 0),
        (7, 1),
        (8, 1),
        (7, 2),
        (8, 2),
        (7, 0),
    ]
    assert found[0].setting == {"optimizer.l2": 0, "train.class_weights": "none"}
    assert found[-1].value(config, "train.class_weights") == "balanced"
    assert found[-1].value(config, "train.dropout") == config.train.dropout
    assert str(found[-1]) == "seed 8, fold 2, optimizer.l2=0.01, train.class_weights=balanced"


@pytest.mark.parametrize(
    ("key", "values", "sentence"),
    [
        ("optimizer__l2", ("much",), "optimizer__l2 holds 'much'; give values such as"),
        ("train__class_weights", (1.0,), "train__class_weights holds 1.0"),
        ("train__dropout", (0.1, 0.1), "train__dropout names a value twice"),
    ],
)
def test_a_sweep_of_other_values_is_refused(tiny, key, values, sentence):
    config = tiny()
    config.replicas.sweep[key] = values
    with pytest.raises(UserError, match=sentence):
        replicas.expand(config)


def test_no_seed_is_refused(tiny):
    config = tiny()
    config.replicas.seeds = 0
    with pytest.raises(UserError, match="replicas.seeds=0 must be 1 or more"):
        replicas.expand(config)
