import json

import numpy as np
import pytest
from sklearn import metrics as sk

from ser_jax.metrics import breakdown, calibration, classification, intervals, listeners
from ser_jax.metrics import predictions as metrics_predictions

LABELS = ["neutral", "anger", "joy"]


def replica(number, clips, *, seed=0, speaker=lambda clip: f"s{clip % 5}"):
    """Predictions of one replica that is right more often than not; clip i's label is i mod 3."""
    random = np.random.default_rng([seed, number])
    label_P = np.array(clips) % 3
    probability_PxC = random.dirichlet(np.ones(3), len(clips)) + 0.3 * np.eye(3)[label_P]
    return metrics_predictions.Predictions(
        replica_P=np.full(len(clips), number),
        clip_P=np.array([f"c{clip:04}" for clip in clips]),
        speaker_P=np.array([speaker(clip) for clip in clips]),
        label_P=label_P,
        probability_PxC=probability_PxC / probability_PxC.sum(1, keepdims=True),
    )


def together(*parts):
    fields = metrics_predictions.Predictions.__dataclass_fields__
    return metrics_predictions.Predictions(
        *(np.concatenate([getattr(part, field) for part in parts]) for field in fields)
    )


def named(probabilities, labels=None, speakers=None):
    """One replica's predictions from probabilities; all of one class and speaker unless told."""
    n = len(probabilities)
    return metrics_predictions.Predictions(
        replica_P=np.zeros(n, int),
        clip_P=np.array([f"c{i}" for i in range(n)]),
        speaker_P=np.array(speakers or ["s"] * n),
        label_P=np.array([0] * n if labels is None else labels),
        probability_PxC=np.array(probabilities, float),
    )


def two_folds(**options):
    """Two seeds of two folds: speakers s0 to s4 are tested by replicas 0, 1; t0 to t3 by 2, 3."""
    return together(
        *(replica(r, range(60), **options) for r in (0, 1)),
        *(
            replica(r, range(60, 100), speaker=lambda clip: f"t{clip % 4}", **options)
            for r in (2, 3)
        ),
    )


def rounded(value):
    return json.loads(json.dumps(value), parse_float=lambda text: round(float(text), 9))


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_resampled_metrics_agree_with_a_loop_and_scikit_learn():
    predictions = two_folds()
    speakers = np.unique(predictions.speaker_P)
    counts = metrics_predictions.speaker_confusions(predictions)
    fast = intervals.resampled_metrics(counts, 50, seed=7)
    (times_BxS,) = intervals.resamples(counts.any((2, 3)), 50, seed=7)
    for b, times_S in enumerate(times_BxS):
        times_P = times_S[np.searchsorted(speakers, predictions.speaker_P)].astype(int)
        slow = {name: [] for name in classification.HEADLINE}
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


def test_intervals_give_mean_and_sd_over_replicas_and_percentiles():
    predictions = two_folds()
    found = intervals.bootstrap_intervals(predictions, n_resamples=400, seed=3)
    assert json.loads(json.dumps(found)) == found
    by_replica = [predictions.of_replicas([r]).correct_P.mean() for r in range(4)]
    assert found["accuracy"]["mean"] == pytest.approx(np.mean(by_replica))
    assert found["accuracy"]["sd"] == pytest.approx(np.std(by_replica, ddof=1))
    value_B = intervals.resampled_metrics(
        metrics_predictions.speaker_confusions(predictions), 400, 3
    )["uar"]
    assert found["uar"]["low"] == np.quantile(value_B, 0.025)
    assert found["uar"]["high"] == np.quantile(value_B, 0.975)
    narrow = intervals.bootstrap_intervals(predictions, n_resamples=400, seed=3, level=0.5)["uar"]
    assert found["uar"]["low"] < narrow["low"] < narrow["high"] < found["uar"]["high"]
    assert intervals.bootstrap_intervals(predictions.of_replicas([2]))["uar"]["sd"] is None


def test_the_rows_order_changes_nothing():
    predictions = two_folds()
    order = np.random.default_rng(0).permutation(len(predictions.label_P))
    shuffled = predictions.where(order)
    votes = dict.fromkeys(predictions.clip_P.tolist(), (3, 1, 3))
    level = {clip: clip[-1] for clip in votes}
    for summary in (
        intervals.bootstrap_intervals,
        calibration.calibration,
        calibration.coverage,
        lambda p: listeners.perceived(p, votes),
        lambda p: breakdown.accuracy_by_group(p, {"level": level}, votes, LABELS, n_resamples=50),
    ):
        assert rounded(summary(shuffled)) == rounded(summary(predictions))


def test_speakers_are_drawn_within_test_sets():
    present_RxS = np.zeros((4, 9), bool)
    present_RxS[[0, 3], :5] = present_RxS[[1, 2], 5:] = True
    (times_BxS,) = intervals.resamples(present_RxS, 300, seed=0)
    assert (times_BxS[:, :5].sum(1) == 5).all() and (times_BxS[:, 5:].sum(1) == 4).all()
    assert times_BxS.mean(0) == pytest.approx(1, abs=0.2)
    present_RxS[2, 0] = True  # the two sets have a speaker in common: they are one
    (times_BxS,) = intervals.resamples(present_RxS, 300, seed=0)
    assert (times_BxS.sum(1) == 9).all() and times_BxS[:, :5].sum(1).std() > 1


def test_leaving_one_speaker_out_draws_among_all():
    folds = together(*(replica(r, range(r, 60, 5)) for r in range(5)))
    assert len(set(folds.of_replicas([3]).speaker_P)) == 1
    accuracy = intervals.bootstrap_intervals(folds)["accuracy"]
    by_speaker = [folds.of_replicas([r]).correct_P.mean() for r in range(5)]
    drawn = np.random.default_rng(0).choice(by_speaker, (4000, 5)).mean(1)
    assert accuracy["low"] == pytest.approx(np.quantile(drawn, 0.025), abs=0.02)
    assert accuracy["high"] == pytest.approx(np.quantile(drawn, 0.975), abs=0.02)


def test_parts_of_the_resamples_add_up(monkeypatch):
    monkeypatch.setattr(intervals, "_WEIGHTS_PER_CHUNK", 50)
    parts = list(intervals.resamples(np.ones((1, 9), bool), 23, seed=0))
    assert [len(part) for part in parts] == [5, 5, 5, 5, 3]
    assert len(np.unique(np.concatenate(parts), axis=0)) > 15
    value_B = intervals.resampled_metrics(
        metrics_predictions.speaker_confusions(two_folds()), 23, 0
    )
    assert value_B["uar"].shape == (23,)


def test_one_speaker_has_no_interval():
    alone = replica(0, range(0, 60, 5))
    found = intervals.bootstrap_intervals(alone)["accuracy"]
    assert found["low"] is None and found["high"] is None and 0 < found["mean"] < 1
    assert intervals.paired_differences(alone, alone)["uar"]["low"] is None


def test_the_interval_holds_the_truth_where_clips_of_a_speaker_are_alike():
    """19 speakers of 40 clips whose accuracies differ by 15 points: 95 % is nearly that."""
    random = np.random.default_rng(0)
    ours = naive = 0
    for trial in range(300):
        share_S = np.clip(random.normal(0.5, 0.15, 19), 0, 1)
        hits_S = random.binomial(40, share_S)
        counts = np.zeros((1, 19, 2, 2))
        counts[0, :, 0, 0], counts[0, :, 0, 1] = hits_S, 40 - hits_S
        value_B = intervals.resampled_metrics(counts, 400, trial)["accuracy"]
        low, high = intervals.percentile_limits(value_B, 19)
        ours += low <= 0.5 <= high
        mean = hits_S.sum() / 760
        naive += abs(mean - 0.5) <= 1.96 * np.sqrt(mean * (1 - mean) / 760)
    assert 0.88 < ours / 300 < 0.96
    assert naive / 300 < 0.75


def test_a_run_does_not_differ_from_itself():
    a = two_folds()
    for other in (a, a.where(np.random.default_rng(1).permutation(200))):
        for found in intervals.paired_differences(a, other).values():
            assert found == {"difference": 0, "low": 0, "high": 0}


def test_pairs_share_the_speakers_whatever_number_their_replicas_have():
    a = two_folds()
    renumbered = metrics_predictions.Predictions(
        3 - a.replica_P, a.clip_P, a.speaker_P, a.label_P, a.probability_PxC
    )
    twice = together(
        renumbered,
        metrics_predictions.Predictions(
            7 - a.replica_P, a.clip_P, a.speaker_P, a.label_P, a.probability_PxC
        ),
    )
    for found in intervals.paired_differences(a, twice).values():
        assert list(found.values()) == pytest.approx([0, 0, 0], abs=1e-12)


def test_a_pair_differs_more_surely_than_its_intervals_tell():
    """b is a little worse than a with every speaker, while speakers differ much."""
    n = 200
    speakers = [f"s{i % 10}" for i in range(n)]
    good = [(i // 10) < 5 + i % 10 for i in range(n)]
    worse = [right and i // 10 != 2 for i, right in enumerate(good)]
    a, b = (
        named([[0.9, 0.1] if right else [0.1, 0.9] for right in rights], speakers=speakers)
        for rights in (good, worse)
    )
    found = intervals.paired_differences(a, b)["accuracy"]
    assert found == {"difference": pytest.approx(0.05)} | {
        key: pytest.approx(0.05) for key in ("low", "high")
    }
    alone_a, alone_b = (intervals.bootstrap_intervals(x)["accuracy"] for x in (a, b))
    assert alone_a["low"] < alone_b["high"]
    assert intervals.paired_differences(b, a)["accuracy"]["difference"] == pytest.approx(-0.05)


def test_other_clips_cannot_be_paired():
    with pytest.raises(ValueError, match="same test clips"):
        intervals.paired_differences(two_folds(), two_folds().of_replicas([0, 1]))
    with pytest.raises(ValueError, match="same test clips"):
        intervals.paired_differences(replica(0, range(60)), replica(0, range(61)))


def test_calibration_of_known_answers():
    # Ten clips named with 0.8, of which nine are right; four with 0.5, of which one is.
    probabilities = [[0.8, 0.2]] * 10 + [[0.5, 0.5]] * 4
    found = calibration.calibration(named(probabilities, [0] * 9 + [1] + [0] + [1] * 3), 10)
    assert found["ece"] == pytest.approx((10 * 0.1 + 4 * 0.25) / 14)
    assert [(b["low"], b["high"], b["n"]) for b in found["bins"] if b["n"]] == [
        (0.4, 0.5, 4),  # a bin is without its lower edge and with its upper one
        (0.7, 0.8, 10),
    ]
    full = found["bins"][7]
    assert (full["confidence"], full["accuracy"]) == (pytest.approx(0.8), 0.9)
    empty = found["bins"][9]
    assert empty == {"low": 0.9, "high": 1.0, "n": 0, "confidence": None, "accuracy": None}
    assert json.loads(json.dumps(found)) == found
    sure = calibration.calibration(named([[1.0, 0.0]] * 4, [1, 1, 1, 0]))
    assert sure["ece"] == 0.75 and sure["bins"][14]["n"] == 4


def test_calibration_of_a_model_that_knows_is_near_0_and_of_one_that_boasts_is_not():
    random = np.random.default_rng(0)
    p = random.uniform(0.5, 1, 20_000)
    label = (random.uniform(size=p.size) > p).astype(int)
    knows = named(np.stack([p, 1 - p], 1), label)
    boasts = named(np.stack([p**0.2, 1 - p**0.2], 1), label)
    assert calibration.calibration(knows)["ece"] < 0.012
    assert calibration.calibration(boasts)["ece"] == pytest.approx(np.mean(p**0.2 - p), abs=0.012)


def test_a_network_that_diverged_is_as_certain_as_a_guess():
    found = calibration.calibration(named([[np.nan, np.nan]] * 4, [0, 0, 1, 1]))
    assert found["ece"] == 0


def test_coverage_keeps_the_most_certain_and_shares_ties():
    # Twenty: ten sure ones that are right, ten ties of which four are right.
    probabilities = [[0.5, 0.5]] * 10 + [[0.9, 0.1]] * 10
    found = calibration.coverage(named(probabilities, [0] * 4 + [1] * 6 + [0] * 10))
    assert [row["coverage"] for row in found] == [round(1 - i / 20, 2) for i in range(20)]
    accuracy = {row["coverage"]: row["accuracy"] for row in found}
    assert accuracy[1.0] == pytest.approx(14 / 20)
    assert accuracy[0.5] == accuracy[0.05] == pytest.approx(1)
    assert accuracy[0.75] == pytest.approx((10 + 5 * 0.4) / 15)


def test_perceived_takes_each_of_the_tied_votes():
    likely = 0.8 * np.eye(3) + 0.1 * (1 - np.eye(3))
    predictions = named(likely[[0, 1, 2, 1, 0]], speakers=["s", "s", "t", "t", "t"])
    votes = {"c0": (5, 1, 0), "c1": (4, 4, 0), "c2": (2, 2, 0), "c3": (0, 0, 0), "c4": (0, 3, 1)}
    found = listeners.perceived(predictions, votes)
    # c0 and c1 are right; c2's miss is half neutral's, half anger's, c4's is anger's; c3 has none.
    assert found["n_clips"] == 4
    assert found["accuracy"] == pytest.approx(2 / 4)
    assert found["uar"] == pytest.approx((1 / 1.5 + 1 / 2.5) / 2)
    assert (found["low"], found["high"]) == (0, 1)  # s is always right, t never
    assert listeners.perceived(predictions, {"c3": (), "elsewhere": (1, 2, 3)}) is None


def test_perceived_of_the_intended_votes_is_the_accuracy():
    predictions = two_folds()
    votes = {
        clip: [5 * (label == c) for c in range(3)]
        for clip, label in zip(
            predictions.clip_P.tolist(), predictions.label_P.tolist(), strict=True
        )
    }
    found = listeners.perceived(predictions, votes, n_resamples=200)
    expected = intervals.bootstrap_intervals(predictions, n_resamples=200)
    assert found["uar"] == pytest.approx(expected["uar"]["mean"])
    assert {k: found[k] for k in ("low", "high")} == {
        k: pytest.approx(expected["accuracy"][k]) for k in ("low", "high")
    }


def test_breakdown_of_groups():
    predictions = two_folds()
    clips = np.unique(predictions.clip_P).tolist()
    attributes = {
        "age": {clip: str(20 + int(clip[-2:]) // 4) for clip in clips[:96]} | {clips[96]: "?"},
        "room": dict.fromkeys(clips, "the same"),
        "file": {clip: clip for clip in clips},
        "level": {clip: "zest" if clip[-1] == "1" else "" for clip in clips},
    }
    votes = dict.fromkeys(clips[:30], (2, 1, 1))
    found = breakdown.accuracy_by_group(predictions, attributes, votes, LABELS, n_resamples=300)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert list(found) == ["emotion", "age group", "level", "actor"]
    values = {name: [row["value"] for row in rows] for name, rows in found.items()}
    assert values == {
        "emotion": LABELS,
        "age group": ["20–29", "30–39", "40–49", "unknown"],
        "level": ["zest", "unknown"],
        "actor": ["s0", "s1", "s2", "s3", "s4", "t0", "t1", "t2", "t3"],
    }
    neutral = found["emotion"][0]
    rows = predictions.label_P == 0
    assert neutral["accuracy"] == pytest.approx(predictions.correct_P[rows].mean())
    assert (neutral["n"], neutral["n_speakers"], neutral["interval_over"]) == (34, 9, "speakers")
    assert neutral["low"] < neutral["accuracy"] < neutral["high"]
    assert [row["human"] for row in found["emotion"]] == [0.5, 0.25, 0.25]
    assert [row["n"] for row in found["age group"]] == [40, 40, 16, 4]
    assert found["age group"][3]["human"] is None
    actor = found["actor"][0]
    assert (actor["n"], actor["n_speakers"], actor["interval_over"]) == (12, 1, "clips")
    assert actor["low"] < actor["accuracy"] < actor["high"]


def test_breakdown_interval_agrees_with_a_loop():
    """Speakers of 44, 8, 8, 8, 7 clips: the long one counts for more wherever it is drawn."""
    predictions = together(
        *(replica(r, range(75), speaker=lambda clip: f"s{max(0, clip - 39) % 5}") for r in (0, 1))
    )
    (joy,) = breakdown.accuracy_by_group(predictions, {}, {}, LABELS, n_resamples=5000)["emotion"][
        2:
    ]
    rows = predictions.where(predictions.label_P == 2)
    by_speaker = [rows.correct_P[rows.speaker_P == s] for s in np.unique(rows.speaker_P)]
    random = np.random.default_rng(5)
    values = [
        np.concatenate([by_speaker[i] for i in random.integers(5, size=5)]).mean()
        for _ in range(5000)
    ]
    assert joy["low"] == pytest.approx(np.quantile(values, 0.025), abs=0.02)
    assert joy["high"] == pytest.approx(np.quantile(values, 0.975), abs=0.02)


def test_a_single_clip_has_no_interval():
    (row,) = breakdown.accuracy_by_group(named([[0.9, 0.1]]), {}, {}, ["a", "b"])["emotion"]
    assert row == {
        **{"value": "a", "n": 1, "n_speakers": 1, "accuracy": 1.0, "low": None, "high": None},
        **{"interval_over": "clips", "human": None},
    }
