"""The runs of a study, and which of them answer a question together.

Two runs are compared where their configs differ in what the question is about and in nothing else,
so a table finds its runs by what they are and not by what they are called.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ser_jax.evaluate.finished_run import FinishedRun
from ser_jax.train.workdir import flat

SEEN = "random_file"  # the report's protocol; the others promise unseen speakers …
SENTENCES = "speaker_sentence"  # … and this one unseen sentences too
# What makes a run another model, and another protocol.
MODEL = ("model.", "input.kind", "optimizer.name", "train.batch_size")
PROTOCOL = ("split.",)
MODELS = {"cnn1d": "1D CNN", "cnn2d": "2D CNN", "paper": "paper's CNN"}
INPUTS = {"mfcc": "MFCC", "log_mel": "log-mel"}


@dataclasses.dataclass(frozen=True)
class StudyRun:
    """A run of a study.

    Attributes:
      name: in the study's config.
      config: all of it, as the run is trained with it.
      changes: what the study's base has otherwise, as {"train.epochs": 10}; see `changes`.
      folder: where it lives.
      records: the folder of its records, once that is known.
      run: results and predictions; None as long as it is not finished.
      seconds: what it has taken so far.
      failure: why it could not be finished.
    """

    name: str
    config: ConfigDict
    changes: dict[str, Any]
    folder: Path
    records: Path | None = None
    run: FinishedRun | None = None
    seconds: float = 0.0
    failure: str = ""

    @property
    def model(self) -> str:
        """Such as "2D CNN on log-mel"."""
        name, kind = self.config.model.name, self.config.input.kind
        title = MODELS.get(name, name)
        return title if kind == "vector" else f"{title} on {INPUTS.get(kind, kind)}"

    @property
    def protocol(self) -> str:
        return self.config.split.name

    @property
    def speakers(self) -> str:
        """What those of the test part are to training."""
        return {SEEN: "seen", SENTENCES: "unseen, new sentences"}.get(self.protocol, "unseen")


def changes(config: ConfigDict, base: ConfigDict) -> dict[str, Any]:
    """What the base has otherwise, as {"train.epochs": 10}; nothing depends on the name."""
    ours, theirs = flat(config.to_dict()), flat(base.to_dict())
    return {k: v for k, v in ours.items() if v != theirs.get(k) and k != "name"}


def alike(a: StudyRun, b: StudyRun, but: Sequence[str]) -> bool:
    """Whether two runs of a study differ at most in keys that begin so."""
    either, none = a.changes | b.changes, object()
    differing = [k for k in either if a.changes.get(k, none) != b.changes.get(k, none)]
    return all(key.startswith(tuple(but)) for key in differing)


def ordered(entries: Iterable[StudyRun]) -> list[StudyRun]:
    """As tables show them: seen speakers first, then by model."""
    return sorted(entries, key=lambda e: (e.protocol != SEEN, e.protocol == SENTENCES, e.model))


def plain(entries: Iterable[StudyRun]) -> list[StudyRun]:
    """Those that differ from the base in nothing but model, input and protocol."""
    return [e for e in entries if all(key.startswith((*MODEL, *PROTOCOL)) for key in e.changes)]
