"""Find audio files by name, folder, pattern or list, and read them ahead."""

import dataclasses
import glob
import os
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from ser_jax.audio.decoder import FOREIGN_SUFFIXES, SUFFIXES, conversion
from ser_jax.audio.waveform import WHOLE, Segment
from ser_jax.common.concurrency import map_ahead
from ser_jax.common.errors import UserError

STDIN = "-"
_THREADS = 4
_AHEAD = 128  # files
_AHEAD_BYTES = 256_000_000  # decoded, roughly
# Decoded bytes per byte of the file, for speech at 16 kbit/s; 1 for other formats.
_GROWTH = {".ogg": 32, ".oga": 32, ".opus": 32, ".mp3": 32}

Loaded = TypeVar("Loaded")


@dataclasses.dataclass(frozen=True)
class AudioFile:
    """A file to read, or an argument that names none.

    Attributes:
      path: as given by the user, or below a given folder.
      error: a sentence that says why it cannot be read; "" if it can.
      segment: the part of the file that is meant.
      row: of the table that lists it, such as "clips.csv, line 2", or "".
    """

    path: str
    error: str = ""
    segment: Segment = WHOLE
    row: str = ""


def find(
    arguments: Iterable[str], lines: Iterable[str] = (), foreign: list[str] | None = None
) -> list[AudioFile]:
    """Return the files that the arguments name, in the same order; repeated names are repeated.

    A folder stands for the audio files below it, a pattern for those that match, in both cases
    sorted, not hidden, and with one of decoder.SUFFIXES. Any other argument is taken as a file.

    Args:
      arguments: files, folders, patterns such as "clips/*.wav", or STDIN.
      lines: the lines that STDIN stands for, one file or folder per line.
      foreign: receives the files in folders and patterns that have one of
        decoder.FOREIGN_SUFFIXES; see `foreign_note`.
    """
    files: list[AudioFile] = []
    foreign = [] if foreign is None else foreign
    for argument in arguments:
        if argument == STDIN:
            for line in lines:
                name = line.rstrip("\r\n")
                files += _file_or_folder(name, foreign) if name else []
        elif glob.has_magic(argument) and not os.path.lexists(argument):
            files += _matching(argument, foreign)
        else:
            files += _file_or_folder(argument, foreign)
    return files


def foreign_note(paths: Sequence[str | Path]) -> str:
    """Return a sentence on files that were passed over because of their format; "" for none."""
    if not paths:
        return ""
    suffixes = " ".join(sorted({os.path.splitext(path)[1].lower() for path in paths}))
    return (
        f"{len(paths):,} file{'s' * (len(paths) > 1)} passed over, in a format that is not read "
        f"({suffixes}); {conversion(Path(paths[0]))}"
    )


def _file_or_folder(name: str, foreign: list[str]) -> list[AudioFile]:
    return _in_folder(name, foreign) if os.path.isdir(name) else [AudioFile(name)]


def _in_folder(folder: str, foreign: list[str]) -> list[AudioFile]:
    errors: list[AudioFile] = []

    def note_unreadable(error: OSError) -> None:
        message = f"{error.filename} cannot be listed ({error.strerror})."
        errors.append(AudioFile(error.filename, message))

    n_before = len(foreign)
    paths = below(folder, note_unreadable, foreign)
    if not paths and not errors:
        note = foreign_note(foreign[n_before:])
        endings = note or f"known endings: {' '.join(sorted(SUFFIXES))}."
        errors = [AudioFile(folder, f"{folder} holds no audio file that can be read; {endings}")]
    return [AudioFile(path) for path in paths] + errors


def below(
    folder: str,
    on_error: Callable[[OSError], None] | None = None,
    foreign: list[str] | None = None,
) -> list[str]:
    """Return the audio files below a folder, sorted, without hidden files and folders.

    Symbolic links are followed; a folder that is reached twice is listed once.

    Args:
      folder: the folder to walk.
      on_error: called for each folder that cannot be listed.
      foreign: receives the files with one of decoder.FOREIGN_SUFFIXES.
    """
    paths, seen = [], set()
    foreign = [] if foreign is None else foreign
    for parent, folders, names in os.walk(folder, onerror=on_error, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:  # a link to a parent would never end
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths += [os.path.join(parent, name) for name in names if _is_audio(name)]
        foreign += [os.path.join(parent, n) for n in names if _is_audio(n, FOREIGN_SUFFIXES)]
    return sorted(paths, key=lambda path: path.split(os.sep))


def _matching(pattern: str, foreign: list[str]) -> list[AudioFile]:
    paths = {}
    matches = sorted(glob.glob(pattern, recursive=True))
    not_read = [p for p in matches if _is_audio(os.path.basename(p), FOREIGN_SUFFIXES)]
    foreign += not_read
    for path in matches:
        if _is_audio(os.path.basename(path)) and os.path.isfile(path):
            # "**" follows a link to a parent again and again.
            paths.setdefault(os.path.realpath(path) if "**" in pattern else path, path)
    if not paths:
        advice = foreign_note(not_read) or "check the pattern."
        return [AudioFile(pattern, f"{pattern} matches no audio file that can be read; {advice}")]
    return [AudioFile(path) for path in paths.values()]


def _is_audio(name: str, suffixes: Container[str] = SUFFIXES) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in suffixes


def load_ahead(
    files: Sequence[AudioFile], load: Callable[[Path], Loaded]
) -> Iterator[tuple[AudioFile, Loaded | None]]:
    """Yield each file with the result of `load`, in order, read ahead by threads within limits.

    Where a file cannot be loaded the result is None and its `error` says why.
    """

    def cost(file: AudioFile) -> float:
        return max(_size(file.path), _AHEAD_BYTES / _AHEAD)

    def load_one(file: AudioFile) -> tuple[AudioFile, Loaded | None]:
        return try_to_load(file, lambda: load(Path(file.path)))

    return map_ahead(load_one, files, ahead=_AHEAD_BYTES, n_threads=_THREADS, cost=cost)


def try_to_load(file: AudioFile, load: Callable[[], Loaded]) -> tuple[AudioFile, Loaded | None]:
    """Return a file and the result of `load`; on failure None, and the file says why."""
    if file.error:
        return file, None
    try:
        return file, load()
    except UserError as error:
        reason = str(error)
    except Exception as error:  # one bad file must not stop the others
        reason = f"{file.path} cannot be read ({type(error).__name__}: {error})."
    return dataclasses.replace(file, error=reason), None


def _size(path: str) -> int:
    """Estimate the bytes of a decoded file."""
    try:
        return os.stat(path).st_size * _GROWTH.get(os.path.splitext(path)[1].lower(), 1)
    except (OSError, ValueError):
        return 0


def lines_of_stdin() -> Iterator[str]:
    """Yield the lines of standard input; file names may be any bytes."""
    sys.stdin.reconfigure(errors="surrogateescape")
    yield from sys.stdin
