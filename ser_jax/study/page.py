"""The study's page: report.md and its figures."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from ser_jax.common import files
from ser_jax.metrics.classification import TITLES
from ser_jax.pages import figure, markdown, numbers
from ser_jax.pages.blocks import Block, Bullets, Code, Figure, Heading, Link, Strong, Table, Text
from ser_jax.study import figures
from ser_jax.study.claims import CONFIRMED, Claim, percent, points
from ser_jax.study.comparisons import Section
from ser_jax.study.findings import Findings, as_json, conclude
from ser_jax.study.intervals import estimates
from ser_jax.study.runs import StudyRun

PICTURES = ("curves.png", "confusion.png")  # of a run, in its report


def write(config: ConfigDict, runs: Iterable[StudyRun], workdir: Path) -> Path:
    """Write report.md, table1.png, effects.png and study.json; return the page's path."""
    findings = conclude(config, runs)
    files.write_json(workdir / "study.json", as_json(findings))
    finished = _finished(findings.table1)
    if finished:
        sheet = figures.table1(finished, findings.reported, findings.reference)
        figure.save(sheet, workdir / "table1.png")
    if _any_estimates(findings.sections):
        sheet = figures.comparisons(findings.sections, findings.reference.metric)
        figure.save(sheet, workdir / "effects.png")
    files.write_text(workdir / "report.md", page(findings, workdir))
    return workdir / "report.md"


def page(findings: Findings, workdir: Path) -> str:
    """Return the page in Markdown; it links the runs' figures and pages relative to `workdir`."""
    finished = _finished(findings.runs)
    in_table1 = _finished(findings.table1)
    corpora = dict.fromkeys(run.finished.results["corpus"] for run in finished)
    blocks = [
        *_state(findings.runs),
        *([READING] if finished else []),
        *_reported(findings),
        *_comparisons(findings.sections),
        Heading("Runs"),
        _runs(findings.runs, workdir),
        *_provenance(finished),
        *_pictures(in_table1, workdir),
    ]
    title = f"The study on {', '.join(corpora)}" if finished else "The study"
    return markdown.document(title, blocks)


READING = """\
Numbers are means over a run's trainings (seeds, and folds where there are several) ± their standard
deviation. Brackets hold 95 % limits that allow for other test speakers as well as other trainings;
a single training has none. The limits in a run's own report allow for other speakers alone and are
narrower. About one in twenty such limits misses by chance, somewhat more with fewer than twenty
test speakers."""


def _state(runs: Sequence[StudyRun]) -> list[Block]:
    text = f"{len(_finished(runs))} of {len(runs)} runs are finished"
    failures = [(Code(run.name), f" failed: {run.failure}") for run in runs if run.failure]
    return [f"{text}:", Bullets(failures)] if failures else [f"{text}."]


def _reported(findings: Findings) -> list[Block]:
    """Claims and Table 1 beside the reference report, in a study that is about it."""
    if not (findings.claims or findings.table1):
        return []
    return [
        Heading("Claims of the reference report"),
        _claims(findings.claims, findings.reference.metric),
        Heading("Table 1"),
        _table1(findings),
        *([Figure("table1.png", "Every model")] if _finished(findings.table1) else []),
        findings.reference.note,
    ]


def _claims(claims: Iterable[Claim], metric: str) -> Table:
    rows = []
    for claim in claims:
        verdict = Strong(claim.verdict) if claim.verdict == CONFIRMED else claim.verdict
        rows.append([claim.claim, claim.runs[0].test_speakers, verdict, claim.reason])
    value = f"{TITLES.get(metric, metric)}, or its difference"
    return Table(["claim", "test speakers", "verdict", value], rows, text_columns=4)


def _table1(findings: Findings) -> Table:
    """A row per model, a column per protocol."""
    runs, metric, by_run = findings.table1, findings.reference.metric, findings.reported
    column_of = {run.protocol: run.test_speakers for run in runs}
    run_of = {(run.model, run.protocol): run for run in runs}
    reported = {run.model: by_run[run.name] for run in runs if run.name in by_run}
    rows = [
        [
            model,
            numbers.percent(reported.get(model), ".4g") or "—",
            *(_value(run_of.get((model, protocol)), metric) for protocol in column_of),
        ]
        for model in sorted({run.model for run in runs})
    ]
    listeners = {  # on the test clips of a protocol; the first of its runs counts
        run.protocol: numbers.percent(run.finished.results["human"].get(metric))
        for run in reversed(_finished(runs))
        if run.finished.results.get("human")
    }
    if any(listeners.values()):
        row = [listeners.get(protocol, "") for protocol in column_of]
        rows.append(["listeners, each rating", "", *row])
    columns = [TITLES.get(metric, metric), findings.reference.column, *column_of.values()]
    return Table(columns, rows)


def _value(run: StudyRun | None, metric: str) -> str:
    if run is None:
        return "—"
    if not run.finished:
        return "not finished"
    return percent(estimates(run.finished)[metric], with_sd=True)


def _comparisons(sections: Sequence[Section]) -> list[Block]:
    columns, blocks = ["", "test speakers", *TITLES.values()], []
    if _any_estimates(sections):
        blocks.append(Figure("effects.png", "What each change does"))
    for section in sections:
        rows = []
        for comparison in section.comparisons:
            by_metric = comparison.estimates
            values = [points(by_metric[m]) if by_metric else "not finished" for m in TITLES]
            rows.append([comparison.change, comparison.run.test_speakers, *values])
        table = Table(columns, rows, text_columns=len(columns))
        blocks += [Heading(section.title), section.note, table]
    return blocks


def _runs(runs: Iterable[StudyRun], workdir: Path) -> Table:
    columns = ["run", "model", "protocol", "views", "training clips", "test clips of speakers"]
    columns += ["epochs at most", "trainings", *TITLES.values(), "minutes"]
    columns += ["device", "precision", "code"]
    rows: list[list[Text]] = []
    for run in runs:
        if not run.finished:
            rows.append([Code(run.name), run.model, run.protocol])
            continue
        results, by_metric = run.finished.results, estimates(run.finished)
        link = (run.folder / "report" / "report.md").relative_to(workdir).as_posix()
        row = [Link(Code(run.name), link), run.model, run.protocol]
        row += [", ".join(run.config.input.views) or "—", f"{results['n_train']:,}"]
        row += [f"{results['n_test']:,} of {results['n_test_speakers']}"]
        row += [str(run.config.train.epochs), str(by_metric["accuracy"].n)]
        row += [percent(by_metric[metric], with_sd=True) for metric in TITLES]
        row += [f"{run.seconds / 60:.1f}"]
        rows.append([*row, *(run.provenance.get(key, "") for key in columns[-3:])])
    return Table(columns, rows, text_columns=len(columns))


def _provenance(runs: Sequence[StudyRun]) -> list[Block]:
    """Return the libraries, or a warning where the runs were not computed with the same."""
    blocks: list[Block] = []
    for what in ("device", "precision", "libraries", "code"):
        runs_with: dict[str, list[str]] = {}
        for run in runs:
            runs_with.setdefault(run.provenance.get(what, "unknown"), []).append(run.name)
        if len(runs_with) > 1:
            items = [f"{text}: {', '.join(names)}" for text, names in runs_with.items()]
            note = f"The runs differ in {what}, which may be part of their difference:"
            blocks += [note, Bullets(items)]
        elif what == "libraries" and runs_with and "unknown" not in runs_with:
            blocks.append(f"All runs were computed with {', '.join(runs_with)}.")
    return blocks


def _pictures(runs: Sequence[StudyRun], workdir: Path) -> list[Block]:
    """Curves and confusion matrices of Table 1, from the runs' own reports."""
    blocks: list[Block] = [Heading("Curves and confusion matrices")] if runs else []
    for run in runs:
        folder = run.folder / "report"
        blocks.append(Heading(f"{run.model}, test speakers {run.speakers}", level=3))
        blocks += [
            Figure((folder / name).relative_to(workdir).as_posix(), name.removesuffix(".png"))
            for name in PICTURES
            if (folder / name).exists()
        ]
    return blocks


def _finished(runs: Iterable[StudyRun]) -> list[StudyRun]:
    return [run for run in runs if run.finished]


def _any_estimates(sections: Iterable[Section]) -> bool:
    return any(c.estimates for section in sections for c in section.comparisons)
