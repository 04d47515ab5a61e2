"""Listeners: agreement with the labels, and metrics against the emotions they perceived."""

import dataclasses

import numpy as np
import pytest

from data_prep import corpora
from ser_jax.metrics.intervals import bootstrap_intervals, differences_of_counts
from ser_jax.metrics.listeners import agreement, lead, perceived
from ser_jax.metrics.predictions import speaker_confusions
from tests.sample_predictions import from_probabilities, two_folds


def test_agreement_shares_ties_and_leaves_out_unrated_clips():
    votes_NxC = [[3, 1, 0], [2, 2, 0], [0, 0, 0], [0, 1, 4]]
    human = agreement(votes_NxC, [0, 1, 1, 1])
    assert human["n_clips"] == 3 and human["n_ratings"] == 13
    assert human["accuracy"] == pytest.approx((3 + 2 + 1) / 13)
    assert human["recall"] == pytest.approx([3 / 4, 3 / 9, 0])
    assert human["confusion"] == [[3, 1, 0], [2, 3, 4], [0, 0, 0]]
    assert human["uar"] == pytest.approx((3 / 4 + 3 / 9) / 2)
    assert human["plurality_accuracy"] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert human["plurality_uar"] == pytest.approx((1 + (1 / 2 + 0) / 2) / 2)


def test_agreement_on_crema_d(shared_data):
    corpus = corpora.read(
        "crema_d", shared_data / "crema_d_resynth", tables_dir=shared_data / "crema_d"
    )
    no_votes = (0,) * len(corpus.labels)
    human = agreement(
        [u.votes or no_votes for u in corpus.utterances],
        [corpus.labels.index(u.emotion) for u in corpus.utterances],
    )
    percent = {key: round(100 * human[key], 1) for key in ("accuracy", "uar", "plurality_accuracy")}
    assert percent == {"accuracy": 40.0, "uar": 40.7, "plurality_accuracy": 44.6}
    # Anger, disgust, fear, happiness, neutral, sadness; counted independently from the table.
    recall_C = [0.5320, 0.2863, 0.3210, 0.2895, 0.7624, 0.2505]
    np.testing.assert_allclose(human["recall"], recall_C, atol=5e-5)
    assert human["n_clips"] == 7442


def test_lead_is_the_paired_difference_on_the_same_clips_and_speakers():
    predictions = two_folds()
    clips = dict(zip(predictions.clip_P.tolist(), predictions.label_P.tolist(), strict=True))
    random = np.random.default_rng(0)
    votes = {clip: random.integers(0, 4, 3) + np.eye(3, dtype=int)[c] for clip, c in clips.items()}
    votes[next(iter(votes))] = np.zeros(3, int)
    rated = predictions.where([bool(votes[clip].any()) for clip in predictions.clip_P.tolist()])
    result = lead(predictions, votes)
    # Each rating as a row of its own, by listeners who share the model's replica numbers.
    times_P = np.array([votes[clip].sum() for clip in rated.clip_P.tolist()])
    perceived_Q = np.concatenate([np.repeat(range(3), votes[c]) for c in rated.clip_P.tolist()])
    listeners = rated.where(np.repeat(np.arange(len(times_P)), times_P))
    listeners = dataclasses.replace(listeners, probability_PxC=np.eye(3)[perceived_Q])
    expected = differences_of_counts(speaker_confusions(rated), speaker_confusions(listeners))
    for metric, difference in expected.items():
        each = result[metric].pop("each")
        assert result[metric] == pytest.approx(difference)
        assert np.mean(each) == pytest.approx(difference["difference"]) and len(each) == 4


def test_perceived_accepts_each_of_the_tied_votes():
    probability_CxC = 0.8 * np.eye(3) + 0.1 * (1 - np.eye(3))
    predictions = from_probabilities(
        probability_CxC[[0, 1, 2, 1, 0]], speakers=["s", "s", "t", "t", "t"]
    )
    votes = {"c0": (5, 1, 0), "c1": (4, 4, 0), "c2": (2, 2, 0), "c3": (0, 0, 0), "c4": (0, 3, 1)}
    metrics = perceived(predictions, votes)
    # c0 and c1 are right; c2's miss is half neutral's, half anger's; c4's is anger's; c3 has none.
    assert metrics["n_clips"] == 4
    assert metrics["accuracy"] == pytest.approx(2 / 4)
    assert metrics["uar"] == pytest.approx((1 / 1.5 + 1 / 2.5) / 2)
    assert (metrics["low"], metrics["high"]) == (0, 1)  # s is always right, t never
    assert perceived(predictions, {"c3": (), "elsewhere": (1, 2, 3)}) is None


def test_perceived_equals_accuracy_if_all_votes_name_the_label():
    predictions = two_folds()
    votes = {
        clip: [5 * (label == c) for c in range(3)]
        for clip, label in zip(
            predictions.clip_P.tolist(), predictions.label_P.tolist(), strict=True
        )
    }
    metrics = perceived(predictions, votes)
    expected = bootstrap_intervals(predictions)
    assert metrics["uar"] == pytest.approx(expected["uar"]["mean"])
    assert {k: metrics[k] for k in ("low", "high")} == {
        k: pytest.approx(expected["accuracy"][k]) for k in ("low", "high")
    }
