"""Find audio files by name, folder, pattern or list, and read them ahead."""

import dataclasses
import glob
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from ser_jax.audio.waveform import SUFFIXES
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
      note: a remark on a file that was read.
    """

    path: str
    error: str = ""
    note: str = ""


def find(arguments: Iterable[str], lines: Iterable[str] = ()) -> list[AudioFile]:
    """Return the files that the arguments name, in the same order; repeated names are repeated.

    A folder stands for the audio files below it, a pattern for those that match, in both cases
    sorted, not hidden, and with one of waveform.SUFFIXES. Any other argument is taken as a file.

    Args:
      arguments: files, folders, patterns such as "clips/*.wav", or STDIN.
      lines: the lines that STDIN stands for, one file or folder per line.
    """
    files = []
    for argument in arguments:
        if argument == STDIN:
            for line in lines:
                name = line.rstrip("\r\n")
                files += _file_or_folder(name) if name else []
        elif glob.has_magic(argument) and not os.path.lexists(argument):
            files += _matching(argument)
        else:
            files += _file_or_folder(argument)
    return files


def _file_or_folder(name: str) -> list[AudioFile]:
    return _in_folder(name) if os.path.isdir(name) else [AudioFile(name)]


def _in_folder(folder: str) -> list[AudioFile]:
    errors: list[AudioFile] = []

    def note_unreadable(error: OSError) -> None:
        message = f"{error.filename} cannot be listed ({error.strerror})."
        errors.append(AudioFile(error.filename, message))

    paths = below(folder, note_unreadable)
    if not paths and not errors:
        endings = " ".join(sorted(SUFFIXES))
        errors = [AudioFile(folder, f"{folder} holds no audio file; known endings: {endings}.")]
    return [AudioFile(path) for path in paths] + errors


def below(folder: str, on_error: Callable[[OSError], None] | None = None) -> list[str]:
    """Return the audio files below a folder, sorted, without hidden files and folders.

    Symbolic links are followed; a folder that is reached twice is listed once.

    Args:
      folder: the folder to walk.
      on_error: called for each folder that cannot be listed.
    """
    paths, seen = [], set()
    for parent, folders, names in os.walk(folder, onerror=on_error, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:  # a link to a parent would never end
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths += [os.path.join(parent, name) for name in names if _is_audio(name)]
    return sorted(paths, key=lambda path: path.split(os.sep))


def _matching(pattern: str) -> list[AudioFile]:
    paths = {}
    for path in sorted(glob.glob(pattern, recursive=True)):
        if _is_audio(os.path.basename(path)) and os.path.isfile(path):
            # "**" follows a link to a parent again and again.
            paths.setdefault(os.path.realpath(path) if "**" in pattern else path, path)
    if not paths:
        return [AudioFile(pattern, f"{pattern} matches no audio file; check the pattern.")]
    return [AudioFile(path) for path in paths.values()]


def _is_audio(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES


def load_ahead(
    files: Sequence[AudioFile], load: Callable[[Path], Loaded]
) -> Iterator[tuple[AudioFile, Loaded | None]]:
    """Yield each file with the result of `load`, in order, read ahead by threads within limits.

    Where a file cannot be loaded the result is None and its `error` says why.
    """

    def try_to_load(file: AudioFile) -> tuple[AudioFile, Loaded | None]:
        if file.error:
            return file, None
        try:
            loaded, missing = load(Path(file.path)), missing_bytes(Path(file.path))
            note = f"cut short: {missing:,} bytes are missing" if missing else ""
            return dataclasses.replace(file, note=note), loaded
        except UserError as error:
            return dataclasses.replace(file, error=str(error)), None
        except UnicodeEncodeError:
            reason = "its name is not valid UTF-8, which the decoder needs; rename it"
        except Exception as error:  # one bad file must not stop the others
            reason = f"{type(error).__name__}: {error}"
        return dataclasses.replace(file, error=f"{file.path} cannot be read ({reason})."), None

    def cost(file: AudioFile) -> float:
        return max(_size(file.path), _AHEAD_BYTES / _AHEAD)

    return map_ahead(try_to_load, files, ahead=_AHEAD_BYTES, n_threads=_THREADS, cost=cost)


def _size(path: str) -> int:
    """Estimate the bytes of a decoded file."""
    try:
        return os.stat(path).st_size * _GROWTH.get(os.path.splitext(path)[1].lower(), 1)
    except (OSError, ValueError):
        return 0


def missing_bytes(path: Path) -> int:
    """Return how many bytes a WAV file lacks by its RIFF header; libsndfile reads it silently."""
    with path.open("rb") as file:
        head = file.read(12)
    if head[:4] != b"RIFF" or head[4:8] == b"\xff" * 4:  # all ones: streamed, length unknown
        return 0
    return max(int.from_bytes(head[4:8], "little") + 8 - path.stat().st_size, 0)


def lines_of_stdin() -> Iterator[str]:
    """Yield the lines of standard input; file names may be any bytes."""
    sys.stdin.reconfigure(errors="surrogateescape")
    yield from sys.stdin
