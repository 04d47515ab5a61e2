"""The audit before every training: no test or validation data may be learnt from."""

import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ser_jax.audio.waveform import SLACK, Segment
from ser_jax.common.errors import UserError
from ser_jax.data.clips import Clips
from ser_jax.data.splits import Split


class LeakageError(UserError):
    """Training would see data that it is evaluated on."""


def audit(split: Split, clips: Clips, *, trained_on: np.ndarray, normalised_on: np.ndarray) -> None:
    """Refuse a training that would see data that it is evaluated on.

    Args:
      trained_on: clip row of each training example, augmented views included.
      normalised_on: clip row of each example that the normalisation is fitted on.

    Raises:
      LeakageError: names the first clip, audio, speaker or sentence at fault.
    """
    parts = split.parts()
    remedy = "Remove one copy, or set --config.corpus.drop_defects."
    _check_disjoint(parts, clips.ids, "the clip", remedy)
    _check_overlaps(parts, clips.ids)
    _check_disjoint(parts, clips.sha256, "the audio with SHA-256", remedy)
    remedy = f"Correct the protocol {split.protocol}, which promises otherwise."
    if split.unseen_speakers:
        _check_disjoint(parts, clips.speakers, "the speaker", remedy)
    if split.unseen_sentences:
        _check_disjoint(parts, clips.sentences, "the sentence", remedy)
    train = set(split.train.tolist())
    for rows, use in (
        (trained_on, "a view of it is trained on"),
        (normalised_on, "the normalisation is fitted on it"),
    ):
        outside = sorted(set(np.asarray(rows).tolist()) - train)
        if outside:
            raise LeakageError(
                f"leakage: {clips.ids[outside[0]]} is not a training clip, yet {use}; nothing was "
                "trained."
            )


@dataclasses.dataclass(frozen=True)
class Heard:
    """What another training has heard, in its training or validation part.

    Attributes:
      clips: SHA-256 of their samples.
      speakers, sentences: as `alias` names them.
    """

    clips: frozenset[str] = frozenset()
    speakers: frozenset[str] = frozenset()
    sentences: frozenset[str] = frozenset()

    def __or__(self, other: "Heard") -> "Heard":
        return Heard(**{name: own | getattr(other, name) for name, own in vars(self).items()})

    def to_json(self) -> dict[str, list[str]]:
        return {name: sorted(values) for name, values in vars(self).items()}

    @classmethod
    def from_json(cls, lists: Mapping[str, Iterable[str]]) -> "Heard":
        return cls(**{name: frozenset(values) for name, values in lists.items()})


def alias(corpus: str, name: str) -> str:
    """Return what stands for a speaker or sentence of a corpus, without giving its name away."""
    return hashlib.sha256(f"{corpus}\n{name}".encode()).hexdigest()[:16]


def audit_source(split: Split, clips: Clips, corpus: str, heard: Heard, source: Any) -> None:
    """Refuse to learn from another training that has heard what this one is tested on.

    Speakers and sentences count where the protocol promises them as unseen. Besides those that are
    recorded, the clips' own table knows them of the clips that both trainings share.

    Args:
      split, clips, corpus: of this training.
      heard: by the other one.
      source: the other one, for the message.

    Raises:
      LeakageError: names the first clip, speaker or sentence at fault.
    """
    for row in split.test:
        if clips.sha256[row] in heard.clips:
            raise LeakageError(
                f"leakage: {source}, or what it learnt from, was trained on {clips.ids[row]}, a "
                "test clip of this run; use the same split."
            )
    shared = [row for row, sha256 in enumerate(clips.sha256) if sha256 in heard.clips]
    for noun, promised, names, known in (
        ("speaker", split.unseen_speakers, clips.speakers, heard.speakers),
        ("sentence", split.unseen_sentences, clips.sentences, heard.sentences),
    ):
        if not promised:
            continue
        also = {names[row] for row in shared}
        for name in dict.fromkeys(names[row] for row in split.test):
            if name in also or alias(corpus, name) in known:
                raise LeakageError(
                    f"leakage: {source}, or what it learnt from, was trained on the {noun} {name}, "
                    f"which split.name={split.protocol} promises as unseen; use the same split."
                )


def _check_overlaps(parts: Mapping[str, np.ndarray], ids: Sequence[str]) -> None:
    """Refuse segments of one file (see Segment) that overlap and are in different parts."""
    by_file: dict[str, list[tuple[Segment, str, str]]] = defaultdict(list)
    for part, rows in parts.items():
        for row in rows:
            file, segment = Segment.split_id(ids[row])
            by_file[file].append((segment, part, ids[row]))
    for segments in by_file.values():
        last: dict[str, tuple[float, str]] = {}  # part: where its segments so far end, and which
        for segment, part, clip in sorted(segments):
            for other, (end, other_clip) in last.items():
                if other != part and end > segment.start + SLACK:
                    raise LeakageError(
                        f"leakage: {other_clip} is in {other}, and {clip}, which overlaps it, in "
                        f"{part}; nothing was trained. Use a protocol that keeps them together."
                    )
            last[part] = max(last.get(part, (0.0, "")), (segment.end, clip))


def _check_disjoint(
    parts: Mapping[str, np.ndarray], values: Sequence[str], noun: str, remedy: str
) -> None:
    part_of: dict[str, str] = {}
    for part, rows in parts.items():
        for row in rows:
            other = part_of.setdefault(values[row], part)
            if other != part:
                raise LeakageError(
                    f"leakage: {noun} {values[row]} is in {other} and in {part}; nothing was "
                    f"trained. {remedy}"
                )
