"""Utterances, the corpus they form, and the record that describes a corpus to the project."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

from data_prep.corpora.release import Release
from ser_jax.audio.waveform import WHOLE, Segment


@dataclasses.dataclass(frozen=True)
class Utterance:
    """One labelled clip."""

    id: str  # unique within the corpus and stable; splits and augmentation depend on it
    path: Path  # the audio file
    emotion: str  # one of Corpus.labels
    speaker: str  # identifies the speaker within the corpus
    # Further metadata (sentence, level, sex, age, …), with the same keys throughout a corpus.
    attributes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    segment: Segment = WHOLE  # of the file
    place: str = ""  # of its row in the user's table, for messages; "" if there is none
    votes: tuple[int, ...] = ()  # listeners who chose each of Corpus.labels; () if there are none


@dataclasses.dataclass(frozen=True)
class Corpus:
    """The clips that were read from a folder."""

    name: str  # the key in CORPORA
    title: str  # the name shown in results
    labels: tuple[str, ...]  # class names; a label is an index into them
    utterances: tuple[Utterance, ...]  # sorted by id
    ignored: tuple[Path, ...] = ()  # audio files that are not clips of the corpus
    licence: str = ""  # see CorpusSpec
    # What selected the clips, for records that are used without the audio.
    label_map: tuple[str, ...] = ()  # as in corpora.read
    excluded: tuple[str, ...] = ()  # classes and defective clips that were left out


@dataclasses.dataclass(frozen=True)
class CorpusSpec:
    """Everything the project knows about a corpus."""

    name: str  # the value of corpus.name in a config
    title: str  # the name shown in results
    # (spec, audio folder, folder of the corpus's tables) → Corpus
    reader: Callable[["CorpusSpec", Path, Path], Corpus]
    labels: tuple[str, ...] | None  # class names, sorted; None if the data defines them
    licence: str = ""  # its terms, in full sentences; "" if unknown
    # How to get it: a command or an address, with {root} for the folder; "" if only the user knows.
    source: str = ""
    # Clips published with a defect: id → id of the clip with the same bytes, or "" if it is silent.
    defects: Mapping[str, str] = dataclasses.field(default_factory=dict)
    clip_id: Callable[[str], str] = str  # file name without extension → clip id
    release: Release | None = None  # the published files; None if they have no checksums
