"""The bootstrap over speakers equals a loop over clips, covers the truth, and pairs runs."""

import json

import numpy as np
import pytest
from sklearn import metrics as sk

from ser_jax.metrics import intervals
from ser_jax.metrics.classification import HEADLINE
from ser_jax.metrics.intervals import (
    bootstrap_intervals,
    paired_differences,
    percentile_limits,
    resampled_metrics,
    resamples,
)
from ser_jax.metrics.predictions import Predictions, speaker_confusions
from tests.sample_predictions import (
    concatenate,
    from_probabilities,
    replica_predictions,
    two_folds,
)


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_resampled_metrics_equal_a_loop_with_scikit_learn():
    predictions = two_folds()
    speakers = np.unique(predictions.speaker_P)
    counts = speaker_confusions(predictions)
    fast = resampled_metrics(counts, 50, seed=7)
    (times_BxS,) = resamples(counts.any((2, 3)), 50, seed=7)
    for b, times_S in enumerate(times_BxS):
        times_P = times_S[np.searchsorted(speakers, predictions.speaker_P)].astype(int)
        slow = {name: [] for name in HEADLINE}
        for r in range(4):
            rows = np.repeat(np.arange(len(times_P)), times_P * (predictions.replica_P == r))
            truth, guess = predictions.label_P[rows], predictions.prediction_P[rows]
            slow["accuracy"].append(sk.accuracy_score(truth, guess))
            slow["uar"].append(sk.balanced_accuracy_score(truth, guess))
            slow["macro_f1"].append(sk.f1_score(truth, guess, average="macro", zero_division=0))
            slow["weighted_f1"].append(
                sk.f1_score(truth, guess, average="weighted", zero_division=0)
            )
        for name, values in slow.items():
            assert fast[name][b] == pytest.approx(np.mean(values)), name


def test_intervals_are_mean_and_sd_over_replicas_and_percentiles():
    predictions = two_folds()
    summary = bootstrap_intervals(predictions)
    assert json.loads(json.dumps(summary)) == summary
    accuracy_R = [predictions.of_replicas([r]).correct_P.mean() for r in range(4)]
    assert summary["accuracy"]["mean"] == pytest.approx(np.mean(accuracy_R))
    assert summary["accuracy"]["sd"] == pytest.approx(np.std(accuracy_R, ddof=1))
    uar_B = resampled_metrics(speaker_confusions(predictions))["uar"]
    assert summary["uar"]["low"] == np.quantile(uar_B, 0.025)
    assert summary["uar"]["high"] == np.quantile(uar_B, 0.975)
    low, high = percentile_limits(uar_B, 2, level=0.5)
    assert summary["uar"]["low"] < low < high < summary["uar"]["high"]
    assert bootstrap_intervals(predictions.of_replicas([2]))["uar"]["sd"] is None


def test_speakers_are_drawn_within_test_sets():
    present_RxS = np.zeros((4, 9), bool)
    present_RxS[[0, 3], :5] = present_RxS[[1, 2], 5:] = True
    (times_BxS,) = resamples(present_RxS, 300, seed=0)
    assert (times_BxS[:, :5].sum(1) == 5).all() and (times_BxS[:, 5:].sum(1) == 4).all()
    assert times_BxS.mean(0) == pytest.approx(1, abs=0.2)
    present_RxS[2, 0] = True  # a shared speaker makes the two test sets one
    (times_BxS,) = resamples(present_RxS, 300, seed=0)
    assert (times_BxS.sum(1) == 9).all() and times_BxS[:, :5].sum(1).std() > 1


def test_test_sets_joined_by_a_chain_of_replicas_are_one():
    present_RxS = np.zeros((9, 10), bool)
    for r in range(9):
        present_RxS[r, [r, r + 1]] = True
    (times_BxS,) = resamples(present_RxS, 300, seed=0)
    assert (times_BxS.sum(1) == 10).all() and times_BxS[:, :2].sum(1).std() > 1


def test_leave_one_speaker_out_draws_from_all_speakers():
    folds = concatenate(*(replica_predictions(r, range(r, 60, 5)) for r in range(5)))
    assert len(set(folds.of_replicas([3]).speaker_P)) == 1
    accuracy = bootstrap_intervals(folds)["accuracy"]
    by_speaker = [folds.of_replicas([r]).correct_P.mean() for r in range(5)]
    drawn = np.random.default_rng(0).choice(by_speaker, (4000, 5)).mean(1)
    assert accuracy["low"] == pytest.approx(np.quantile(drawn, 0.025), abs=0.02)
    assert accuracy["high"] == pytest.approx(np.quantile(drawn, 0.975), abs=0.02)


def test_chunks_of_resamples_add_up(monkeypatch):
    monkeypatch.setattr(intervals, "_WEIGHTS_PER_CHUNK", 50)
    chunks = list(resamples(np.ones((1, 9), bool), 23, seed=0))
    assert [len(chunk) for chunk in chunks] == [5, 5, 5, 5, 3]
    assert len(np.unique(np.concatenate(chunks), axis=0)) > 15
    value_B = resampled_metrics(speaker_confusions(two_folds()), 23, 0)
    assert value_B["uar"].shape == (23,)


def test_one_speaker_has_no_interval():
    single = replica_predictions(0, range(0, 60, 5))
    accuracy = bootstrap_intervals(single)["accuracy"]
    assert accuracy["low"] is None and accuracy["high"] is None and 0 < accuracy["mean"] < 1
    assert paired_differences(single, single)["uar"]["low"] is None


def test_the_interval_covers_the_truth_when_clips_of_a_speaker_are_alike():
    """19 speakers of 40 clips, with accuracies that differ by 15 points: coverage is near 95 %."""
    random = np.random.default_rng(0)
    n_covered = n_covered_over_clips = 0
    for trial in range(300):
        accuracy_S = np.clip(random.normal(0.5, 0.15, 19), 0, 1)
        hits_S = random.binomial(40, accuracy_S)
        counts = np.zeros((1, 19, 2, 2))
        counts[0, :, 0, 0], counts[0, :, 0, 1] = hits_S, 40 - hits_S
        value_B = resampled_metrics(counts, 400, trial)["accuracy"]
        low, high = percentile_limits(value_B, 19)
        n_covered += low <= 0.5 <= high
        mean = hits_S.sum() / 760
        n_covered_over_clips += abs(mean - 0.5) <= 1.96 * np.sqrt(mean * (1 - mean) / 760)
    assert 0.88 < n_covered / 300 < 0.96
    assert n_covered_over_clips / 300 < 0.75


def test_a_run_does_not_differ_from_itself():
    a = two_folds()
    for b in (a, a.where(np.random.default_rng(1).permutation(200))):
        for difference in paired_differences(a, b).values():
            assert difference == {"difference": 0, "low": 0, "high": 0}


def test_pairs_share_the_speakers_whatever_their_number_of_replicas():
    a = two_folds()
    twice = concatenate(
        *(
            Predictions(n - a.replica_P, a.clip_P, a.speaker_P, a.label_P, a.probability_PxC)
            for n in (3, 7)
        )
    )
    for difference in paired_differences(a, twice).values():
        assert list(difference.values()) == pytest.approx([0, 0, 0], abs=1e-12)


def test_a_paired_difference_can_be_certain_while_the_intervals_overlap():
    """b is a little worse than a for every speaker, while speakers differ a lot."""
    n = 200
    speakers = [f"s{i % 10}" for i in range(n)]
    correct_a = [(i // 10) < 5 + i % 10 for i in range(n)]
    correct_b = [correct and i // 10 != 2 for i, correct in enumerate(correct_a)]
    a, b = (
        from_probabilities([[0.9, 0.1] if c else [0.1, 0.9] for c in correct], speakers=speakers)
        for correct in (correct_a, correct_b)
    )
    assert paired_differences(a, b)["accuracy"] == {
        key: pytest.approx(0.05) for key in ("difference", "low", "high")
    }
    accuracy_a, accuracy_b = (bootstrap_intervals(x)["accuracy"] for x in (a, b))
    assert accuracy_a["low"] < accuracy_b["high"]
    assert paired_differences(b, a)["accuracy"]["difference"] == pytest.approx(-0.05)


def test_runs_with_other_test_clips_cannot_be_paired():
    with pytest.raises(ValueError, match="same test clips"):
        paired_differences(two_folds(), two_folds().of_replicas([0, 1]))
    with pytest.raises(ValueError, match="same test clips"):
        paired_differences(replica_predictions(0, range(60)), replica_predictions(0, range(61)))
