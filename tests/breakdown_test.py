"""Accuracy by group: which groups there are, and their intervals."""

import json

import numpy as np
import pytest

from ser_jax.metrics.breakdown import accuracy_by_group
from tests.sample_predictions import (
    LABELS,
    concatenate,
    from_probabilities,
    replica_predictions,
    two_folds,
)


def test_groups_and_their_accuracy():
    predictions = two_folds()
    clips = np.unique(predictions.clip_P).tolist()
    attributes = {
        "age": {clip: str(20 + int(clip[-2:]) // 4) for clip in clips[:96]} | {clips[96]: "?"},
        "room": dict.fromkeys(clips, "the same"),
        "file": {clip: clip for clip in clips},
        "level": {clip: "zest" if clip[-1] == "1" else "" for clip in clips},
    }
    votes = dict.fromkeys(clips[:30], (2, 1, 1))
    groups = accuracy_by_group(predictions, attributes, votes, LABELS)
    assert json.loads(json.dumps(groups, allow_nan=False)) == groups
    assert list(groups) == ["emotion", "age group", "level", "actor"]
    values = {name: [row["value"] for row in rows] for name, rows in groups.items()}
    assert values == {
        "emotion": LABELS,
        "age group": ["20–29", "30–39", "40–49", "unknown"],
        "level": ["zest", "unknown"],
        "actor": ["s0", "s1", "s2", "s3", "s4", "t0", "t1", "t2", "t3"],
    }
    neutral = groups["emotion"][0]
    rows = predictions.label_P == 0
    assert neutral["accuracy"] == pytest.approx(predictions.correct_P[rows].mean())
    assert (neutral["n"], neutral["n_speakers"], neutral["interval_over"]) == (34, 9, "speakers")
    assert neutral["low"] < neutral["accuracy"] < neutral["high"]
    assert [row["human"] for row in groups["emotion"]] == [0.5, 0.25, 0.25]
    assert [row["n"] for row in groups["age group"]] == [40, 40, 16, 4]
    assert groups["age group"][3]["human"] is None
    actor = groups["actor"][0]
    assert (actor["n"], actor["n_speakers"], actor["interval_over"]) == (12, 1, "clips")
    assert actor["low"] < actor["accuracy"] < actor["high"]


def test_the_interval_equals_a_loop_over_resampled_speakers():
    """Speakers have 44, 8, 8, 8 and 7 clips: the first weighs more whenever it is drawn."""
    predictions = concatenate(
        *(
            replica_predictions(r, range(75), speaker=lambda clip: f"s{max(0, clip - 39) % 5}")
            for r in (0, 1)
        )
    )
    groups = accuracy_by_group(predictions, {}, {}, LABELS)
    joy = groups["emotion"][2]
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
    (row,) = accuracy_by_group(from_probabilities([[0.9, 0.1]]), {}, {}, ["a", "b"])["emotion"]
    assert row == {
        **{"value": "a", "n": 1, "n_speakers": 1, "accuracy": 1.0, "low": None, "high": None},
        **{"interval_over": "clips", "human": None},
    }
