"""An utterance, a corpus, and what the readers share."""

import csv
import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ser_jax.audio import files
from ser_jax.common.errors import UserError


@dataclasses.dataclass(frozen=True)
class Utterance:
    """One labelled clip.

    Attributes:
      id: unique in its corpus, and stable: splits and augmentation hang on it.
      path: the audio file.
      emotion: one of Corpus.labels.
      speaker: who speaks.
      attributes: whatever else the corpus knows (sentence, level, sex, age, …), as text; the same
        keys for each utterance of a corpus.
      votes: listeners' votes for each of Corpus.labels, or () where nobody was asked.
    """

    id: str
    path: Path
    emotion: str
    speaker: str
    attributes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    votes: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Utterances sorted by id, and the label set they are drawn from.

    Attributes:
      name: the reader's name.
      title: what results call it.
      labels: class names; a label is an index into them.
      utterances: sorted by id.
      ignored: audio files that the reader did not take for utterances.
    """

    name: str
    title: str
    labels: tuple[str, ...]
    utterances: tuple[Utterance, ...]
    ignored: tuple[Path, ...] = ()


def find_audio(root: Path) -> list[Path]:
    """All audio files below `root`, as audio_files.below finds them.

    Raises:
      UserError: there is none, or a folder cannot be listed.
    """
    if root.is_file():
        raise UserError(f"{root} is a file; this reader wants the folder that holds the audio.")

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename} cannot be listed ({error.strerror}); change its rights.")

    found = [Path(path) for path in files.below(os.fspath(root), refuse)]
    if not found:
        raise UserError(f"no audio file was found below {root}; check the folder.")
    return found


def read_by_name(
    name: str,
    title: str,
    emotions: Iterable[str],
    root: Path,
    utterance: Callable[[Path], Utterance | None],
) -> Corpus:
    """A corpus whose labels are in its file names.

    Args:
      name: the reader's.
      title: of the corpus.
      emotions: all that it has.
      root: the folder with the audio.
      utterance: what a file is by its name; None for a file that is no clip of the corpus.

    Raises:
      UserError: no file is a clip, or two are the same.
    """
    found: dict[str, Utterance] = {}
    ignored = []
    # CREMA-D ships damaged MP3s under the names of its WAVs: a lossy copy never wins.
    for path in sorted(find_audio(root), key=lambda p: (p.suffix.lower() == ".mp3", p)):
        this = utterance(path)
        if this is None or (path.suffix.lower() == ".mp3" and this.id in found):
            ignored.append(path)
        elif this.id in found:
            raise UserError(
                f"{this.id} is there twice, as {found[this.id].path} and {path}; remove one."
            )
        else:
            found[this.id] = this
    if not found:
        raise UserError(
            f"no file below {root} is named as {title} names its clips (the first is "
            f"{ignored[0].name}); check --config.corpus.name."
        )
    return Corpus(
        name,
        title,
        tuple(sorted(emotions)),
        tuple(found[i] for i in sorted(found)),
        tuple(ignored),
    )


def emotion_of(codes: Mapping[str, str], code: str, path: Path) -> str:
    """The emotion that a code in a file's name stands for.

    Raises:
      UserError: the corpus has no such code.
    """
    if code not in codes:
        raise UserError(
            f"{path} has the unknown emotion code {code}; the codes are {', '.join(codes)}."
        )
    return codes[code]


def rows_of(table: Path, needed: Iterable[str]) -> list[dict[str, str]]:
    """The rows of a CSV file, by the names in its header.

    Raises:
      UserError: it is not UTF-8, has no row, or lacks a column that is needed.
    """
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except UnicodeDecodeError as error:
        raise UserError(f"{table} is not UTF-8; save it with that encoding.") from error
    if not rows or not rows[0].keys() >= set(needed):
        raise UserError(f"{table} needs a header with {', '.join(needed)}, and at least one row.")
    return rows
