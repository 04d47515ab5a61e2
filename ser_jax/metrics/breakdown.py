"""Accuracy by group: class, speaker, and each attribute that the corpus provides.

Axes: P predictions, R replicas, U resampled units (speakers or clips), B resamples.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ser_jax.metrics import listeners
from ser_jax.metrics.intervals import percentile_limits, resamples
from ser_jax.metrics.predictions import Predictions

UNKNOWN = "unknown"


def accuracy_by_group(
    predictions: Predictions,
    attributes: Mapping[str, Mapping[str, str]],
    votes: Mapping[str, Sequence[int]],
    labels: Sequence[str],
) -> dict[str, list[dict[str, Any]]]:
    """Return accuracy by true class ("emotion"), by each attribute, and by speaker ("actor").

    Args:
      attributes: {name: {clip id: value}}; a missing or empty value is "unknown". "age", in years,
        becomes "age group", in decades. Attributes with one value, or with fewer than two clips
        per value on average, are left out.
      votes: as for `listeners.perceived`.

    Returns:
      {name: [{"value", "n", "n_speakers", "accuracy", "low", "high", "interval_over", "human"}]}.
      n counts distinct clips; accuracy is over all predictions of them. The 95 % interval is over
      speakers; for a single speaker it is over "clips" and does not extend to other speakers.
      Its limits are None for a single clip. "human" is the share of listeners' ratings of the same
      clips that name the true class, None if there are no ratings.
    """
    groups = {"emotion": np.array(labels)[predictions.label_P]}
    for name, by_clip in attributes.items():
        values = {clip: " ".join(str(value).split()) for clip, value in by_clip.items()}
        if name == "age":
            name, values = "age group", {clip: _decade(age) for clip, age in values.items()}
        group_P = np.array([values.get(c) or UNKNOWN for c in predictions.clip_P.tolist()])
        if 1 < len(set(group_P)) <= len(set(predictions.clip_P)) / 2:
            groups.setdefault(name, group_P)
    groups["actor"] = predictions.speaker_P
    table = {}
    for name, group_P in groups.items():
        members = {value: predictions.where(rows) for value, rows in _rows_by_value(group_P)}
        values = sorted(members, key=lambda value: (value == UNKNOWN, value))
        if name == "emotion":
            values.sort(key=list(labels).index)
        table[name] = [
            {
                "value": value,
                **_accuracy(members[value]),
                "human": _human(members[value], votes),
            }
            for value in values
        ]
    return table


def _rows_by_value(group_P: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Return (value, its rows in order): one sort, where a search per value would be quadratic."""
    values, value_P = np.unique(group_P, return_inverse=True)
    rows = np.split(np.argsort(value_P, kind="stable"), np.cumsum(np.bincount(value_P))[:-1])
    return list(zip(values.tolist(), rows, strict=True))


def _accuracy(predictions: Predictions) -> dict[str, Any]:
    n, n_speakers = (len(set(x)) for x in (predictions.clip_P, predictions.speaker_P))
    over = "speakers" if n_speakers > 1 else "clips"
    unit_P = predictions.speaker_P if n_speakers > 1 else predictions.clip_P
    units, unit_P = np.unique(unit_P, return_inverse=True)
    replicas, replica_P = np.unique(predictions.replica_P, return_inverse=True)
    present_RxU = np.zeros((len(replicas), len(units)), bool)
    present_RxU[replica_P, unit_P] = True
    hits_U, n_U = np.bincount(unit_P, predictions.correct_P), np.bincount(unit_P)
    resampled = [(times_BxU @ hits_U) / (times_BxU @ n_U) for times_BxU in resamples(present_RxU)]
    low, high = percentile_limits(np.concatenate(resampled), len(units))
    accuracy = float(predictions.correct_P.mean())
    interval = {"low": low, "high": high, "interval_over": over}
    return {"n": n, "n_speakers": n_speakers, "accuracy": accuracy, **interval}


def _human(predictions: Predictions, votes: Mapping[str, Sequence[int]]) -> float | None:
    label_of = dict(zip(predictions.clip_P.tolist(), predictions.label_P.tolist(), strict=True))
    rated = [clip for clip in label_of if any(votes.get(clip) or ())]
    if not rated:
        return None
    return listeners.agreement([votes[c] for c in rated], [label_of[c] for c in rated])["accuracy"]


def _decade(age: str) -> str:
    """Return the decade of an age, "27" → "20–29"; "" if it is not a number."""
    try:
        start = int(float(age)) // 10 * 10
    except (ValueError, OverflowError):
        return ""
    return f"{start}–{start + 9}"
