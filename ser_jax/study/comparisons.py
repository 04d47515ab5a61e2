"""The comparisons of config.comparisons, with an estimate where both runs are finished."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from ser_jax.common.errors import UserError
from ser_jax.study import intervals
from ser_jax.study.intervals import Estimate
from ser_jax.study.runs import StudyRun, find


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The difference `run` − `against`."""

    change: str  # what distinguishes `run` from `against`, in words
    run: StudyRun
    against: StudyRun
    estimates: dict[str, Estimate] | None  # by metric; None until both runs are finished


@dataclasses.dataclass(frozen=True)
class Section:
    """Comparisons that answer one question."""

    title: str
    note: str  # how to read its table
    comparisons: list[Comparison]


def estimate_sections(config: ConfigDict, runs: Mapping[str, StudyRun]) -> list[Section]:
    """Return the sections of config.comparisons with their estimates.

    Raises:
      UserError: a section is incomplete or names an unknown run.
    """
    sections = []
    for listed in config.comparisons:
        check_keys(listed, {"title", "note", "pairs"}, "config.comparisons")
        place = f"config.comparisons, {listed['title']!r},"
        comparisons = [
            _compare(change, find(runs, run, place), find(runs, against, place))
            for run, against, change in listed["pairs"]
        ]
        sections.append(Section(listed["title"], listed["note"], comparisons))
    return sections


def check_keys(listed: Mapping[str, Any], keys: set[str], place: str) -> None:
    """Raise a UserError unless an entry of a list has these keys."""
    if listed.keys() != keys:
        raise UserError(
            f"{place} has an entry with the keys {', '.join(sorted(listed))}; it needs "
            f"{', '.join(sorted(keys))}."
        )


def _compare(change: str, run: StudyRun, against: StudyRun) -> Comparison:
    if not (run.finished and against.finished):
        return Comparison(change, run, against, None)
    same_test = run.config.split == against.config.split
    difference = intervals.paired if same_test else intervals.unpaired
    return Comparison(change, run, against, difference(run.finished, against.finished))
