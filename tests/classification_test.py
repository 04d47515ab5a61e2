"""Confusion counts and the metrics computed from them agree with scikit-learn."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sk

from ser_jax.metrics import classification
from ser_jax.train import step


def random_clips(seed, n_classes=6, n_clips=200):
    """Labels and predictions; some classes are missing from one, the other, or both."""
    rng = np.random.default_rng(seed)
    true, predicted = (rng.choice(n_classes, rng.integers(1, n_classes + 1)) for _ in range(2))
    return rng.choice(true, n_clips), rng.choice(predicted, n_clips)


def test_counts_leave_out_padding_and_add_up():
    label_B, prediction_B = random_clips(0)
    weight_B = np.arange(200) < 150
    counts = jax.jit(step.confusion_counts, static_argnums=3)
    first = counts(label_B[:100], prediction_B[:100], weight_B[:100], 6)
    second = counts(label_B[100:], prediction_B[100:], jnp.float32(weight_B[100:]), 6)
    expected = sk.confusion_matrix(label_B[:150], prediction_B[:150], labels=range(6))
    np.testing.assert_array_equal(first + second, expected)
    assert first.dtype == jnp.int32


def test_counts_of_replicas():
    label_B, prediction_B = random_clips(1)
    predictions_RxB = jnp.stack([prediction_B, label_B])
    counts = jax.vmap(lambda p: step.confusion_counts(label_B, p, jnp.ones(200), 6))
    for replica, matrix in zip(predictions_RxB, counts(predictions_RxB), strict=True):
        np.testing.assert_array_equal(
            matrix, sk.confusion_matrix(label_B, replica, labels=range(6))
        )


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.filterwarnings("ignore:A single label was found")
def test_metrics_agree_with_scikit_learn():
    for seed in range(100):
        pair = truth, predictions = random_clips(seed)
        confusion = sk.confusion_matrix(truth, predictions, labels=range(6))
        expected = {
            "accuracy": sk.accuracy_score(*pair),
            "uar": sk.balanced_accuracy_score(*pair),
            "macro_f1": sk.f1_score(*pair, average="macro", zero_division=0),
            "weighted_f1": sk.f1_score(*pair, average="weighted", zero_division=0),
        }
        headline = {name: metric(confusion) for name, metric in classification.HEADLINE.items()}
        assert headline == pytest.approx(expected)
        expected = sk.precision_recall_fscore_support(*pair, labels=range(6), zero_division=0)
        for (name, score_C), expected_C in zip(
            classification.per_class(confusion).items(), expected, strict=True
        ):
            np.testing.assert_allclose(score_C, expected_C, err_msg=name)


def test_metrics_of_stacked_confusions_equal_those_of_each():
    counts = np.random.default_rng(0).integers(0, 3, (4, 5, 3, 3))
    counts[1, :, 0] = counts[2, 0] = 0
    for metric in classification.HEADLINE.values():
        stacked = metric(counts)
        assert stacked.shape == (4, 5)
        for i, j in np.ndindex(4, 5):
            assert stacked[i, j] == pytest.approx(metric(counts[i, j]))
            assert isinstance(metric(counts[i, j]), float)


def test_empty_counts_give_zero_without_a_warning(recwarn):
    for metric in classification.HEADLINE.values():
        assert metric(np.zeros((3, 3))) == 0
    assert not recwarn.list


def test_summary_is_json_with_exactly_these_keys():
    summary = classification.summary(np.array([[3, 1], [0, 4]], np.int32), ["calm", "anger"])
    assert json.loads(json.dumps(summary)) == summary
    assert list(summary) == [
        *("accuracy", "uar", "macro_f1", "weighted_f1", "per_class", "confusion"),
    ]
    assert summary["accuracy"] == summary["uar"] == 7 / 8
    assert summary["confusion"] == [[3, 1], [0, 4]]
    calm = {"precision": 1.0, "recall": 0.75, "f1": 6 / 7, "support": 4}
    assert summary["per_class"]["calm"] == calm
