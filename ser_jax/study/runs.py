"""The runs of a study: config.runs, each with its full config, its folder and its results."""

import dataclasses
import graphlib
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ser_jax.common.config import check, flatten
from ser_jax.common.errors import UserError
from ser_jax.common.provenance import as_text
from ser_jax.evaluate.finished_run import FinishedRun

SEEN, UNSEEN, SENTENCES = "seen", "unseen", "unseen, new sentences"  # the test speakers
# Of each protocol; any other has unseen speakers, but for COLUMN, of which the results tell it.
SPEAKERS = {"random_file": SEEN, "speaker_sentence": SENTENCES}
COLUMN = "column"  # the user's own split
# The keys of a study's config that are about its runs; all others are the base of every run.
STUDY_KEYS = ("runs", "titles", "table1", "comparisons", "claims", "reference", "hours")


@dataclasses.dataclass(frozen=True)
class StudyRun:
    """A run of a study."""

    name: str  # its key in config.runs
    model: str  # model and input as the page calls them, such as "2D CNN on log-mel"
    config: ConfigDict  # the full config that it is trained with
    changes: dict[str, Any]  # see `changes`
    folder: Path  # its workdir
    records: Path | None = None  # the folder of its records; None until they are prepared
    finished: FinishedRun | None = None
    seconds: float = 0.0  # spent so far
    failure: str = ""  # why it failed

    @property
    def provenance(self) -> dict[str, str]:
        """What trained it, as {what: text}; {} if that is unknown."""
        results = self.finished.results if self.finished else {}
        return as_text((results.get("provenance") or {}).get("training"))

    @property
    def protocol(self) -> str:
        split = self.config.split
        return split.name + f" inside {split.inside}" * bool(split.inside)

    @property
    def speakers(self) -> str:
        """Whether training has heard the test speakers: SEEN, UNSEEN or SENTENCES."""
        name = self.config.split.name
        if name != COLUMN:
            return SPEAKERS.get(name, UNSEEN)
        if not self.finished:
            return "not known yet"
        results = self.finished.results
        if not results["unseen_speakers"]:
            return SEEN
        return SENTENCES if results["unseen_sentences"] else UNSEEN

    @property
    def test_speakers(self) -> str:
        return f"{self.speakers} ({self.protocol})"


def expand(config: ConfigDict, workdir: Path) -> list[StudyRun]:
    """Return the runs, each with its full config, in an order in which they can be trained.

    An init_from or train.teacher that names another run becomes that run's folder.

    Raises:
      UserError: the config lacks one of STUDY_KEYS, or a run sets an unknown key or a value of
        another type.
    """
    missing = [key for key in STUDY_KEYS if key not in config]
    if missing:
        raise UserError(f"the study's config lacks {', '.join(missing)}; see configs/study.py.")
    base = config.copy_and_resolve_references()  # else a run's views would be the corpus's too
    with base.unlocked():
        runs = base.runs
        for key in STUDY_KEYS:
            del base[key]
    configs = {name: _updated(base, overrides, name) for name, overrides in runs.items()}
    needed = {name: _sources(own) & configs.keys() for name, own in configs.items()}
    try:
        depth = _depths(needed)
    except graphlib.CycleError as error:
        raise UserError(f"runs need each other: {', '.join(error.args[1])}.") from error
    for own in configs.values():
        for section, key in ((own, "init_from"), (own.train, "teacher")):
            if section[key] in configs:
                section[key] = str(workdir / section[key])
    for name in configs:
        try:
            check(configs[name])
        except UserError as error:
            raise UserError(f"runs.{name}: {error}") from error
    return [
        StudyRun(
            name=name,
            model=_title(configs[name], config.titles),
            config=configs[name],
            changes=changes(configs[name], base),
            folder=workdir / name,
        )
        for name in sorted(configs, key=depth.get)
    ]


def _sources(config: ConfigDict) -> set[str]:
    return {config.init_from, config.train.teacher}


def _depths(needed: Mapping[str, Set[str]]) -> dict[str, int]:
    """Return how many runs each one needs before it, at most in a row."""
    depth: dict[str, int] = {}
    for name in graphlib.TopologicalSorter(needed).static_order():
        depth[name] = 1 + max((depth[source] for source in needed[name]), default=-1)
    return depth


def _updated(base: ConfigDict, overrides: ConfigDict, name: str) -> ConfigDict:
    config = base.copy_and_resolve_references().unlock()
    if overrides.get("model", {}).get("name", base.model.name) != base.model.name:
        config.model = overrides.model  # another model has other fields
    config.lock()
    try:
        config.update(overrides)
    except (KeyError, TypeError) as error:
        raise UserError(f"runs.{name} does not fit the config: {error.args[0]}") from error
    return config


def changes(config: ConfigDict, base: ConfigDict) -> dict[str, Any]:
    """Return where a config differs from the base, as {"train.epochs": 10}; names do not count."""
    base_values = flatten(base.to_dict())
    return {
        key: value
        for key, value in flatten(config.to_dict()).items()
        if value != base_values.get(key) and key != "name"
    }


def find(runs: Mapping[str, StudyRun], name: str, place: str) -> StudyRun:
    """Return the run that a list of the config names, or raise a UserError."""
    if name not in runs:
        raise UserError(f"{place} names the run {name!r}, which is not in config.runs.")
    return runs[name]


def ordered(runs: Iterable[StudyRun]) -> list[StudyRun]:
    """Sort runs for a table: seen speakers first, then by model."""
    return sorted(runs, key=lambda r: (r.speakers != SEEN, r.speakers == SENTENCES, r.model))


def _title(config: ConfigDict, titles: ConfigDict) -> str:
    model, kind = config.model.name, config.input.kind
    return " on ".join(filter(None, (titles.get(model, model), titles.get(kind, kind))))
