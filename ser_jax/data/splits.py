"""Protocols: how clips are split into training, validation and test set.

A protocol sees a table of clips and names the set of each. Augmented views follow their clip. To
add a protocol, write a function and enter it in PROTOCOLS.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import numpy as np

from ser_jax.common.errors import UserError
from ser_jax.data import crema_d
from ser_jax.data.clips import Clips


@dataclasses.dataclass(frozen=True)
class Split:
    """Row numbers of the three sets, each sorted."""

    protocol: str
    # Whether the protocol promises, or the user's own split observes, that sets share no speaker.
    unseen_speakers: bool
    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    unseen_sentences: bool = False  # the same for sentences

    def parts(self) -> dict[str, np.ndarray]:
        return {"train": self.train, "val": self.val, "test": self.test}


def make(
    name: str,
    clips: Clips,
    *,
    inside: str = "",
    fold: int = 0,
    n_folds: int = 5,
    **settings: float | str,
) -> Split:
    """Split the clips by a protocol of PROTOCOLS.

    Args:
      name: the protocol.
      clips: the corpus.
      inside: another protocol, whose test clips are left out; the others are all there is.
      fold: which fold is the test set (emosuperb5, speaker_kfold, speaker_sentence).
      n_folds: number of folds (speaker_kfold, speaker_sentence).
      **settings: the protocol's own, else its defaults: seed of the shuffle (random_file,
        speaker_kfold, speaker_sentence), test_fraction of all clips and val_fraction of the others
        (random_file), column of the corpus's table (column).

    Raises:
      UserError: the protocol or fold is unknown, the corpus has too few speakers or sentences, or a
        set is empty or lacks a class.
    """
    protocol = _protocol(name)
    if inside:
        rows = _not_tested(inside, clips, n_folds=n_folds, **settings)
        inner = make(name, clips.take(rows), fold=fold, n_folds=n_folds, **settings)
        parts = {part: rows[numbers] for part, numbers in inner.parts().items()}
        return dataclasses.replace(inner, protocol=f"{name} inside {inside}", **parts)
    if len(set(clips.labels)) < 2:
        raise UserError("the corpus has a single class, so there is nothing to learn; add another.")
    n_speakers = len(set(clips.speakers))
    if protocol.unseen_speakers and n_speakers < 3:
        raise UserError(
            f"split.name={name} needs different speakers for training, validation and test, but "
            f"the corpus has {n_speakers}; use --config.split.name=random_file."
        )
    _check_fold(name, fold, protocol.n_folds or n_folds)
    part_N = np.array(protocol.assign(clips, fold=fold, n_folds=n_folds, **settings))
    unseen_speakers, unseen_sentences = protocol.unseen_speakers, protocol.unseen_sentences
    if name == "column":  # what the user's split does, the audit then checks
        unseen_speakers = _share_none(part_N, clips.speakers)
        unseen_sentences = all(clips.sentences) and _share_none(part_N, clips.sentences)
    split = Split(
        name,
        unseen_speakers,
        *(np.flatnonzero(part_N == part) for part in ("train", "val", "test")),
        unseen_sentences,
    )
    _check_classes(split, clips)
    return split


def _not_tested(name: str, clips: Clips, **settings: float | str) -> np.ndarray:
    """Return the rows that a protocol's first fold trains or validates on."""
    try:
        part_N = np.array(_protocol(name).assign(clips, fold=0, **settings))
    except UserError as error:  # its messages are those of a protocol that is used by itself
        raise UserError(str(error).replace("split.name", "split.inside")) from error
    return np.flatnonzero((part_N == "train") | (part_N == "val"))


def folds(name: str, fold: str | int, n_folds: int) -> tuple[int, ...]:
    """Return the numbers of the folds that `split.fold`, a number or "all", selects.

    Raises:
      UserError: the protocol or fold is unknown.
    """
    protocol = _protocol(name)
    if protocol.n_folds is None and n_folds < 3:
        raise UserError(
            f"split.n_folds={n_folds} must be 3 or more: each set takes at least one fold."
        )
    n = protocol.n_folds or n_folds
    if fold == "all":
        return tuple(range(n))
    try:
        number = int(str(fold))  # int(1.5) would be 1
    except ValueError:
        raise UserError(f"split.fold={fold!r} must be the number of a fold, or all.") from None
    _check_fold(name, number, n)
    return (number,)


# The set of each clip: "train", "val", "test", or None for a clip that is left out.
Parts = list[str | None]


def _random_file(
    clips: Clips, *, seed: int = 0, test_fraction: float = 0.3, val_fraction: float = 0.05, **_: int
) -> Parts:
    """The reference report's: a seeded shuffle of files, with identical audio in one set."""
    n = len(clips.ids)
    n_test = math.ceil(round(test_fraction * n, 6))
    n_val = math.ceil(round(val_fraction * (n - n_test), 6))
    room = {"test": n_test, "val": n_val, "train": n - n_test - n_val}
    groups: dict[str, list[int]] = {}
    for row, checksum in enumerate(clips.sha256 or clips.ids):
        groups.setdefault(checksum, []).append(row)
    shuffled = list(groups.values())
    np.random.default_rng(seed).shuffle(shuffled)
    parts: Parts = [None] * n
    for group in shuffled:
        # The first set with room for the whole group; single clips then fill the gaps.
        part = next((part for part in room if len(group) <= room[part]), "train")
        room[part] -= len(group)
        for row in group:
            parts[row] = part
    return parts


def _actors(
    name: str, folds: Sequence[Sequence[str]], without: Collection[str] = ()
) -> Callable[..., Parts]:
    """Return a published protocol of CREMA-D: its folds of actors, and clips that it leaves out."""

    def assign(clips: Clips, *, fold: int, **_: float) -> Parts:
        others = sorted(set(clips.speakers) - set(crema_d.ACTORS))
        if others:
            raise UserError(
                f"split.name={name} is defined for CREMA-D's actors, and {others[0]!r} is not one; "
                "use --config.split.name=speaker_kfold."
            )
        parts = _hold_out(clips, folds, fold)
        return [None if c in without else part for c, part in zip(clips.ids, parts, strict=True)]

    return assign


def _speaker_kfold(clips: Clips, *, fold: int, n_folds: int, seed: int = 0, **_: float) -> Parts:
    """Any corpus: shuffled speakers, dealt to folds."""
    speakers = sorted(set(clips.speakers))
    if not 3 <= n_folds <= len(speakers):
        raise UserError(
            f"split.n_folds={n_folds} must lie between 3 and the number of speakers, "
            f"{len(speakers)}."
        )
    np.random.default_rng(seed).shuffle(speakers)
    return _hold_out(clips, [speakers[i::n_folds] for i in range(n_folds)], fold)


def _hold_out(clips: Clips, speaker_folds: Sequence[Sequence[str]], fold: int) -> Parts:
    """Test the speakers of one fold and validate on those of the next, cyclically."""
    part_of = dict.fromkeys(speaker_folds[(fold + 1) % len(speaker_folds)], "val")
    part_of |= dict.fromkeys(speaker_folds[fold], "test")
    return [part_of.get(speaker, "train") for speaker in clips.speakers]


def _speaker_sentence(clips: Clips, *, fold: int, seed: int = 0, **settings: float) -> Parts:
    """Split speakers and sentences; keep the clips whose speaker and sentence agree on the set.

    A third of the sentences is for testing and a sixth for validation, at least one each. The most
    frequent sentence is always for training: CREMA-D's IEO is a fifth of all clips and the only one
    with intensity levels, so holding it out would change the task and leave little to learn from.
    The others lie on a ring, where each fold starts where the previous fold's test sentences end.

    Raises:
      UserError: a clip has no sentence, or the corpus has fewer than three.
    """
    unknown = [clip for clip, s in zip(clips.ids, clips.sentences, strict=False) if not s]
    if not clips.sentences or unknown:
        raise UserError(
            "split.name=speaker_sentence needs the sentence of each clip, and the corpus lacks "
            f"that of {[*unknown, *clips.ids][0]}; fill the column `sentence`, or use "
            "--config.split.name=speaker_kfold."
        )
    count = Counter(clips.sentences)
    if len(count) < 3:
        raise UserError(
            "split.name=speaker_sentence needs different sentences for training, validation and "
            f"test, but the corpus has {len(count)}; use --config.split.name=speaker_kfold."
        )
    ring = sorted(count)
    ring.remove(max(ring, key=count.__getitem__))
    np.random.default_rng(seed).shuffle(ring)
    n_test, n_val = (max(1, len(count) // share) for share in (3, 6))
    ring = np.roll(ring, -fold * n_test).tolist()
    part_of = dict.fromkeys(ring[:n_test], "test")
    part_of |= dict.fromkeys(ring[n_test : n_test + n_val], "val")
    by_speaker = _speaker_kfold(clips, fold=fold, seed=seed, **settings)
    by_sentence = [part_of.get(sentence, "train") for sentence in clips.sentences]
    return [a if a == b else None for a, b in zip(by_speaker, by_sentence, strict=True)]


_PART_OF = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "devel", "development"), "val"),
    **dict.fromkeys(("test", "testing", "tst", "eval", "evaluation"), "test"),
}


def _column(clips: Clips, *, column: str = "split", **_: float) -> Parts:
    """The user's own: a column of the table names the set of each clip."""
    names = [name for name in clips.attributes if name.casefold() == column.strip().casefold()]
    if len(names) != 1:
        raise UserError(
            f"split.name=column needs a column {column!r} in the corpus's table, which has "
            f"{', '.join(clips.attributes) or 'none that is free'}; set --config.split.column."
        )
    values = clips.attributes[names[0]]
    for clip, value in zip(clips.ids, values, strict=True):
        if value.strip().casefold() not in _PART_OF:
            raise UserError(
                f"{clip} has {value[:80]!r} in the column {names[0]}; use train, dev or test, or "
                "remove the row."
            )
    return [_PART_OF[value.strip().casefold()] for value in values]


def _share_none(part_N: np.ndarray, values: Sequence[str]) -> bool:
    """Return whether no value is in two sets."""
    return bool(values) and len({*zip(part_N.tolist(), values, strict=True)}) == len({*values})


class Protocol(NamedTuple):
    """An entry of PROTOCOLS; the promises are as in Split."""

    assign: Callable[..., Parts]  # takes the clips and, by name, the settings of `make`
    n_folds: int | None = None  # None if split.n_folds sets it
    unseen_speakers: bool = True
    unseen_sentences: bool = False


PROTOCOLS = {
    "tfds": Protocol(
        _actors("tfds", (crema_d.TFDS_TEST, crema_d.TFDS_VAL), crema_d.WITHOUT), n_folds=1
    ),
    "evar": Protocol(
        _actors("evar", (crema_d.EVAR_TEST, crema_d.EVAR_VAL), crema_d.WITHOUT), n_folds=1
    ),
    "random_file": Protocol(_random_file, n_folds=1, unseen_speakers=False),
    "emosuperb5": Protocol(_actors("emosuperb5", crema_d.EMOSUPERB5), n_folds=5),
    "speaker_kfold": Protocol(_speaker_kfold),
    "speaker_sentence": Protocol(_speaker_sentence, unseen_sentences=True),
    "column": Protocol(_column, n_folds=1, unseen_speakers=False),  # see `make`
}


def _protocol(name: str) -> Protocol:
    if name not in PROTOCOLS:
        raise UserError(f"split.name={name!r} is unknown; use one of {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]


def _check_fold(name: str, fold: int, n: int) -> None:
    if n == 1 and fold != 0:
        raise UserError(f"split.name={name} has no folds, so split.fold={fold} must be 0.")
    if not 0 <= fold < n:
        raise UserError(f"split.fold={fold} must lie between 0 and {n - 1}.")


def _check_classes(split: Split, clips: Clips) -> None:
    for part, rows in split.parts().items():
        present = {clips.labels[row] for row in rows}
        missing = [name for i, name in enumerate(clips.label_names) if i not in present]
        # Without checksums the shuffle is not that of the training: only sizes are certain.
        if missing and (clips.sha256 or not present):
            raise UserError(
                f"split.name={split.protocol} leaves the {part} set without "
                f"{', '.join(missing) if present else 'a single clip'}; the corpus has "
                f"{len(clips.ids)} clips of {len(set(clips.speakers))} speakers: use another fold "
                "or protocol, name the classes that it has in corpus.emotions, or add clips."
            )
