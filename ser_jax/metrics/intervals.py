"""Cluster bootstrap over test speakers: confidence intervals and paired differences.

An interval says how far a metric would move with other test speakers. The clips of one speaker
resemble each other, so an interval over clips is too narrow. Whole speakers are resampled instead
(Davison and Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8), and the limits
are percentiles. The trained networks are taken as given: the effect of another seed shows in the
standard deviation over replicas.

With few speakers a percentile interval is itself too narrow. With 19 test speakers it has about
sqrt(18/19) · 1.96 / 2.10 = 0.91 of the t interval's width, and a nominal 95 % interval covers the
true value about 92 to 93 times in 100; with 6 speakers less than 90 times. A difference whose
interval just excludes 0 is therefore weak evidence.

Axes: R replicas, S speakers, U resampled units (speakers or clips), B resamples, C classes.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.sparse.csgraph import connected_components

from ser_jax.metrics.classification import HEADLINE
from ser_jax.metrics.predictions import Predictions, speaker_confusions, test_sets

N_RESAMPLES = 2000
_WEIGHTS_PER_CHUNK = 4_000_000  # resamples × units held in memory


def bootstrap_intervals(
    predictions: Predictions,
) -> dict[str, dict[str, float | None]]:
    """Return mean, standard deviation and bootstrap interval of each headline metric.

    Returns:
      {metric: {"mean", "sd", "low", "high"}}: mean over replicas of each replica's metric; sd
      (n − 1) over replicas, None for one; limits None for a single speaker.
    """
    counts = speaker_confusions(predictions)
    resampled = resampled_metrics(counts)
    intervals = {}
    for name, metric in HEADLINE.items():
        low, high = percentile_limits(resampled[name], counts.shape[1])
        intervals[name] = {**mean_sd(metric(counts.sum(1))), "low": low, "high": high}
    return intervals


def mean_sd(values: Sequence[float]) -> dict[str, float | None]:
    """Return {"mean", "sd"} of values, with n − 1; the sd of a single value is None."""
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "sd": sd}


def paired_differences(a: Predictions, b: Predictions) -> dict[str, dict[str, float | None]]:
    """Return a − b for each headline metric, both evaluated on the same resampled speakers.

    The two runs must have the same `test_sets`; their numbers of replicas may differ.

    Returns:
      {metric: {"difference", "low", "high"}}; limits None for a single speaker.
    """
    if test_sets(a) != test_sets(b):
        raise ValueError("a paired difference needs the same test clips")
    return differences_of_counts(speaker_confusions(a), speaker_confusions(b))


def differences_of_counts(
    counts_a: np.ndarray, counts_b: np.ndarray
) -> dict[str, dict[str, float | None]]:
    """Return `paired_differences` of two [R, S, C, C] of the same speakers and test sets."""
    resampled_a, resampled_b = resampled_metrics(counts_a), resampled_metrics(counts_b)
    differences = {}
    for name, metric in HEADLINE.items():
        difference = np.mean(metric(counts_a.sum(1))) - np.mean(metric(counts_b.sum(1)))
        difference_B = resampled_a[name] - resampled_b[name]
        low, high = percentile_limits(difference_B, counts_a.shape[1])
        differences[name] = {"difference": float(difference), "low": low, "high": high}
    return differences


def percentile_limits(
    value_B: np.ndarray, n_units: int, level: float = 0.95
) -> tuple[float | None, float | None]:
    """Return the percentile interval of resampled values; None for a single unit."""
    if n_units < 2:
        return None, None
    low, high = np.quantile(value_B, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def resampled_metrics(
    counts_RxSxCxC: np.ndarray, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> dict[str, np.ndarray]:
    """Return each headline metric of each resample, [B]: the weighted mean over replicas.

    A replica's weight is how often its speakers were drawn, which is the same for all replicas
    unless speakers are drawn across test sets (see `resamples`).
    """
    # Idea: a resample is a count per speaker, and its confusion matrix is the sum of the speakers'
    # matrices weighted by these counts.
    # Speed: one matrix product gives the confusion matrices of all resamples, [B, S] × [S, C·C],
    # at a cost that does not depend on the number of clips.
    # Result: equal to computing the metric on the clips of the drawn speakers, one by one.
    _, n_speakers, n_classes, _ = counts_RxSxCxC.shape
    present_RxS = counts_RxSxCxC.any((2, 3))
    chunks = {name: [] for name in HEADLINE}
    for times_BxS in resamples(present_RxS, n_resamples, seed):
        weight_RxB = present_RxS @ times_BxS.T / present_RxS.sum(1, keepdims=True)
        totals = dict.fromkeys(HEADLINE, 0.0)
        for counts_SxCxC, weight_B in zip(counts_RxSxCxC, weight_RxB, strict=True):
            confusion_BxCC = times_BxS @ counts_SxCxC.reshape(n_speakers, -1)
            confusion_BxCxC = confusion_BxCC.reshape(-1, n_classes, n_classes)
            for name, metric in HEADLINE.items():
                totals[name] = totals[name] + weight_B * metric(confusion_BxCxC)
        for name, total_B in totals.items():
            chunks[name].append(total_B / weight_RxB.sum(0))
    return {name: np.concatenate(parts) for name, parts in chunks.items()}


def resamples(
    present_RxU: np.ndarray, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> Iterator[np.ndarray]:
    """Yield how often each unit is drawn, [b, U], in chunks that add up to B resamples.

    Units are drawn within test sets, so that every resample covers every fold; replicas that share
    a unit belong to one test set. If a test set has a single unit (leave-one-speaker-out), which
    would always be drawn, units are drawn from all test sets together. `present_RxU` says whether a
    replica was tested on a unit.
    """
    n_units = present_RxU.shape[1]
    _, component_R = connected_components(present_RxU @ present_RxU.T)
    test_set_U = component_R[present_RxU.argmax(0)]
    unit_sets = [np.flatnonzero(test_set_U == number) for number in np.unique(test_set_U)]
    unit_sets.sort(key=lambda units: units[0])  # independent of the replicas' order
    if min(map(len, unit_sets)) < 2:
        unit_sets = [np.arange(n_units)]
    random = np.random.default_rng(seed)
    while n_resamples > 0:
        b = min(n_resamples, max(1, _WEIGHTS_PER_CHUNK // n_units))
        times_BxU = np.zeros((b, n_units))
        for units in unit_sets:
            n = len(units)
            drawn = random.integers(n, size=(b, n)) + n * np.arange(b)[:, None]
            times_BxU[:, units] = np.bincount(drawn.ravel(), minlength=b * n).reshape(b, n)
        yield times_BxU
        n_resamples -= b
