"""Cluster bootstrap: how far a metric would move with other test speakers.

The clips of a speaker resemble each other, so an interval over clips is too narrow. Here whole
speakers are drawn with replacement (Davison and Hinkley, "Bootstrap Methods and their Application",
1997, section 3.8), and the limits are percentiles.

What that is worth: with few speakers a percentile interval is too narrow itself. With 19 test
speakers it has about sqrt(18/19) · 1.96 / 2.10 = 0.91 of the t interval's width, and what calls
itself 95 % holds the true value about 92 to 93 times in 100; with 6 speakers less than 90 times.
A difference whose interval just excludes 0 is therefore weak evidence.

Axes: R replicas, S speakers, U units that are drawn (speakers or clips), B resamples, C classes.
"""

from collections.abc import Iterator

import numpy as np

from ser_jax.metrics import classification
from ser_jax.metrics.predictions import Predictions, speaker_confusions, test_sets

_AT_ONCE = 4_000_000  # weights in memory, resamples × units


def resampled_metrics(
    counts_RxSxCxC: np.ndarray, n_resamples: int, seed: int
) -> dict[str, np.ndarray]:
    """Each headline metric of each resample, [B]: the mean over replicas of the replica's metric.

    A replica counts by how often its speakers were drawn, which is the same for all unless they
    have to be drawn across test sets (see `resamples`).
    """
    n_replicas, n_speakers, n_classes, _ = counts_RxSxCxC.shape
    present_RxS = counts_RxSxCxC.any((2, 3))
    found = {name: [] for name in classification.HEADLINE}
    for times_BxS in resamples(present_RxS, n_resamples, seed):
        share_RxB = present_RxS @ times_BxS.T / present_RxS.sum(1, keepdims=True)
        totals = dict.fromkeys(found, 0.0)
        for counts_SxCxC, share_B in zip(counts_RxSxCxC, share_RxB, strict=True):
            flat = times_BxS @ counts_SxCxC.reshape(n_speakers, -1)
            confusion_BxCxC = flat.reshape(-1, n_classes, n_classes)
            for name, ratio in classification.HEADLINE.items():
                totals[name] = totals[name] + share_B * ratio(confusion_BxCxC)
        for name, total_B in totals.items():
            found[name].append(total_B / share_RxB.sum(0))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def resamples(present_RxU: np.ndarray, n_resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each unit is drawn, [b, U], in parts that add up to B resamples.

    Units are drawn within a test set, so each resample tests every fold: replicas that share units
    are one test set. Test sets of a single unit (leave-one-speaker-out) would always draw the same,
    so if there is one, units are drawn from all together.

    Args:
      present_RxU: whether a replica was tested on a unit.
      n_resamples: B.
      seed: of the draws.
    """
    n_replicas, n_units = present_RxU.shape
    linked_RxR = present_RxU @ present_RxU.T
    for _ in range(n_replicas.bit_length()):  # linked by others that are linked
        linked_RxR = linked_RxR @ linked_RxR
    test_set_U = linked_RxR.argmax(1)[present_RxU.argmax(0)]
    test_sets = [np.flatnonzero(test_set_U == one) for one in np.unique(test_set_U)]
    test_sets.sort(key=lambda units: units[0])  # whatever the replicas' order
    if min(map(len, test_sets)) < 2:
        test_sets = [np.arange(n_units)]
    random = np.random.default_rng(seed)
    while n_resamples > 0:
        b = min(n_resamples, max(1, _AT_ONCE // n_units))
        times_BxU = np.zeros((b, n_units))
        for units in test_sets:
            n = len(units)
            drawn = random.integers(n, size=(b, n)) + n * np.arange(b)[:, None]
            times_BxU[:, units] = np.bincount(drawn.ravel(), minlength=b * n).reshape(b, n)
        yield times_BxU
        n_resamples -= b


def limits(
    value_B: np.ndarray, n_units: int, level: float = 0.95
) -> tuple[float | None, float | None]:
    """Percentile limits; None where there was only one unit to resample."""
    if n_units < 2:
        return None, None
    low, high = np.quantile(value_B, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def intervals(
    predictions: Predictions, *, n_resamples: int = 2000, seed: int = 0, level: float = 0.95
) -> dict[str, dict[str, float | None]]:
    """Mean, sd and bootstrap interval of each headline metric.

    Args:
      predictions: of the replicas to sum up.
      n_resamples: B.
      seed: of the resampling.
      level: of the interval.

    Returns:
      {metric: {"mean", "sd", "low", "high"}}: mean over the replicas of each replica's metric; sd
      (n − 1) over replicas, None for one; limits None for a single speaker.
    """
    counts = speaker_confusions(predictions)
    resampled = resampled_metrics(counts, n_resamples, seed)
    found = {}
    for name, ratio in classification.HEADLINE.items():
        value_R = ratio(counts.sum(1))
        low, high = limits(resampled[name], counts.shape[1], level)
        sd = float(np.std(value_R, ddof=1)) if len(value_R) > 1 else None
        found[name] = {"mean": float(np.mean(value_R)), "sd": sd, "low": low, "high": high}
    return found


def differences(
    a: Predictions, b: Predictions, *, n_resamples: int = 2000, seed: int = 0, level: float = 0.95
) -> dict[str, dict[str, float | None]]:
    """a − b for each headline metric, paired: both are judged by the same resampled speakers.

    Args:
      a: one run's predictions.
      b: another's, with the same `test_sets`; the replicas may differ in number.
      n_resamples: B.
      seed: of the resampling.
      level: of the interval.

    Returns:
      {metric: {"difference", "low", "high"}}; limits None for a single speaker.
    """
    if test_sets(a) != test_sets(b):
        raise ValueError("a paired difference needs the same test clips")
    counts_a, counts_b = speaker_confusions(a), speaker_confusions(b)
    resampled_a, resampled_b = (
        resampled_metrics(counts, n_resamples, seed) for counts in (counts_a, counts_b)
    )
    found = {}
    for name, ratio in classification.HEADLINE.items():
        difference = np.mean(ratio(counts_a.sum(1))) - np.mean(ratio(counts_b.sum(1)))
        low, high = limits(resampled_a[name] - resampled_b[name], counts_a.shape[1], level)
        found[name] = {"difference": float(difference), "low": low, "high": high}
    return found
