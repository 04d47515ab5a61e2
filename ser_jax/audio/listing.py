"""Audio files and segments of them, listed in a table of the user's."""

import math
import os
import unicodedata
from pathlib import Path, PureWindowsPath

from ser_jax.audio.files import AudioFile
from ser_jax.audio.waveform import WHOLE, Segment
from ser_jax.common.errors import UserError
from ser_jax.common.tables import Row, is_missing, read_rows

SEGMENT = ("start", "end")  # columns, seconds
PATH_SYNONYMS = "file filename file_name filepath file_path audio audio_path audio_file wav".split()
_LONGEST_NAME = 255  # bytes


def audio_in(table: Path) -> list[AudioFile]:
    """Return the file or segment of each row of a table with the column path; see `read_rows`.

    Columns start and end, in seconds, name segments. Paths are relative to the table's folder.

    Raises:
      UserError: it is not such a table, or a row is wrong.
    """
    return [
        AudioFile(
            os.fspath(on_disk(table.parent, path_of(table, row))),
            segment=segment_of(table, row),
            row=f"{table}, line {row.line}",
        )
        for row in read_rows(table, ("path",), {"path": PATH_SYNONYMS}, SEGMENT)
    ]


def segment_of(table: Path, row: Row) -> Segment:
    """Return the segment that a row's columns start and end give; an empty end is the file's.

    Raises:
      UserError: they are not seconds, or not in order.
    """
    seconds = []
    for name, default in zip(SEGMENT, WHOLE, strict=True):
        text = row.values.get(name, "")
        try:
            seconds.append(default if is_missing(text) else float(text))
        except ValueError:
            seconds.append(math.nan)
    segment = Segment(*seconds)
    if not 0 <= segment.start < segment.end:
        raise UserError(
            f"{table}, line {row.line}: start and end are "
            f"{' and '.join(repr(row.values.get(name, '')) for name in SEGMENT)}; give seconds, "
            "start before end, such as 0.5 and 1.75; an empty end is the end of the file."
        )
    return segment


def path_of(table: Path, row: Row, *, inside: bool = False) -> Path:
    """Return a row's path, relative to the table's folder unless it is absolute.

    Backslashes are separators unless a file has them in its name.

    Args:
      table: the table.
      row: of the table, with a column path.
      inside: refuse what is not below the table's folder, and return a relative path.

    Raises:
      UserError: the path is empty, too long for a file system, or outside.
    """
    text = row.values["path"]
    if not text:
        raise UserError(f"{table}, line {row.line}: path is empty; correct the row.")
    path, is_absolute = Path(os.path.normpath(text)), False
    if "\\" in text and not os.path.lexists(table.parent / text):
        windows = PureWindowsPath(text)
        path, is_absolute = Path(os.path.normpath(windows.as_posix())), bool(windows.anchor)
    folder = os.path.abspath(table.parent)
    if inside and path.is_relative_to(folder):  # as a program may write it
        path = path.relative_to(folder)
    is_absolute = is_absolute or path.is_absolute()
    if inside and (is_absolute or path.parts[:1] in ((), ("..",))):
        raise UserError(
            f"{table}, line {row.line}: {text} leaves the table's folder; use a path inside it."
        )
    if any(len(os.fsencode(part)) > _LONGEST_NAME for part in path.parts):
        raise UserError(f"{table}, line {row.line}: {text[:80]!r}… is too long for a file name.")
    return path


def on_disk(folder: Path, path: Path) -> Path:
    """Return the file in a folder, whichever Unicode form its name has on disk."""
    if str(path).isascii() or os.path.lexists(folder / path):
        return folder / path
    for part in path.parts:
        names = os.listdir(folder) if folder.is_dir() else []
        folder /= next((n for n in names if unicodedata.normalize("NFC", n) == part), part)
    return folder
