"""Train, test and report the runs of a study one after another, and write a page about them."""

import dataclasses
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from ser_jax.common import files, runtime
from ser_jax.common.errors import Interrupted, UserError
from ser_jax.evaluate import finished_run, test_set
from ser_jax.parallel import processes
from ser_jax.report import run_report
from ser_jax.study import page
from ser_jax.study.findings import conclude
from ser_jax.study.runs import StudyRun, expand
from ser_jax.train import loop

NOTE = "run.json"  # the study's note in a run's folder
# The files of a finished run. A run is finished only while none of them has changed.
OUTPUTS = ("config.json", "metrics.jsonl", "results.json", "predictions.csv")

Prepare, Teach = Callable[[ConfigDict], Path], Callable[[ConfigDict, Path], Any]


def run(
    config: ConfigDict, workdir: Path, prepare: Prepare, teach: Teach = lambda *_: None
) -> None:
    """Train, test and report every run that is not finished; rewrite report.md after each.

    Args:
      config: as configs/study.py makes it.
      workdir: of the study; each run has the subfolder of its name.
      prepare: config → the folder of its records.
      teach: asks the teacher of a config, if it has one, about the clips of its records.

    Raises:
      UserError: the config is inconsistent, or a run failed; all others were completed.
      Interrupted: Ctrl-C or SIGTERM; all progress is saved.
    """
    runtime.use_compilation_cache()  # many runs are the same program
    runs = {study_run.name: study_run for study_run in expand(config, workdir)}
    conclude(config, runs.values())  # a wrong name must not surface after hours of training
    for name in runs:
        runs[name] = _attempt(runs[name], lambda r: _resumed(r, runs, prepare))
    if all(r.failure for r in runs.values()):
        raise UserError(next(iter(runs.values())).failure)
    to_do = [name for name, r in runs.items() if not r.finished and not r.failure]
    print(f"{sum(bool(r.finished) for r in runs.values())} of {len(runs)} runs are finished.")
    for position, name in enumerate(to_do):
        if 0 < config.hours * 3600 <= sum(r.seconds for r in runs.values()):
            print(
                f"{config.hours:g} hours are over, and {len(to_do) - position} runs are not begun; "
                "the same command goes on with more --config.hours."
            )
            break
        print(_heading(runs, to_do[position:]))
        runs[name] = _attempt(runs[name], lambda r: _completed(r, runs, teach))
        if processes.is_first():
            page.write(config, runs.values(), workdir)
    if processes.is_first():
        print(f"The study's page is {page.write(config, runs.values(), workdir)}.")
    failed = [name for name, r in runs.items() if r.failure]
    if failed:
        raise UserError(
            f"{len(failed)} of {len(runs)} runs failed: {', '.join(failed)}; the study's page says "
            "why. Run the same command to try them again."
        )


def _attempt(study_run: StudyRun, step: Callable[[StudyRun], StudyRun]) -> StudyRun:
    """Return the run after a step, or with the reason why the step failed."""
    try:
        return step(study_run)
    except Interrupted:
        raise
    except UserError as error:
        failure = str(error)
    except Exception as error:  # out of memory, or a fault of this program: the others go on
        traceback.print_exc()
        failure = f"{type(error).__name__}: {error}".splitlines()[0][:300].removesuffix(": ")
    print(f"{study_run.name} failed: {failure}", file=sys.stderr, flush=True)
    return dataclasses.replace(study_run, failure=failure)


def _resumed(run: StudyRun, runs: dict[str, StudyRun], prepare: Prepare) -> StudyRun:
    """Return the run with its records, and with its results if it is finished."""
    run = dataclasses.replace(run, records=prepare(run.config))
    note, sources = _read_note(run), _sources(run, runs)
    run = dataclasses.replace(run, seconds=note.get("seconds", 0.0))
    is_finished = (
        note.get("left") == _checksums(run.folder)
        and note["about"] == _inputs(run, sources)
        and all(source.finished for source in sources.values())
    )
    finished = finished_run.load(run.folder) if is_finished else None
    return dataclasses.replace(run, finished=finished)


def _completed(run: StudyRun, runs: dict[str, StudyRun], teach: Teach) -> StudyRun:
    """Train, test and report a run from where it stopped; return it with its results."""
    sources, note = _sources(run, runs), _read_note(run)
    for source in sources.values():
        if not source.finished:
            raise UserError(f"it needs {source.name}, which has no result.")
    inputs = _inputs(run, sources)
    for kind, source in sources.items():
        if note and note["about"].get(kind) != inputs[kind]:
            raise UserError(
                f"{run.folder} learnt from other weights than those of {source.name} now; delete "
                "that folder."
            )
    begin, outputs = time.monotonic(), None

    def write_note() -> float:
        """Note what the run has left so far; return the seconds that it has taken."""
        seconds = run.seconds + time.monotonic() - begin
        note = {"about": inputs, "seconds": seconds, "left": outputs}
        if processes.is_first():
            files.write_json(run.folder / NOTE, note)
        return seconds

    write_note()
    try:
        teach(run.config, run.records)
        experiment = loop.train(run.config, run.records, run.folder)
        test_set.evaluate(run.config, run.records, run.folder, experiment)
        del experiment  # and its examples
        finished = processes.first_then_others(lambda: _reported(run.folder))
        outputs = _checksums(run.folder)
    finally:
        seconds = write_note()
    return dataclasses.replace(run, finished=finished, seconds=seconds)


def _reported(folder: Path) -> finished_run.FinishedRun:
    if processes.is_first():
        run_report.write(folder)
    return finished_run.load(folder)


def _inputs(run: StudyRun, sources: dict[str, StudyRun]) -> dict[str, Any]:
    """Everything that a run's results depend on."""
    return {
        "config": json.loads(run.config.to_json()),
        "records": run.records.parent.name,
        "source": None,
        **{kind: _checksums(r.folder)["metrics.jsonl"] for kind, r in sources.items()},
    }


def _sources(run: StudyRun, runs: dict[str, StudyRun]) -> dict[str, StudyRun]:
    """Return the runs of this study that it draws on: "source", of its weights; "teacher"."""
    named = {"source": run.config.init_from, "teacher": run.config.train.teacher}
    found = {str(other.folder): other for other in runs.values()}
    return {kind: found[folder] for kind, folder in named.items() if folder in found}


def _read_note(run: StudyRun) -> dict[str, Any]:
    path = run.folder / NOTE
    return files.read_json(path) if path.exists() else {}


def _checksums(folder: Path) -> dict[str, str | None]:
    paths = [folder / name for name in OUTPUTS]
    return {path.name: files.sha256_of(path) if path.exists() else None for path in paths}


def _heading(runs: dict[str, StudyRun], remaining: Sequence[str]) -> str:
    """Describe the first of the remaining runs, and how long they all will take."""
    run, number = runs[remaining[0]], len(runs) - len(remaining) + 1
    seeds, finished = run.config.replicas.seeds, [r for r in runs.values() if r.finished]
    return (
        f"\n[{number}/{len(runs)}] {run.name}: {run.model}, test speakers {run.test_speakers}, "
        f"{seeds} seed{'s' * (seeds > 1)}"
        f"{_time_left(finished, [runs[name] for name in remaining])}."
    )


def _time_left(finished: Iterable[StudyRun], remaining: Iterable[StudyRun]) -> str:
    """Extrapolate from finished runs of the same model, or of any, by examples per clip."""
    rates: dict[str, list[float]] = {}
    for run in finished:
        rates.setdefault(run.model, []).append(run.seconds / _examples_per_clip(run))
    if not rates:
        return ""
    mean_rate = float(np.mean(sum(rates.values(), [])))
    seconds = 0.0
    for run in remaining:
        rate = float(np.mean(rates.get(run.model, mean_rate)))
        seconds += max(0.0, rate * _examples_per_clip(run) - run.seconds)
    if seconds < 5400:
        return f", about {max(1, round(seconds / 60))} min left"
    return f", about {seconds / 3600:.1f} h left"


def _examples_per_clip(run: StudyRun) -> int:
    return 1 + len(run.config.input.views)
