"""What each change does: pairs of runs that differ in it and in nothing else."""

import dataclasses
from collections.abc import Iterator, Sequence
from itertools import permutations

from ser_jax.study import intervals
from ser_jax.study.intervals import Estimate
from ser_jax.study.runs import INPUTS, MODEL, PROTOCOL, SEEN, StudyRun, alike


@dataclasses.dataclass(frozen=True)
class Effect:
    """`run` less `against`.

    Attributes:
      question: that it belongs to.
      change: from `against` to `run`, in words.
      run: with the change.
      against: without.
      claim: of the report, that the change is for the better; "" if it claims nothing.
      numbers: {metric: difference}; None while one of the two has no result.
    """

    question: str
    change: str
    run: StudyRun
    against: StudyRun
    claim: str = ""
    numbers: dict[str, Estimate] | None = None


def find(entries: Sequence[StudyRun]) -> list[Effect]:
    """All that the study has runs for, by question."""
    pairs = list(permutations(entries, 2))
    found = [
        *_models(pairs),
        *_inputs(pairs),
        *_protocols(pairs),
        *_second_trainings(pairs),
        *_views(pairs),
        *_class_weights(pairs),
    ]
    return [dataclasses.replace(effect, numbers=_numbers(effect)) for effect in found]


def _numbers(effect: Effect) -> dict[str, Estimate] | None:
    a, b = effect.run, effect.against
    if not (a.run and b.run):
        return None
    same_test = a.config.split == b.config.split
    return (intervals.paired if same_test else intervals.unpaired)(a.run, b.run)


Pairs = Sequence[tuple[StudyRun, StudyRun]]


def _with_values(
    pairs: Pairs, key: str, ours: str, theirs: str, but: Sequence[str] = ()
) -> Iterator[tuple[StudyRun, StudyRun]]:
    """Pairs with these values of a key that differ in nothing else, or in what `but` names."""
    section, name = key.split(".")
    for a, b in pairs:
        found = (a.config[section][name], b.config[section][name])
        if found == (ours, theirs) and alike(a, b, but=but or (key,)):
            yield a, b


def _models(pairs: Pairs) -> Iterator[Effect]:
    for a, b in _with_values(pairs, "model.name", "cnn2d", "cnn1d", but=MODEL):
        claim = f"The {a.model} recognises more than the {b.model}."
        yield Effect("Models", f"{a.model} instead of {b.model}", a, b, claim)


def _inputs(pairs: Pairs) -> Iterator[Effect]:
    for a, b in _with_values(pairs, "input.kind", "log_mel", "mfcc"):
        claim = "The mel spectrogram is the better input of the 2D CNN."
        claim = claim if a.config.model.name == "cnn2d" else ""
        yield Effect("Inputs", f"{a.model} instead of {INPUTS['mfcc']}", a, b, claim)


def _protocols(pairs: Pairs) -> Iterator[Effect]:
    for a, b in pairs:
        if b.protocol == SEEN != a.protocol and alike(a, b, but=PROTOCOL):
            yield Effect("Seen and unseen speakers", f"{a.model}: {a.speakers}", a, b)


def _second_trainings(pairs: Pairs) -> Iterator[Effect]:
    for a, b in pairs:
        if a.config.init_from == str(b.folder):
            claim = f"A second training improves the {b.model}."
            yield Effect("Second training", f"{b.model}, trained again", a, b, claim)


def _views(pairs: Pairs) -> Iterator[Effect]:
    """Fewer views first."""
    for a, b in sorted(pairs, key=lambda pair: len(pair[0].config.input.views)):
        views = a.config.input.views
        if views and not b.config.input.views and alike(a, b, but=("input.views",)):
            claim = f"Augmentation by {_listed(views)} helps the {a.model}."
            yield Effect("Augmentation", f"{a.model} with {_listed(views)}", a, b, claim)


def _class_weights(pairs: Pairs) -> Iterator[Effect]:
    for a, b in _with_values(pairs, "train.class_weights", "balanced", "none"):
        yield Effect("Class weights", f"{a.model}, balanced", a, b)


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
