"""The report's claims, each confirmed or not by the runs, with the number.

A claim of "more" is confirmed if the 95 % limits of the difference, over speakers and trainings,
lie above 0, not confirmed if they lie below, and undecided otherwise: around 0, or without limits.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

from ser_jax.evaluate.finished_run import chosen_replicas, validation
from ser_jax.pages import numbers
from ser_jax.study import intervals
from ser_jax.study.effects import Effect
from ser_jax.study.intervals import Estimate
from ser_jax.study.runs import SEEN, StudyRun, plain

CONFIRMED, NOT_CONFIRMED, UNDECIDED = "confirmed", "not confirmed", "undecided"
REPORTED = {"cnn1d": 0.4308, "cnn2d": 0.538}  # accuracies of the report's Table 1 …
CORPUS = "CREMA-D"  # … on this corpus
METRIC = "accuracy"  # which the report speaks of


@dataclasses.dataclass(frozen=True)
class Claim:
    """One claim under one protocol.

    Attributes:
      claim: in words.
      runs: those that decide it.
      verdict: of the three above.
      reason: the number, or what is missing.
    """

    claim: str
    runs: tuple[StudyRun, ...]
    verdict: str
    reason: str


def lines(entries: Sequence[StudyRun], effects: Iterable[Effect]) -> list[Claim]:
    """Every claim under every protocol that the study has runs for."""
    return [*_reaches(entries), *_more(effects), *_listeners(entries)]


def verdict(low: float | None, high: float | None, threshold: float = 0.0) -> str:
    """Where the limits lie."""
    if low is None or high is None:
        return UNDECIDED
    return CONFIRMED if low > threshold else NOT_CONFIRMED if high < threshold else UNDECIDED


def points(number: Estimate) -> str:
    """A difference in percentage points, with its limits."""
    text = numbers.points(number.value) + numbers.limits(number.low, number.high, "+.1f")
    return f"{text} points{_why_no_limits(number)}"


def share(number: Estimate, *, with_sd: bool = False) -> str:
    """A metric in per cent, with its limits; with its sd between trainings, if there is one."""
    text = f"{numbers.mean_sd(number.value, number.sd if with_sd else None)} %"
    return f"{text}{numbers.limits(number.low, number.high)}{_why_no_limits(number)}"


def _why_no_limits(number: Estimate) -> str:
    if number.low is not None:
        return ""
    return " (one training)" if number.n < 2 else " (one test speaker)"


def _more(effects: Iterable[Effect]) -> Iterator[Claim]:
    for effect in effects:
        runs = (effect.run, effect.against)
        if not effect.claim:
            continue
        if effect.numbers is None:
            yield _missing(effect.claim, runs)
            continue
        number = effect.numbers[METRIC]
        yield Claim(effect.claim, runs, verdict(number.low, number.high), points(number))


def _reaches(entries: Sequence[StudyRun]) -> Iterator[Claim]:
    for entry in plain(entries):
        reported = REPORTED.get(entry.config.model.name)
        if not reported or entry.protocol != SEEN:
            continue
        claim = f"The {entry.model} reaches {numbers.percent(reported, '.4g')}."
        if not entry.run:
            yield _missing(claim, (entry,))
            continue
        number, corpus = intervals.values(entry.run)[METRIC], entry.run.results["corpus"]
        found, reason = verdict(number.low, number.high, reported), share(number)
        if corpus != CORPUS:
            found, reason = UNDECIDED, f"{reason}; the claim is about {CORPUS}, this is {corpus}"
        yield Claim(claim, (entry,), found, reason)


def _listeners(entries: Sequence[StudyRun]) -> Iterator[Claim]:
    """For each protocol the network that was best on validation, so that no test chooses it."""
    claim = "The best network recognises more than listeners do."
    shown = plain(entries)
    for protocol in dict.fromkeys(entry.protocol for entry in shown):
        here = tuple(entry for entry in shown if entry.protocol == protocol)
        if not all(entry.run for entry in here):
            yield _missing(claim, here)
            continue
        best = max(here, key=_validation)
        human = best.run.results.get("human")
        if not human:
            yield Claim(claim, (best,), UNDECIDED, "no listener has rated these clips")
            continue
        number, heard = intervals.values(best.run)[METRIC], human[METRIC]
        reason = f"{best.model} {share(number)}, each rating {numbers.percent(heard)}"
        yield Claim(claim, (best,), verdict(number.low, number.high, heard), reason)


def _validation(entry: StudyRun) -> float:
    results = entry.run.results
    return validation(chosen_replicas(results), results["monitor"])


def _missing(claim: str, runs: tuple[StudyRun, ...]) -> Claim:
    names = ", ".join(entry.name for entry in runs if not entry.run)
    return Claim(claim, runs, UNDECIDED, f"no result of {names}")
