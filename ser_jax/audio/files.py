"""Files, folders, patterns and lists → audio files in order, and their waveforms read ahead."""

import dataclasses
import glob
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from ser_jax.audio import waveform
from ser_jax.common.concurrency import map_ahead
from ser_jax.common.errors import UserError

STDIN = "-"
_THREADS = 4
_AHEAD = 128  # files
_AHEAD_BYTES = 256_000_000  # of what they are decoded to, about
_GROWTH = {".ogg": 32, ".oga": 32, ".opus": 32, ".mp3": 32}  # of speech at 16 kbit/s; others: 1

Loaded = TypeVar("Loaded")


@dataclasses.dataclass(frozen=True)
class Found:
    """A file to read, or what is wrong with one argument.

    Attributes:
      path: as it was given, or below the folder that was.
      error: a sentence; "" for a file.
      note: what to know of a file that could be read.
    """

    path: str
    error: str = ""
    note: str = ""


def find(arguments: Iterable[str], lines: Iterable[str] = ()) -> list[Found]:
    """What the arguments name, in their order; what is named twice comes twice.

    A folder stands for the audio files below it, a pattern for those it matches, both by
    audio.SUFFIXES, sorted, hidden ones passed over. Any other name is taken for a file, whatever
    its ending.

    Args:
      arguments: files, folders, patterns such as "clips/*.wav", or STDIN.
      lines: what STDIN stands for: a file or a folder a line.
    """
    found = []
    for argument in arguments:
        if argument == STDIN:
            for line in lines:
                name = line.rstrip("\r\n")
                found += _named(name) if name else []
        elif glob.has_magic(argument) and not os.path.lexists(argument):
            found += _matching(argument)
        else:
            found += _named(argument)
    return found


def _named(name: str) -> list[Found]:
    return _below(name) if os.path.isdir(name) else [Found(name)]


def _below(folder: str) -> list[Found]:
    errors: list[Found] = []

    def unreadable(error: OSError) -> None:
        errors.append(
            Found(error.filename, f"{error.filename} cannot be listed ({error.strerror}).")
        )

    paths = below(folder, unreadable)
    if not paths and not errors:
        errors = [Found(folder, f"{folder} holds no audio file; known endings: {_endings()}.")]
    return [Found(path) for path in paths] + errors


def below(folder: str, on_error: Callable[[OSError], None] | None = None) -> list[str]:
    """The audio files below a folder, sorted; hidden files and folders are passed over.

    Links are followed, and a folder that is reached twice is looked at once.

    Args:
      folder: where to look.
      on_error: is told what cannot be listed.
    """
    paths, seen = [], set()
    for parent, folders, names in os.walk(folder, onerror=on_error, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:  # a link may lead back to where it lies
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths += [os.path.join(parent, name) for name in names if _is_audio(name)]
    return sorted(paths, key=lambda path: path.split(os.sep))


def _matching(pattern: str) -> list[Found]:
    paths = {}
    for path in sorted(glob.glob(pattern, recursive=True)):
        if _is_audio(os.path.basename(path)) and os.path.isfile(path):
            # "**" goes round where a link leads back.
            paths.setdefault(os.path.realpath(path) if "**" in pattern else path, path)
    if not paths:
        return [Found(pattern, f"{pattern} matches no audio file; check the pattern.")]
    return [Found(path) for path in paths.values()]


def _is_audio(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in waveform.SUFFIXES


def _endings() -> str:
    return " ".join(sorted(waveform.SUFFIXES))


def load_ahead(
    found: Sequence[Found], load: Callable[[Path], Loaded]
) -> Iterator[tuple[Found, Loaded | None]]:
    """Each file with what `load` made of it, in order; some threads read ahead, within limits.

    What cannot be loaded is None, and its `error` says why.
    """

    def attempt(one: Found) -> tuple[Found, Loaded | None]:
        if one.error:
            return one, None
        try:
            loaded, missing = load(Path(one.path)), missing_bytes(Path(one.path))
            note = f"cut short: {missing:,} bytes are missing" if missing else ""
            return dataclasses.replace(one, note=note), loaded
        except UserError as error:
            return dataclasses.replace(one, error=str(error)), None
        except UnicodeEncodeError:
            reason = "its name is not UTF-8, which the decoder wants; rename it"
        except Exception as error:  # whatever a decoder raises, the other files are to be read
            reason = f"{type(error).__name__}: {error}"
        return dataclasses.replace(one, error=f"{one.path} cannot be read ({reason})."), None

    def cost(one: Found) -> float:
        return max(_size(one.path), _AHEAD_BYTES / _AHEAD)

    return map_ahead(attempt, found, ahead=_AHEAD_BYTES, n_threads=_THREADS, cost=cost)


def _size(path: str) -> int:
    """Roughly the bytes that a file is decoded to."""
    try:
        return os.stat(path).st_size * _GROWTH.get(os.path.splitext(path)[1].lower(), 1)
    except (OSError, ValueError):
        return 0


def missing_bytes(path: Path) -> int:
    """How many bytes a WAV lacks by its RIFF header; libsndfile would read what there is."""
    with path.open("rb") as file:
        head = file.read(12)
    if head[:4] != b"RIFF" or head[4:8] == b"\xff" * 4:  # all ones: the length was never known
        return 0
    return max(int.from_bytes(head[4:8], "little") + 8 - path.stat().st_size, 0)


def lines_of_stdin() -> Iterator[str]:
    """The lines of standard input, read when they are asked for; names may be any bytes."""
    sys.stdin.reconfigure(errors="surrogateescape")
    yield from sys.stdin
