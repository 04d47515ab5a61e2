"""Atomic writes of files and folders, checksums, and folders locked by one process.

What is being written has a hidden name beside the final one, and is locked. A killed process leaves
it, and the next one that writes the same takes it over, since it is not locked any more.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ser_jax.common.errors import UserError

_UNFINISHED = "ser_jax.tmp"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it into place if the block succeeds.

    A symbolic link is kept and its target replaced.

    Raises:
      UserError: the folder cannot be written, or `path` exists and is not a file.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise UserError(f"cannot write {path}: it exists and is not a file; choose another name.")
    with contextlib.ExitStack() as stack:
        with _unwritable(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.stem}.{_UNFINISHED}{path.suffix}")
            if not _take(temporary, lambda path: path.touch(exist_ok=False), stack):
                handle, name = tempfile.mkstemp(
                    dir=path.parent, prefix=f".{path.stem}.", suffix=f".tmp{path.suffix}"
                )
                os.close(handle)
                temporary = Path(name)
            os.chmod(temporary, 0o644)
        try:
            with explain_full_disk(path):
                yield temporary
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def replacing_folder(path: Path, is_own: Callable[[Path], bool]) -> Iterator[Path]:
    """Yield an empty folder beside `path`; put it in the place of `path` if the block succeeds.

    Until then the old folder is left untouched. A symbolic link is kept and its target replaced.

    Args:
      path: the folder, which may not exist yet.
      is_own: whether a file or folder, as a path relative to `path`, may be deleted.

    Raises:
      UserError: `path` is not a folder, contains anything else, or cannot be written.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_dir():
        raise UserError(f"cannot write {path}: it exists and is not a folder; choose another one.")
    for entry in sorted(path.rglob("*")):
        if not is_own(entry.relative_to(path)):
            raise UserError(
                f"cannot replace {path}: {entry} does not belong to it; move it away, or choose "
                "another folder."
            )
    with contextlib.ExitStack() as stack:
        with _unwritable(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.{_UNFINISHED}")
            if not _take(temporary, Path.mkdir, stack):
                temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        new, old = temporary / "new", temporary / "old"
        try:
            if old.exists() and not path.exists():  # it was killed between the two renames below
                old.rename(path)
            for leftover in temporary.iterdir():
                shutil.rmtree(leftover)
            new.mkdir()
            with explain_full_disk(path):
                yield new
            if path.exists():
                path.rename(old)
            try:
                new.rename(path)
            except BaseException:
                if old.exists():
                    old.rename(path)
                raise
        finally:
            shutil.rmtree(temporary)


def _take(path: Path, make: Callable[[Path], None], stack: contextlib.ExitStack) -> bool:
    """Make a file or folder and lock it until the end of the stack, or do so with a leftover.

    Returns:
      Whether it is this process's alone; if not, another one is writing it.
    """
    is_new = True
    try:
        make(path)
    except FileExistsError:
        is_new = False
    with contextlib.ExitStack() as opened:
        try:
            import fcntl

            flags = os.O_RDONLY if path.is_dir() else os.O_RDWR
            handle = os.open(path, flags | os.O_NOFOLLOW)
            opened.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            status = os.fstat(handle)
            if not os.path.samestat(status, os.lstat(path)):
                return False  # the other one has ended meanwhile
        except (BlockingIOError, FileNotFoundError):
            return False
        except (ImportError, OSError):  # not every system, and not every file system, has locks
            return is_new
        if stat.S_ISREG(status.st_mode):
            os.truncate(handle, 0)
        stack.push(opened.pop_all())
    return True


@contextlib.contextmanager
def _unwritable(path: Path) -> Iterator[None]:
    """Turn an OSError into a UserError that names `path`."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write {path} ({error.strerror}); choose another folder or change its rights."
        ) from error


@contextlib.contextmanager
def explain_full_disk(path: Path) -> Iterator[None]:
    """Turn an error of any library about a full disk or quota into a UserError with `path`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # an OSError of write() names no file; TensorStore has ValueErrors
        reasons = [os.strerror(n) for n in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)]
        reason = next((reason for reason in reasons if reason in str(error)), "")
        if not reason:
            raise
        raise UserError(f"cannot write {path} ({reason}); make room and run it again.") from error


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, completely or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, completely or not at all; NaN is an error."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path, remedy: str = "") -> Any:
    """Return the value of a JSON file; a UserError gives the remedy if it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        remedy = remedy or "create it first, or check the folder"
        raise UserError(f"{path} does not exist; {remedy}.") from None
    except (OSError, ValueError) as error:
        remedy = remedy or "delete it and run again"
        raise UserError(f"{path} cannot be read ({error}); {remedy}.") from error


@contextlib.contextmanager
def locked(folder: Path, *, refusal: str = "") -> Iterator[None]:
    """Hold a folder, created if missing, for one process at a time.

    Other processes wait or, with a `refusal`, raise a UserError of that text. The lock is on the
    folder itself, leaves no file behind and ends with its process.

    Raises:
      UserError: the folder cannot be created or opened, or another process holds it.
    """
    import fcntl  # not available on every system, and rarely needed

    with contextlib.ExitStack() as stack:
        with _unwritable(folder):
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, handle)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if refusal:
                    raise UserError(refusal) from None
                print(f"Waiting for another process that writes to {folder}.", flush=True)
                fcntl.flock(handle, fcntl.LOCK_EX)
            except OSError:
                if not refusal:  # else the lock is a precaution, and some file systems have none
                    raise
        yield


def sha256_of(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
