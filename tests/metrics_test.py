import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sk

from data_prep import corpora
from ser_jax.metrics import classification, listeners
from ser_jax.train import step


def random_clips(seed, n_classes=6, n_clips=200):
    """Labels and predictions; some classes are missing in one, the other, or both."""
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
def test_ratios_agree_with_scikit_learn():
    for seed in range(100):
        truth, predictions = random_clips(seed)
        confusion = sk.confusion_matrix(truth, predictions, labels=range(6))
        assert classification.accuracy(confusion) == pytest.approx(
            sk.accuracy_score(truth, predictions)
        )
        assert classification.uar(confusion) == pytest.approx(
            sk.balanced_accuracy_score(truth, predictions)
        )
        for ours, average in (
            (classification.macro_f1, "macro"),
            (classification.weighted_f1, "weighted"),
        ):
            expected = sk.f1_score(truth, predictions, average=average, zero_division=0)
            assert ours(confusion) == pytest.approx(expected)
        expected = sk.precision_recall_fscore_support(
            truth, predictions, labels=range(6), zero_division=0
        )
        for (name, ours), theirs in zip(
            classification.per_class(confusion).items(), expected, strict=True
        ):
            np.testing.assert_allclose(ours, theirs, err_msg=name)


def test_ratios_of_many_confusions_are_those_of_each():
    counts = np.random.default_rng(0).integers(0, 3, (4, 5, 3, 3))
    counts[1, :, 0] = counts[2, 0] = 0
    for ratio in classification.HEADLINE.values():
        many = ratio(counts)
        assert many.shape == (4, 5)
        for i, j in np.ndindex(4, 5):
            assert many[i, j] == pytest.approx(ratio(counts[i, j]))
            assert isinstance(ratio(counts[i, j]), float)


def test_nothing_counted_is_zero_and_silent(recwarn):
    empty = np.zeros((3, 3))
    for ratio in (
        classification.accuracy,
        classification.uar,
        classification.macro_f1,
        classification.weighted_f1,
    ):
        assert ratio(empty) == 0
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


def test_listeners_ties_are_shared_and_unrated_clips_left_out():
    votes_NxC = [[3, 1, 0], [2, 2, 0], [0, 0, 0], [0, 1, 4]]
    human = listeners.agreement(votes_NxC, [0, 1, 1, 1])
    assert human["n_clips"] == 3 and human["n_ratings"] == 13
    assert human["accuracy"] == pytest.approx((3 + 2 + 1) / 13)
    assert human["recall"] == pytest.approx([3 / 4, 3 / 9, 0])
    assert human["confusion"] == [[3, 1, 0], [2, 3, 4], [0, 0, 0]]
    assert human["uar"] == pytest.approx((3 / 4 + 3 / 9) / 2)
    assert human["plurality_accuracy"] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert human["plurality_uar"] == pytest.approx((1 + (1 / 2 + 0) / 2) / 2)


def test_listeners_of_crema_d(shared_data):
    corpus = corpora.read(
        "crema_d", shared_data / "crema_d_resynth", tables_dir=shared_data / "crema_d"
    )
    nobody = (0,) * len(corpus.labels)
    human = listeners.agreement(
        [u.votes or nobody for u in corpus.utterances],
        [corpus.labels.index(u.emotion) for u in corpus.utterances],
    )
    percent = {key: round(100 * human[key], 1) for key in ("accuracy", "uar", "plurality_accuracy")}
    assert percent == {"accuracy": 40.0, "uar": 40.7, "plurality_accuracy": 44.6}
    # Anger, disgust, fear, happiness, neutral, sadness; counted in the table on its own.
    by_class = [0.5320, 0.2863, 0.3210, 0.2895, 0.7624, 0.2505]
    np.testing.assert_allclose(human["recall"], by_class, atol=5e-5)
    assert human["n_clips"] == 7442
