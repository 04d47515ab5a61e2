"""The runs of a study → report.md, two pictures and study.json."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ser_jax.common import files
from ser_jax.pages import figure
from ser_jax.study import claims as study_claims
from ser_jax.study import effects as study_effects
from ser_jax.study import figures, intervals, page, runs
from ser_jax.study.claims import Line
from ser_jax.study.effects import Effect
from ser_jax.study.runs import Entry, plain


def write(entries: Sequence[Entry], workdir: Path) -> Path:
    """Writes report.md, table1.png, effects.png and study.json.

    Args:
      entries: all runs of the study; those without results are named as missing.
      workdir: of the study.

    Returns:
      The page's path.
    """
    entries = runs.ordered(entries)
    effects = study_effects.find(entries)
    claims = study_claims.lines(entries, effects)
    files.write_json(workdir / "study.json", _as_json(entries, effects, claims))
    shown = [entry for entry in plain(entries) if entry.run]
    if shown:
        figure.save(figures.table1(shown), workdir / "table1.png")
    if any(effect.numbers for effect in effects):
        figure.save(figures.effects(effects), workdir / "effects.png")
    files.write_text(workdir / "report.md", page.page(entries, effects, claims, workdir))
    return workdir / "report.md"


def _as_json(
    entries: Sequence[Entry], effects: Sequence[Effect], claims: Sequence[Line]
) -> dict[str, Any]:
    """All that the page says; study_numbers.Number describes the numbers' fields."""
    return {
        "runs": {
            entry.name: {
                "status": _status(entry),
                "failure": entry.failure,
                "seconds": entry.seconds,
                "model": entry.config.model.name,
                "input": entry.config.input.kind,
                "protocol": entry.protocol,
                "corpus": entry.run and entry.run.results["corpus"],
                "changes": entry.changes,
                "numbers": entry.run and _numbers(intervals.values(entry.run)),
            }
            for entry in entries
        },
        "effects": [
            {
                "question": effect.question,
                "change": effect.change,
                "run": effect.run.name,
                "against": effect.against.name,
                "numbers": effect.numbers and _numbers(effect.numbers),
            }
            for effect in effects
        ],
        "claims": [
            {
                "claim": line.claim,
                "runs": [entry.name for entry in line.runs],
                "protocol": line.runs[0].protocol,
                "verdict": line.verdict,
                "reason": line.reason,
            }
            for line in claims
        ],
    }


def _status(entry: Entry) -> str:
    return "finished" if entry.run else "failed" if entry.failure else "not finished"


def _numbers(numbers: dict[str, intervals.Number]) -> dict[str, Any]:
    return {name: dataclasses.asdict(number) for name, number in numbers.items()}
