"""Utterances, the corpus they form, and the record that describes a corpus to the project."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

from data_prep.corpora.release import Release


@dataclasses.dataclass(frozen=True)
class Utterance:
    """One labelled clip.

    Attributes:
      id: unique within the corpus and stable; splits and augmentation depend on it.
      path: the audio file.
      emotion: one of Corpus.labels.
      speaker: identifies the speaker within the corpus.
      attributes: further metadata as text (sentence, level, sex, age, …); all utterances of a
        corpus have the same keys.
      votes: the number of listeners who chose each of Corpus.labels; () if there are none.
    """

    id: str
    path: Path
    emotion: str
    speaker: str
    attributes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    votes: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Corpus:
    """The clips that were read from a folder.

    Attributes:
      name: the key in CORPORA.
      title: the name shown in results.
      labels: class names; a label is an index into them.
      utterances: sorted by id.
      ignored: audio files that are not clips of the corpus.
      licence: see CorpusSpec.
    """

    name: str
    title: str
    labels: tuple[str, ...]
    utterances: tuple[Utterance, ...]
    ignored: tuple[Path, ...] = ()
    licence: str = ""


@dataclasses.dataclass(frozen=True)
class CorpusSpec:
    """Everything the project knows about a corpus.

    Attributes:
      name: the value of corpus.name in a config.
      title: the name shown in results.
      reader: (spec, audio folder, folder of the corpus's tables) → Corpus.
      labels: class names, sorted; None if the data defines them.
      licence: its terms, in full sentences; "" if unknown.
      source: how to get it, as a command or an address in which {root} stands for the folder;
        "" if only the user knows.
      defects: clips published with a defect: id → id of the clip that has the same bytes, or ""
        if the clip is silent.
      clip_id: file name without extension → clip id.
      release: the published files; None if there are no checksums for them.
    """

    name: str
    title: str
    reader: Callable[["CorpusSpec", Path, Path], Corpus]
    labels: tuple[str, ...] | None
    licence: str = ""
    source: str = ""
    defects: Mapping[str, str] = dataclasses.field(default_factory=dict)
    clip_id: Callable[[str], str] = str
    release: Release | None = None
