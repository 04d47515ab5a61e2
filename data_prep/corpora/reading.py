"""Helpers that readers share: finding audio, labels in file names."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from data_prep.corpora.corpus import Corpus, CorpusSpec, Utterance
from ser_jax.audio import files
from ser_jax.common.errors import UserError


def find_audio(root: Path, foreign: list[str] | None = None) -> list[Path]:
    """Return all audio files below `root`; see ser_jax.audio.files.below.

    Args:
      root: a folder.
      foreign: receives audio files in formats that are not read.

    Raises:
      UserError: there are none, or a folder cannot be listed.
    """
    if root.is_file():
        raise UserError(f"{root} is a file; give the folder that holds the audio.")

    def refuse(error: OSError) -> None:
        raise UserError(
            f"{error.filename} cannot be listed ({error.strerror}); change its permissions."
        )

    foreign = [] if foreign is None else foreign
    paths = [Path(path) for path in files.below(os.fspath(root), refuse, foreign)]
    if not paths:
        advice = files.foreign_note(foreign) or "check the folder."
        raise UserError(f"there are no audio files below {root} that can be read; {advice}")
    return paths


def read_by_name(spec: CorpusSpec, root: Path, parse: Callable[[Path], Utterance | None]) -> Corpus:
    """Read a corpus whose labels are in its file names.

    Args:
      spec: of the corpus.
      root: the folder with the audio.
      parse: returns the utterance that a file name denotes, or None if the file is not a clip of
        the corpus.

    Raises:
      UserError: no file is a clip, or two files are the same clip.
    """
    utterances: dict[str, Utterance] = {}
    ignored, foreign, repeated = [], [], []
    paths = find_audio(root, foreign)
    # CREMA-D ships damaged MP3s under the names of its WAVs, so a lossy copy never wins.
    for path in sorted(paths, key=lambda p: (p.suffix.lower() == ".mp3", p)):
        utterance = parse(path)
        if utterance is None or (path.suffix.lower() == ".mp3" and utterance.id in utterances):
            ignored.append(path)
        elif utterance.id in utterances:
            repeated.append((utterances[utterance.id], path))
        else:
            utterances[utterance.id] = utterance
    if repeated:
        raise UserError(_describe_repeated(root, repeated))
    if not utterances:
        raise UserError(
            f"no file below {root} is named like a clip of {spec.title} (the first is "
            f"{ignored[0].name}); check --config.corpus.name."
        )
    by_id = tuple(utterances[clip] for clip in sorted(utterances))
    ignored += map(Path, foreign)
    return Corpus(spec.name, spec.title, spec.labels, by_id, tuple(ignored), spec.licence)


def _describe_repeated(root: Path, repeated: list[tuple[Utterance, Path]]) -> str:
    clip, path = repeated[0]
    parts, others = list(clip.path.parts), list(path.parts)
    while parts and others and parts[-1] == others[-1]:
        parts.pop()
        others.pop()
    folder = Path(*max(parts, others, key=len))
    if len(repeated) == 1 or folder == root:
        return f"two files are clip {clip.id}: {clip.path} and {path}; remove one."
    return (
        f"{len(repeated):,} clips are there twice, such as {clip.path} and {path}. {folder} seems "
        "to be a copy of what is beside it, as in some downloads; move it elsewhere."
    )


def emotion_of(codes: Mapping[str, str], code: str, path: Path) -> str:
    """Return the emotion that a code in a file name stands for.

    Raises:
      UserError: the code is unknown.
    """
    if code not in codes:
        raise UserError(
            f"{path} has the unknown emotion code {code}; the codes are {', '.join(codes)}."
        )
    return codes[code]
