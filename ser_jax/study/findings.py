"""What a study has found so far: Table 1, comparisons and claims, as its config lists them."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from ser_jax.study.claims import Claim, judge
from ser_jax.study.comparisons import Section, estimate_sections
from ser_jax.study.intervals import Estimate, estimates
from ser_jax.study.runs import StudyRun, find, ordered


@dataclasses.dataclass(frozen=True)
class Findings:
    """What the finished runs say about what the config lists."""

    runs: list[StudyRun]  # all, in the order of the page
    table1: list[StudyRun]
    sections: list[Section]
    claims: list[Claim]
    reported: dict[str, float]  # {run: the value that the reference report gives}
    reference: ConfigDict


def conclude(config: ConfigDict, runs: Iterable[StudyRun]) -> Findings:
    """Return the findings so far.

    Raises:
      UserError: config.table1, comparisons or claims do not fit config.runs.
    """
    by_name = {run.name: run for run in runs}
    sections = estimate_sections(config, by_name)
    return Findings(
        runs=ordered(by_name.values()),
        table1=ordered(find(by_name, name, "config.table1") for name in config.table1),
        sections=sections,
        claims=judge(config, by_name, sections),
        reported={c["run"]: c["reported"] for c in config.claims if "reported" in c},
        reference=config.reference,
    )


def as_json(findings: Findings) -> dict[str, Any]:
    """Everything on the page; intervals.Estimate describes the fields of the numbers."""
    return {
        "runs": {
            run.name: {
                "status": _status(run),
                "failure": run.failure,
                "seconds": run.seconds,
                "model": run.config.model.name,
                "input": run.config.input.kind,
                "protocol": run.protocol,
                "corpus": run.finished and run.finished.results["corpus"],
                "changes": run.changes,
                "provenance": run.provenance,
                "numbers": run.finished and _numbers(estimates(run.finished)),
            }
            for run in findings.runs
        },
        "effects": [
            {
                "question": section.title,
                "change": comparison.change,
                "run": comparison.run.name,
                "against": comparison.against.name,
                "numbers": comparison.estimates and _numbers(comparison.estimates),
            }
            for section in findings.sections
            for comparison in section.comparisons
        ],
        "claims": [
            {
                "claim": claim.claim,
                "runs": [run.name for run in claim.runs],
                "protocol": claim.runs[0].protocol,
                "verdict": claim.verdict,
                "reason": claim.reason,
            }
            for claim in findings.claims
        ],
    }


def _status(run: StudyRun) -> str:
    return "finished" if run.finished else "failed" if run.failure else "not finished"


def _numbers(by_metric: Mapping[str, Estimate]) -> dict[str, Any]:
    return {metric: dataclasses.asdict(estimate) for metric, estimate in by_metric.items()}
