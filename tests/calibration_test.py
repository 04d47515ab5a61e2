"""Calibration and coverage of predictions whose answers are known."""

import json

import numpy as np
import pytest

from ser_jax.metrics.calibration import calibration, coverage
from tests.sample_predictions import from_probabilities


def test_calibration_of_known_answers():
    # Ten clips predicted with 0.8, of which nine are right; four with 0.5, of which one is.
    probabilities = [[0.8, 0.2]] * 10 + [[0.5, 0.5]] * 4
    labels = [0] * 9 + [1] + [0] + [1] * 3
    result = calibration(from_probabilities(probabilities, labels), 10)
    assert result["ece"] == pytest.approx((10 * 0.1 + 4 * 0.25) / 14)
    assert [(b["low"], b["high"], b["n"]) for b in result["bins"] if b["n"]] == [
        (0.4, 0.5, 4),  # a bin excludes its lower edge and includes its upper one
        (0.7, 0.8, 10),
    ]
    full = result["bins"][7]
    assert (full["confidence"], full["accuracy"]) == (pytest.approx(0.8), 0.9)
    empty = result["bins"][9]
    assert empty == {"low": 0.9, "high": 1.0, "n": 0, "confidence": None, "accuracy": None}
    assert json.loads(json.dumps(result)) == result
    certain = calibration(from_probabilities([[1.0, 0.0]] * 4, [1, 1, 1, 0]))
    assert certain["ece"] == 0.75 and certain["bins"][14]["n"] == 4


def test_calibration_error_is_near_zero_for_a_calibrated_model_only():
    random = np.random.default_rng(0)
    p = random.uniform(0.5, 1, 20_000)
    label = (random.uniform(size=p.size) > p).astype(int)
    calibrated = from_probabilities(np.stack([p, 1 - p], 1), label)
    overconfident = from_probabilities(np.stack([p**0.2, 1 - p**0.2], 1), label)
    assert calibration(calibrated)["ece"] < 0.012
    assert calibration(overconfident)["ece"] == pytest.approx(np.mean(p**0.2 - p), abs=0.012)


def test_a_diverged_network_counts_as_guessing():
    assert calibration(from_probabilities([[np.nan, np.nan]] * 4, [0, 0, 1, 1]))["ece"] == 0


def test_coverage_keeps_the_most_confident_and_averages_ties():
    # Of twenty, ten confident ones are right, and of ten ties four are.
    probabilities = [[0.5, 0.5]] * 10 + [[0.9, 0.1]] * 10
    rows = coverage(from_probabilities(probabilities, [0] * 4 + [1] * 6 + [0] * 10))
    assert [row["coverage"] for row in rows] == [round(1 - i / 20, 2) for i in range(20)]
    accuracy = {row["coverage"]: row["accuracy"] for row in rows}
    assert accuracy[1.0] == pytest.approx(14 / 20)
    assert accuracy[0.5] == accuracy[0.05] == pytest.approx(1)
    assert accuracy[0.75] == pytest.approx((10 + 5 * 0.4) / 15)
