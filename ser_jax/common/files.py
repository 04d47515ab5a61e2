"""Files that are never half written, checksums, and folders for one process at a time."""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ser_jax.common.errors import UserError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; renames it into place if the block succeeds.

    A link stays, and what it leads to is replaced.

    Raises:
      UserError: the folder cannot be written, or what is there is no file.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise UserError(f"cannot write {path}: it is there and is no file; choose another name.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.stem}.", suffix=f".tmp{path.suffix}"
        )
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror}); choose another folder or change its rights."
        ) from error
    os.close(handle)
    os.chmod(name, 0o644)
    temporary = Path(name)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes `text` as UTF-8, all of it or nothing."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, all of it or nothing. NaN is an error."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path, remedy: str = "") -> Any:
    """A JSON file's value.

    Args:
      path: of the file.
      remedy: what to do if it cannot be read.

    Raises:
      UserError: it is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        remedy = remedy or "make it first, or check the folder"
        raise UserError(f"{path} does not exist; {remedy}.") from None
    except (OSError, ValueError) as error:
        remedy = remedy or "delete it and run again"
        raise UserError(f"{path} cannot be read ({error}); {remedy}.") from error


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Makes a folder if it is missing and holds it for one process at a time; others wait.

    The lock is on the folder itself, leaves no file behind and ends with its process.

    Raises:
      UserError: there can be no such folder.
    """
    import fcntl  # not on every system, and few want a lock

    with contextlib.ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            raise UserError(
                f"cannot use {folder} as a folder ({error.strerror}); choose another one or change "
                "its rights."
            ) from error
        yield


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
