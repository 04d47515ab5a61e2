"""The text of a study's report."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ser_jax.common import files
from ser_jax.metrics.classification import TITLES
from ser_jax.pages import figure
from ser_jax.pages.markdown import escape, table
from ser_jax.pages.numbers import percent
from ser_jax.study import claims as study_claims
from ser_jax.study import effects as study_effects
from ser_jax.study import figures, intervals, runs
from ser_jax.study.claims import CONFIRMED, REPORTED, Claim, points, share
from ser_jax.study.effects import Effect
from ser_jax.study.runs import StudyRun, plain

PICTURES = ("curves.png", "confusion.png")  # of a run, in its report

# What a question's table is to be read with.
NOTES = {
    "Models": "Both on the same test clips.",
    "Inputs": "Both on the same test clips.",
    "Seen and unseen speakers": "Speakers (and sentences) that training has not heard, less "
    "speakers that it has. The test clips differ, and so do the sizes of the training parts.",
    "Second training": "From the best weights of the first, with a fresh optimiser. Both on the "
    "same test clips.",
    "Augmentation": "Each less the same network trained on the original clips alone. An epoch with "
    "views has more steps, so after few epochs a part of the difference is the longer training.",
    "Class weights": "Each class weighs the same in the loss, less the same without weights.",
}


def page(
    entries: Sequence[StudyRun], effects: Sequence[Effect], claims: Sequence[Claim], workdir: Path
) -> str:
    """The report in Markdown; pictures and pages of the runs are linked from `workdir`."""
    done = [entry for entry in entries if entry.run]
    corpora = dict.fromkeys(escape(entry.run.results["corpus"]) for entry in done)
    parts = [
        f"# The study on {', '.join(corpora)}" if done else "# The study",
        _state(entries),
        READING if done else "",
        "## The report's claims",
        _claims(claims),
        "## Table 1",
        _table1(plain(entries)),
        "![Accuracies of every model](table1.png)" if plain(done) else "",
        PAPER,
        *_effects(effects),
        "## Runs",
        _runs(entries, workdir),
        *_pictures(plain(done), workdir),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


READING = """\
Numbers are means over a run's trainings (seeds, and folds where there are several), ± their
standard deviation. In brackets are 95 % limits that count both what other test speakers and what
other trainings would change; a number from one training has none. A run's own report gives limits
over speakers alone, which are narrower. Of twenty such limits about one misses by chance, and of
few test speakers (fewer than twenty) somewhat more."""
PAPER = """\
The report's numbers are of CREMA-D, one seed, 2,233 test clips of speakers heard in training; it
gives one for its 2D CNN and names both inputs. The article that the third network is from gives
57.4 % for four corpora together and none for CREMA-D alone, so there is none to compare with."""


def _state(entries: Sequence[StudyRun]) -> str:
    n_done = sum(1 for entry in entries if entry.run)
    text = f"{n_done} of {len(entries)} runs are finished"
    failed = [f"- `{e.name}` failed: {escape(e.failure)}" for e in entries if e.failure]
    return "\n".join([f"{text}:\n", *failed]) if failed else f"{text}."


def _claims(claims: Iterable[Claim]) -> str:
    rows = [
        [
            line.claim,
            f"{line.runs[0].speakers} ({escape(line.runs[0].protocol)})",
            f"**{line.verdict}**" if line.verdict == CONFIRMED else line.verdict,
            escape(line.reason),
        ]
        for line in claims
    ]
    return table(
        ["claim", "test speakers", "verdict", "accuracy, or difference of accuracies"], rows, "---"
    )


def _table1(shown: Sequence[StudyRun]) -> str:
    """A row a model, a column a protocol."""
    protocols = list(dict.fromkeys(entry.protocol for entry in shown))
    by_cell = {(entry.model, entry.protocol): entry for entry in reversed(shown)}
    first = {protocol: next(e for e in shown if e.protocol == protocol) for protocol in protocols}
    heads = [f"{first[name].speakers} ({escape(name)})" for name in protocols]
    rows = []
    for model in sorted({entry.model for entry in shown}):
        cells = [by_cell.get((model, protocol)) for protocol in protocols]
        reported = REPORTED.get(next(c for c in cells if c).config.model.name)
        rows.append(
            [
                model,
                percent(reported, ".4g") if reported else "—",
                *(_accuracy(cell) if cell else "—" for cell in cells),
            ]
        )
    humans = [_heard(shown, protocol) for protocol in protocols]
    if any(humans):
        rows.append(["listeners, each rating", "", *humans])
    return table(["accuracy", "the report: seen", *heads], rows)


def _accuracy(entry: StudyRun) -> str:
    if not entry.run:
        return "not finished"
    return share(intervals.values(entry.run)["accuracy"], with_sd=True)


def _heard(shown: Iterable[StudyRun], protocol: str) -> str:
    """What listeners recognise of the clips that are tested."""
    for entry in shown:
        if entry.protocol == protocol and entry.run and entry.run.results.get("human"):
            return percent(entry.run.results["human"]["accuracy"])
    return ""


def _effects(effects: Sequence[Effect]) -> list[str]:
    """A section a question."""
    parts = []
    for question in dict.fromkeys(effect.question for effect in effects):
        rows = [
            [
                effect.change,
                f"{effect.run.speakers} ({escape(effect.run.protocol)})",
                *(
                    points(effect.numbers[metric]) if effect.numbers else "not finished"
                    for metric in TITLES
                ),
            ]
            for effect in effects
            if effect.question == question
        ]
        heads = ["", "test speakers", *TITLES.values()]
        parts += [f"## {question}", NOTES[question], table(heads, rows, "---")]
    if any(effect.numbers for effect in effects):
        parts.insert(0, "![What each change does](effects.png)")
    return parts


def _runs(entries: Sequence[StudyRun], workdir: Path) -> str:
    rows = []
    for entry in entries:
        if not entry.run:
            rows.append([f"`{entry.name}`", entry.model, escape(entry.protocol)])
            continue
        results, numbers = entry.run.results, intervals.values(entry.run)
        link = (entry.folder / "report" / "report.md").relative_to(workdir)
        rows.append(
            [
                f"[`{entry.name}`]({link})",
                entry.model,
                escape(entry.protocol),
                ", ".join(entry.config.input.views) or "—",
                f"{results['n_train']:,}",
                f"{results['n_test']:,} of {results['n_test_speakers']}",
                f"{entry.config.train.epochs}",
                f"{numbers['accuracy'].n}",
                *(share(numbers[metric], with_sd=True) for metric in TITLES),
                f"{entry.seconds / 60:.1f}",
            ]
        )
    heads = """run model protocol views training_clips test_clips_of_speakers epochs_at_most
        trainings""".split()
    heads = [head.replace("_", " ") for head in heads]
    return table([*heads, *TITLES.values(), "minutes"], rows, "---")


def _pictures(shown: Sequence[StudyRun], workdir: Path) -> list[str]:
    """Curves and confusion matrices of Table 1, from the runs' own reports."""
    parts = ["## Curves and confusion matrices"] if shown else []
    for entry in shown:
        folder = entry.folder / "report"
        parts.append(f"### {entry.model}, test speakers {entry.speakers}")
        parts += [
            f"![{name.removesuffix('.png')}]({(folder / name).relative_to(workdir)})"
            for name in PICTURES
            if (folder / name).exists()
        ]
    return parts


def write(entries: Sequence[StudyRun], workdir: Path) -> Path:
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
    files.write_text(workdir / "report.md", page(entries, effects, claims, workdir))
    return workdir / "report.md"


def _as_json(
    entries: Sequence[StudyRun], effects: Sequence[Effect], claims: Sequence[Claim]
) -> dict[str, Any]:
    """All that the page says; study_numbers.Estimate describes the numbers' fields."""
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


def _status(entry: StudyRun) -> str:
    return "finished" if entry.run else "failed" if entry.failure else "not finished"


def _numbers(numbers: dict[str, intervals.Estimate]) -> dict[str, Any]:
    return {name: dataclasses.asdict(number) for name, number in numbers.items()}
