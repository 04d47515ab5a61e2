"""Numbers of a study, each with an interval over test speakers *and* over trainings.

statistics.py resamples the speakers and takes the trainings as they are. A claim about a model is
about other trainings of it too: seeds differ by points, and three of them tell little of a fourth.
So to the interval over speakers is added what the spread of the trainings allows their mean:
t · sd / √R, Student's t with R − 1 degrees of freedom. The sources of error are taken as
independent: their distances from the value add up as squares, each side by itself
("square-and-add"; Zou and Donner, Construction of confidence limits about effect measures,
Statistics in Medicine 27, 2008). One training says nothing of another: then there are no such
limits.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from ser_jax.evaluate.finished_run import FinishedRun, chosen_replicas
from ser_jax.metrics import classification, intervals

LEVEL = 0.95


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A metric or a difference of two.

    Attributes:
      value: mean over the trainings.
      low, high: 95 % limits over speakers and trainings; None for one training or one speaker.
      speakers_low, speakers_high: 95 % limits over speakers, of these trainings.
      sd: between trainings (or pairs of them); None for one.
      n: trainings (or pairs of them).
    """

    value: float
    low: float | None
    high: float | None
    speakers_low: float | None
    speakers_high: float | None
    sd: float | None
    n: int


def values(run: FinishedRun) -> dict[str, Estimate]:
    """{metric: number} of a run."""
    found = {}
    for name in classification.HEADLINE:
        interval = run.results["intervals"][name]
        limits = (interval["low"], interval["high"])
        value_R = [replica[name] for replica in chosen_replicas(run.results)]
        found[name] = _number(interval["mean"], limits, value_R, least=0.0)
    return found


def paired(a: FinishedRun, b: FinishedRun) -> dict[str, Estimate]:
    """{metric: a − b} of runs on the same test clips; trainings of one seed and fold are a pair."""
    of_a, of_b = (
        {(r["seed"], r["fold"]): r for r in chosen_replicas(run.results)} for run in (a, b)
    )
    pairs = [(of_a[key], of_b[key]) for key in of_a if key in of_b]
    difference = intervals.paired_differences(a.predictions, b.predictions)
    found = {}
    for name in classification.HEADLINE:
        limits = (difference[name]["low"], difference[name]["high"])
        value_R = [one[name] - other[name] for one, other in pairs]
        found[name] = _number(difference[name]["difference"], limits, value_R, least=-1.0)
    return found


def unpaired(a: FinishedRun, b: FinishedRun) -> dict[str, Estimate]:
    """{metric: a − b} of runs on different test clips, by square-and-add of their own limits.

    Under two protocols on one corpus some speakers are tested twice, which this takes no account
    of; the limits are, if anything, too wide.
    """
    ours, theirs, found = values(a), values(b), {}
    for name, one in ours.items():
        other = theirs[name]
        value = one.value - other.value
        low, high = _difference(value, *((x.value, x.low, x.high) for x in (one, other)))
        speakers = _difference(
            value, *((x.value, x.speakers_low, x.speakers_high) for x in (one, other))
        )
        found[name] = Estimate(value, low, high, *speakers, sd=None, n=min(one.n, other.n))
    return found


Limits = tuple[float | None, float | None]


def _number(value: float, speakers: Limits, value_R: Sequence[float], *, least: float) -> Estimate:
    """A number from `least` to 1, and so its limits."""
    n = len(value_R)
    sd = float(np.std(value_R, ddof=1)) if n > 1 else None
    low, high = None, None
    if sd is not None and None not in speakers:
        half = _student(n - 1) * sd / math.sqrt(n)
        low = max(least, value - math.hypot(value - speakers[0], half))
        high = min(1.0, value + math.hypot(speakers[1] - value, half))
    return Estimate(value, low, high, *speakers, sd, n)


def _difference(value: float, one: Sequence, other: Sequence) -> Limits:
    """Limits of one − other, each (value, low, high)."""
    if None in one or None in other:
        return None, None
    (a, a_low, a_high), (b, b_low, b_high) = one, other
    return value - math.hypot(a - a_low, b_high - b), value + math.hypot(a_high - a, b - b_low)


def _student(n_free: int) -> float:
    """The quantile of Student's t that leaves out half of what LEVEL leaves, on each side."""
    from scipy.special import stdtrit

    return float(stdtrit(n_free, (1 + LEVEL) / 2))
