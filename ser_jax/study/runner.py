"""A list of runs, one after another, each in a folder of its own, and a page about all of them."""

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterable
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
from ser_jax.study.runs import StudyRun, changes
from ser_jax.train import loop

NOTE = "run.json"  # what the study notes in a run's folder
# What a finished run leaves. If any of them has changed since, there may be something to do.
LEFT = ("config.json", "metrics.jsonl", "results.json", "predictions.csv")

Prepare = Callable[[ConfigDict], Path]


def run(config: ConfigDict, workdir: Path, prepare: Prepare) -> None:
    """Trains, tests and reports every run that is not finished, and writes report.md.

    The page is written anew after every run, so that it can be read on the way.

    Args:
      config: as configs/study.py makes it.
      workdir: of the study; a run lives in a folder of its name below it.
      prepare: config → the folder of its records.

    Raises:
      UserError: a run failed. The others were done.
      Interrupted: Ctrl-C or SIGTERM came; all is saved.
    """
    runtime.use_compilation_cache()  # many runs are the same program
    entries = {entry.name: entry for entry in expand(config, workdir)}
    for entry in list(entries.values()):
        entries[entry.name] = _attempt(lambda e: _recalled(e, prepare, entries), entry)
    if all(entry.failure for entry in entries.values()):
        raise UserError(next(iter(entries.values())).failure)
    left = [entry for entry in entries.values() if not entry.run and not entry.failure]
    print(f"{sum(1 for e in entries.values() if e.run)} of {len(entries)} runs are finished.")
    for number, entry in enumerate(left):
        print(_heading(entry, len(entries) - len(left) + number + 1, entries, left[number:]))
        entries[entry.name] = _attempt(lambda e: _completed(e, entries), entry)
        if processes.is_first():
            page.write(list(entries.values()), workdir)
    if processes.is_first():
        print(f"The study's report is {page.write(list(entries.values()), workdir)}.")
    failed = [entry.name for entry in entries.values() if entry.failure]
    if failed:
        raise UserError(
            f"{len(failed)} of {len(entries)} runs failed: {', '.join(failed)}; the report says "
            "why, and the same command tries them again."
        )


def expand(config: ConfigDict, workdir: Path) -> list[StudyRun]:
    """The runs, each with its whole config, in an order in which they can be trained.

    Where a run's init_from names another, it becomes that one's folder.

    Raises:
      UserError: a run sets a key that there is not, or to a value of another type.
    """
    base = config.copy_and_resolve_references()  # else a run's views would be the corpus's too
    with base.unlocked():
        runs = base.runs
        del base.runs
    configs = {}
    for name, own in runs.items():
        configs[name] = base.copy_and_resolve_references().unlock()
        if own.get("model", {}).get("name", base.model.name) != base.model.name:
            configs[name].model = own.model  # another model has other fields
        configs[name].lock()
        try:
            configs[name].update(own)
        except (KeyError, TypeError) as error:
            raise UserError(f"runs.{name} does not fit the config: {error.args[0]}") from error
    second = [name for name, this in configs.items() if this.init_from in configs]
    for name in second:
        source = configs[name].init_from
        if source in second:
            raise UserError(f"runs.{name} starts from {source}, which starts from another run too.")
    for name in second:
        configs[name].init_from = str(workdir / configs[name].init_from)
    order = sorted(configs, key=lambda name: name in second)
    return [
        StudyRun(name, configs[name], changes(configs[name], base), workdir / name)
        for name in order
    ]


def _attempt(step: Callable[[StudyRun], StudyRun], entry: StudyRun) -> StudyRun:
    """The entry after a step, or with the reason why it failed."""
    try:
        return step(entry)
    except Interrupted:
        raise
    except UserError as error:
        print(f"{entry.name} failed: {error}", file=sys.stderr, flush=True)
        return dataclasses.replace(entry, failure=str(error))


def _recalled(entry: StudyRun, prepare: Prepare, entries: dict[str, StudyRun]) -> StudyRun:
    """With its records, and with its results if it is finished."""
    entry = dataclasses.replace(entry, records=prepare(entry.config))
    note, source = _read_note(entry), _source(entry, entries)
    entry = dataclasses.replace(entry, seconds=note.get("seconds", 0.0))
    finished = (
        note.get("left") == _checksums(entry.folder)
        and note["about"] == _about(entry, source)
        and (source is None or source.run)
    )
    return dataclasses.replace(entry, run=finished_run.load(entry.folder)) if finished else entry


def _completed(entry: StudyRun, entries: dict[str, StudyRun]) -> StudyRun:
    """TrainedModel, tested and reported, from wherever it stood."""
    source, note = _source(entry, entries), _read_note(entry)
    if source and not source.run:
        raise UserError(f"it starts from {source.name}, which has no result.")
    about = _about(entry, source)
    if note and note["about"]["source"] != about["source"]:
        raise UserError(
            f"{entry.folder} started from other weights than those of "
            f"init_from={entry.config.init_from!r} now; delete that folder."
        )
    begin, left = time.monotonic(), None

    def seconds() -> float:
        return entry.seconds + time.monotonic() - begin

    def write_note() -> None:
        if processes.is_first():
            files.write_json(
                entry.folder / NOTE, {"about": about, "seconds": seconds(), "left": left}
            )

    write_note()
    try:
        loop.train(entry.config, entry.records, entry.folder)
        test_set.evaluate(entry.config, entry.records, entry.folder)
        found = processes.first_then_others(lambda: _reported(entry.folder))
        left = _checksums(entry.folder)
    finally:
        write_note()
    return dataclasses.replace(entry, run=found, seconds=seconds())


def _reported(folder: Path) -> finished_run.FinishedRun:
    if processes.is_first():
        run_report.write(folder)
    return finished_run.load(folder)


def _about(entry: StudyRun, source: StudyRun | None) -> dict[str, Any]:
    """All that a run's results depend on."""
    return {
        "config": json.loads(entry.config.to_json()),
        "records": entry.records.parent.name,
        "source": source and _checksums(source.folder)["metrics.jsonl"],
    }


def _source(entry: StudyRun, entries: dict[str, StudyRun]) -> StudyRun | None:
    """The run of this study that it starts from."""
    return next((e for e in entries.values() if str(e.folder) == entry.config.init_from), None)


def _read_note(entry: StudyRun) -> dict[str, Any]:
    path = entry.folder / NOTE
    return files.read_json(path) if path.exists() else {}


def _checksums(folder: Path) -> dict[str, str | None]:
    paths = {name: folder / name for name in LEFT}
    return {n: files.sha256_of(path) if path.exists() else None for n, path in paths.items()}


def _heading(
    entry: StudyRun, number: int, entries: dict[str, StudyRun], left: list[StudyRun]
) -> str:
    seeds = entry.config.replicas.seeds
    return (
        f"\n[{number}/{len(entries)}] {entry.name}: {entry.model}, test speakers {entry.speakers} "
        f"({entry.protocol}), {seeds} seed{'s' * (seeds > 1)}"
        f"{_time_left([e for e in entries.values() if e.run], left)}."
    )


def _time_left(done: Iterable[StudyRun], left: Iterable[StudyRun]) -> str:
    """Guessed from the runs of the same model, or else of any, by examples a clip."""
    rates: dict[str, list[float]] = {}
    for entry in done:
        rates.setdefault(entry.model, []).append(entry.seconds / _work(entry))
    if not rates:
        return ""
    any_rate = float(np.mean(sum(rates.values(), [])))
    seconds = sum(
        max(0.0, float(np.mean(rates.get(entry.model, any_rate))) * _work(entry) - entry.seconds)
        for entry in left
    )
    if seconds < 5400:
        return f", about {max(1, round(seconds / 60))} min left"
    return f", about {seconds / 3600:.1f} h left"


def _work(entry: StudyRun) -> int:
    """Examples a clip."""
    return 1 + len(entry.config.input.views)
