"""Metrics read predictions as a set: the order of the rows does not matter."""

import json

import numpy as np
import pytest

from ser_jax.metrics.breakdown import accuracy_by_group
from ser_jax.metrics.calibration import calibration, coverage
from ser_jax.metrics.intervals import bootstrap_intervals
from ser_jax.metrics.listeners import perceived
from tests.sample_predictions import LABELS, two_folds


def rounded(value):
    return json.loads(json.dumps(value), parse_float=lambda text: round(float(text), 9))


VOTES = {f"c{clip:04}": (3, 1, 3) for clip in range(100)}
LEVELS = {clip: clip[-1] for clip in VOTES}


@pytest.mark.parametrize(
    "summary",
    [
        bootstrap_intervals,
        calibration,
        coverage,
        lambda p: perceived(p, VOTES),
        lambda p: accuracy_by_group(p, {"level": LEVELS}, VOTES, LABELS),
    ],
)
def test_summaries_are_independent_of_the_row_order(summary):
    predictions = two_folds()
    shuffled = predictions.where(np.random.default_rng(0).permutation(len(predictions.label_P)))
    assert rounded(summary(shuffled)) == rounded(summary(predictions))


def test_an_ensemble_is_the_mean_probability_of_its_members():
    predictions = two_folds()
    shuffled = predictions.where(np.random.default_rng(0).permutation(len(predictions.clip_P)))
    ensembles = shuffled.ensembles({0: 0, 1: 0, 2: 1, 3: 1})
    assert len(ensembles.clip_P) == 100 and {*ensembles.replica_P.tolist()} == {0, 1}
    for row, clip in enumerate(ensembles.clip_P):
        members = predictions.clip_P == clip
        assert ensembles.label_P[row] == predictions.label_P[members][0]
        assert ensembles.speaker_P[row] == predictions.speaker_P[members][0]
        mean_C = predictions.probability_PxC[members].mean(0)
        np.testing.assert_allclose(ensembles.probability_PxC[row], mean_C)
