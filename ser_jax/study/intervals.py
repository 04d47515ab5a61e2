"""Estimates with intervals over test speakers *and* over trainings.

ser_jax.metrics.intervals resamples the speakers and takes the trainings as given. A claim about a
model covers further trainings of it too: seeds differ by points, and three of them say little
about a fourth. The interval over speakers is therefore widened by the uncertainty of the mean over
trainings, t · sd / √R, with Student's t at R − 1 degrees of freedom. The two sources of error are
taken as independent: their distances from the value add up as squares, on each side separately
("square-and-add"; Zou and Donner, Construction of confidence limits about effect measures,
Statistics in Medicine 27, 2008). A single training has no such limits.

Axes: R trainings.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from ser_jax.evaluate.finished_run import FinishedRun, chosen_replicas
from ser_jax.metrics.classification import HEADLINE
from ser_jax.metrics.intervals import paired_differences

Limits = tuple[float | None, float | None]


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A metric, or a difference of two, with 95 % limits."""

    value: float  # mean over the trainings
    low: float | None  # over speakers and trainings; None for one training or one speaker
    high: float | None
    speakers_low: float | None  # over speakers, for these trainings
    speakers_high: float | None
    sd: float | None  # between trainings, or pairs of them; None for one
    n: int  # trainings, or pairs of them


def estimates(run: FinishedRun) -> dict[str, Estimate]:
    """Return {metric: estimate} of a run."""
    replicas, by_metric = chosen_replicas(run.results), {}
    for metric in HEADLINE:
        interval = run.results["intervals"][metric]
        value_R = [replica[metric] for replica in replicas]
        limits = (interval["low"], interval["high"])
        by_metric[metric] = _estimate(interval["mean"], limits, value_R, minimum=0.0)
    return by_metric


def paired(a: FinishedRun, b: FinishedRun) -> dict[str, Estimate]:
    """Return {metric: a − b} for runs on the same test clips, paired by seed and fold."""
    replicas_a, replicas_b = (
        {(r["seed"], r["fold"]): r for r in chosen_replicas(run.results)} for run in (a, b)
    )
    pairs = [(replicas_a[key], replicas_b[key]) for key in replicas_a if key in replicas_b]
    by_metric = {}
    for metric, difference in paired_differences(a.predictions, b.predictions).items():
        value_R = [of_a[metric] - of_b[metric] for of_a, of_b in pairs]
        limits = (difference["low"], difference["high"])
        by_metric[metric] = _estimate(difference["difference"], limits, value_R, minimum=-1.0)
    return by_metric


def over_listeners(run: FinishedRun) -> dict[str, Estimate]:
    """Return {metric: run − listeners}, paired by clips and speakers; {} for older results."""
    return {
        metric: _estimate(lead["difference"], (lead["low"], lead["high"]), lead["each"], minimum=-1)
        for metric, lead in run.results["human"].get("lead", {}).items()
    }


def unpaired(a: FinishedRun, b: FinishedRun) -> dict[str, Estimate]:
    """Return {metric: a − b} for runs on different test clips, by square-and-add of their limits.

    Two protocols on one corpus share some test speakers. That correlation is ignored; if anything,
    it makes the limits too wide.
    """
    estimates_b, by_metric = estimates(b), {}
    for metric, of_a in estimates(a).items():
        both = (of_a, estimates_b[metric])
        limits = _difference_limits(*((e.value, e.low, e.high) for e in both))
        speakers = _difference_limits(*((e.value, e.speakers_low, e.speakers_high) for e in both))
        value, n = both[0].value - both[1].value, min(e.n for e in both)
        by_metric[metric] = Estimate(value, *limits, *speakers, sd=None, n=n)
    return by_metric


def _estimate(
    value: float, speakers: Limits, value_R: Sequence[float], *, minimum: float
) -> Estimate:
    """Widen the limits over speakers to limits over trainings too, within [minimum, 1]."""
    from scipy.special import stdtrit

    n = len(value_R)
    sd = float(np.std(value_R, ddof=1)) if n > 1 else None
    low, high = None, None
    if sd is not None and None not in speakers:
        half_width = float(stdtrit(n - 1, 0.975)) * sd / math.sqrt(n)
        low = max(minimum, value - math.hypot(value - speakers[0], half_width))
        high = min(1.0, value + math.hypot(speakers[1] - value, half_width))
    return Estimate(value, low, high, *speakers, sd, n)


def _difference_limits(a: Sequence[float | None], b: Sequence[float | None]) -> Limits:
    """Return the limits of a − b; each is (value, low, high)."""
    if None in a or None in b:
        return None, None
    (a, a_low, a_high), (b, b_low, b_high) = a, b
    difference = a - b
    return (
        difference - math.hypot(a - a_low, b_high - b),
        difference + math.hypot(a_high - a, b - b_low),
    )
