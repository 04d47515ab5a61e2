"""Predictions made up for the tests of the metrics."""

import dataclasses

import numpy as np

from ser_jax.metrics.predictions import Predictions

LABELS = ["neutral", "anger", "joy"]


def replica_predictions(number, clips, *, seed=0, speaker=lambda clip: f"s{clip % 5}"):
    """Predictions of a replica that is mostly right; clip i has label i mod 3."""
    random = np.random.default_rng([seed, number])
    label_P = np.array(clips) % 3
    probability_PxC = random.dirichlet(np.ones(3), len(clips)) + 0.3 * np.eye(3)[label_P]
    return Predictions(
        replica_P=np.full(len(clips), number),
        clip_P=np.array([f"c{clip:04}" for clip in clips]),
        speaker_P=np.array([speaker(clip) for clip in clips]),
        label_P=label_P,
        probability_PxC=probability_PxC / probability_PxC.sum(1, keepdims=True),
    )


def concatenate(*parts):
    fields = [field.name for field in dataclasses.fields(Predictions)]
    return Predictions(*(np.concatenate([getattr(p, field) for p in parts]) for field in fields))


def two_folds():
    """Two seeds of two folds: replicas 0, 1 are tested on speakers s0–s4; 2, 3 on t0–t3."""
    return concatenate(
        *(replica_predictions(r, range(60)) for r in (0, 1)),
        *(
            replica_predictions(r, range(60, 100), speaker=lambda clip: f"t{clip % 4}")
            for r in (2, 3)
        ),
    )


def from_probabilities(probabilities, labels=None, speakers=None):
    """One replica's predictions; by default, all clips have class 0 and the same speaker."""
    n = len(probabilities)
    return Predictions(
        replica_P=np.zeros(n, int),
        clip_P=np.array([f"c{i}" for i in range(n)]),
        speaker_P=np.array(speakers or ["s"] * n),
        label_P=np.array([0] * n if labels is None else labels),
        probability_PxC=np.array(probabilities, float),
    )
