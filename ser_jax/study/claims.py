"""config.claims with verdicts: each claim of the reference report, confirmed by the runs or not.

A claim holds that a value exceeds a threshold. It is confirmed if the value's 95 % limits over
speakers and trainings lie above the threshold, not confirmed if they lie below, and undecided
otherwise: if they include it, if there are none, or if the runs are of another corpus.
"""

import dataclasses
from collections.abc import Iterable, Mapping

from ml_collections import ConfigDict

from ser_jax.common.errors import UserError
from ser_jax.evaluate.finished_run import chosen_replicas, validation_score
from ser_jax.metrics.classification import HEADLINE
from ser_jax.pages import numbers
from ser_jax.study.comparisons import Comparison, Section, check_keys
from ser_jax.study.intervals import Estimate, estimates, over_listeners
from ser_jax.study.runs import StudyRun, find

CONFIRMED, NOT_CONFIRMED, UNDECIDED = "confirmed", "not confirmed", "undecided"


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim under one protocol."""

    claim: str  # in words
    runs: tuple[StudyRun, ...]  # those that decide it
    verdict: str  # one of the three above
    reason: str  # the number behind the verdict, or what is missing


def judge(
    config: ConfigDict, runs: Mapping[str, StudyRun], sections: Iterable[Section]
) -> list[Claim]:
    """Return the claims of config.claims with their verdicts, one per protocol.

    Raises:
      UserError: a claim is incomplete, or names an unknown run or comparison; or config.reference
        names an unknown metric.
    """
    metric = config.reference.metric
    if metric not in HEADLINE:
        raise UserError(
            f"reference.metric={metric!r} is unknown; use one of {', '.join(HEADLINE)}."
        )
    comparisons = {
        (c.run.name, c.against.name): c for section in sections for c in section.comparisons
    }
    claims: list[Claim] = []
    for listed in config.claims:
        text, place = listed.get("claim"), f"config.claims, {listed.get('claim')!r},"
        if "pairs" in listed:
            check_keys(listed, {"claim", "pairs"}, "config.claims")
            for pair in listed["pairs"]:
                if tuple(pair) not in comparisons:
                    raise UserError(
                        f"{place} compares {' and '.join(pair)}, which config.comparisons does not."
                    )
                claims.append(_improves(text, comparisons[tuple(pair)], metric))
        elif "best_of" in listed:
            check_keys(listed, {"claim", "best_of"}, "config.claims")
            for names in listed["best_of"]:
                rivals = tuple(find(runs, name, place) for name in names)
                claims.append(_exceeds_listeners(text, rivals, metric))
        else:
            check_keys(listed, {"claim", "run", "reported"}, "config.claims")
            run = find(runs, listed["run"], place)
            claims.append(_reaches(text, run, listed["reported"], metric))
    return [_on_its_corpus(claim, config.reference.corpus) for claim in claims]


def verdict(estimate: Estimate, threshold: float = 0.0) -> str:
    """Return CONFIRMED, NOT_CONFIRMED or UNDECIDED, by the side on which the limits lie."""
    if estimate.low is None:
        return UNDECIDED
    if estimate.low > threshold:
        return CONFIRMED
    return NOT_CONFIRMED if estimate.high < threshold else UNDECIDED


def points(difference: Estimate) -> str:
    """Return a difference in percentage points with its limits."""
    limits = numbers.limits(difference.low, difference.high, "+.1f")
    return f"{numbers.points(difference.value)}{limits} points{_why_no_limits(difference)}"


def percent(estimate: Estimate, *, with_sd: bool = False) -> str:
    """Return a metric in per cent with its limits, and with its sd between trainings on request."""
    text = f"{numbers.mean_sd(estimate.value, estimate.sd if with_sd else None)} %"
    return f"{text}{numbers.limits(estimate.low, estimate.high)}{_why_no_limits(estimate)}"


def _why_no_limits(estimate: Estimate) -> str:
    if estimate.low is not None:
        return ""
    return " (one training)" if estimate.n < 2 else " (one test speaker)"


def _on_its_corpus(claim: Claim, corpus: str) -> Claim:
    """Return a claim about a corpus as undecided, with its number, where the runs had another."""
    tested = dict.fromkeys(run.finished.results["corpus"] for run in claim.runs if run.finished)
    others = [name for name in tested if name != corpus]
    if not others:
        return claim
    reason = f"{claim.reason}; the claim is about {corpus}, this is {' and '.join(others)}"
    return dataclasses.replace(claim, verdict=UNDECIDED, reason=reason)


def _reaches(claim: str, run: StudyRun, reported: float, metric: str) -> Claim:
    if not run.finished:
        return _missing(claim, (run,))
    estimate = estimates(run.finished)[metric]
    return Claim(claim, (run,), verdict(estimate, reported), percent(estimate))


def _improves(claim: str, comparison: Comparison, metric: str) -> Claim:
    runs = (comparison.run, comparison.against)
    if comparison.estimates is None:
        return _missing(claim, runs)
    difference = comparison.estimates[metric]
    return Claim(claim, runs, verdict(difference), points(difference))


def _exceeds_listeners(claim: str, rivals: tuple[StudyRun, ...], metric: str) -> Claim:
    """Judge the run that is best on validation, so that the test set does not choose it."""
    if not all(run.finished for run in rivals):
        return _missing(claim, rivals)
    best = max(rivals, key=_validation)
    listeners = (best.finished.results.get("human") or {}).get(metric)
    if listeners is None:
        return Claim(claim, (best,), UNDECIDED, "no listener ratings of these clips")
    estimate = estimates(best.finished)[metric]
    reason = f"{best.model} {percent(estimate)}, listeners {numbers.percent(listeners)}"
    lead = over_listeners(best.finished).get(metric)
    if lead:
        return Claim(claim, (best,), verdict(lead), f"{reason}, difference {points(lead)}")
    # Results of earlier versions have no paired difference: the listeners' value is taken as given.
    return Claim(claim, (best,), verdict(estimate, listeners), reason)


def _validation(run: StudyRun) -> float:
    results = run.finished.results
    return validation_score(chosen_replicas(results), results["monitor"])


def _missing(claim: str, runs: tuple[StudyRun, ...]) -> Claim:
    names = ", ".join(run.name for run in runs if not run.finished)
    return Claim(claim, runs, UNDECIDED, f"no result of {names}")
