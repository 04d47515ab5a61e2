"""Download CREMA-D, 7,442 WAVs (606 MB) and its tables, and check every byte.

    python -m data_prep.download --root=data/crema_d

Run it again to resume: files with the right checksum are not downloaded again. A file gets its name
only if its SHA-256 is the published one. The corpus is under the Open Database License (ODbL) 1.0,
its contents under the Database Contents License (DbCL) 1.0; its home is
https://github.com/CheyneyComputerScience/CREMA-D.
"""

if __name__ == "__main__":  # before imports that take a while
    from ser_jax.common import interrupts

    interrupts.end_at_once()

import argparse
import contextlib
import dataclasses
import hashlib
import itertools
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import requests

from data_prep import corpora
from data_prep.corpora.release import check_name, read_manifest
from data_prep.fetching import FetchError, check_address, chunks_of, responding, with_retries
from data_prep.workers import map_with_progress
from ser_jax.audio.decoder import is_lfs_pointer
from ser_jax.common import files, interrupts
from ser_jax.common.cli import exit_with_message, path_flag, program
from ser_jax.common.errors import UserError

MAX_BYTES = 2**26  # per file; ten times the largest, so that a faulty server cannot fill the disk
GIVE_UP = 16  # consecutive failures after which the server counts as unreachable


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The result of a download."""

    kept: int  # files that were already there
    fetched: int  # files that were downloaded
    failed: Mapping[str, str]  # {name: reason} of all others


def download(
    root: Path,
    checksums: Mapping[str, str],
    base_url: Callable[[str], str],
    *,
    jobs: int = 8,
    attempts: int = 5,
    delay_s: float = 1.0,
    timeout_s: float = 30.0,
) -> Outcome:
    """Download the files that are missing or wrong below a folder.

    Args:
      root: the folder to fill.
      checksums: name → hex SHA-256, as from read_manifest.
      base_url: returns the web folder that serves a file, as Release.base_url or `mirror` do.
      jobs: the number of parallel downloads.
      attempts: per file, while its failures are transient.
      delay_s: seconds before the second attempt; doubled before each further one.
      timeout_s: seconds without data after which a connection is closed.

    Raises:
      UserError: a name leads out of `root`, or a folder cannot be written.
    """
    for name in checksums:
        check_name(name, "the manifest")
    session, stop = requests.Session(), threading.Event()
    for scheme in ("http://", "https://"):
        session.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=jobs))

    def is_right(name: str) -> bool:
        with contextlib.suppress(OSError):
            return files.sha256_of(root / name) == checksums[name]
        return False

    def is_stopped() -> bool:
        return stop.is_set() or request.received

    def fetch(name: str) -> FetchError | None:
        url = f"{base_url(name).rstrip('/')}/{urllib.parse.quote(name)}"

        def attempt() -> None:
            if is_stopped():
                raise FetchError("stopped")
            try:
                with files.replacing(root / name) as temporary:
                    _save(_body(session, url, timeout_s, is_stopped), temporary, checksums[name])
            except OSError as error:  # of the disk; network errors have become FetchErrors
                raise UserError(
                    f"cannot write {root / name} ({error.strerror}); make room or change the "
                    "permissions, and run it again."
                ) from error

        return with_retries(attempt, stop.wait, attempts=attempts, delay_s=delay_s)

    present = [name for name in checksums if (root / name).exists()]
    with interrupts.deferred() as request, session:
        right = {name for name, ok in map_with_progress(is_right, present, jobs, "checking") if ok}
        needed = [name for name in checksums if name not in right]
        failed = dict.fromkeys(needed, f"not tried, since {GIVE_UP} files in a row failed")
        n_consecutive = 0
        results = map_with_progress(fetch, needed, jobs, "downloading", stop)
        with contextlib.closing(results):
            for name, failure in results:
                if failure:
                    failed[name] = str(failure)
                else:
                    del failed[name]
                n_consecutive = n_consecutive + 1 if failure and failure.transient else 0
                if n_consecutive == GIVE_UP:
                    break
    return Outcome(len(right), len(needed) - len(failed), failed)


def mirror(url: str) -> Callable[[str], str]:
    """Return the base_url of a server that has all files under one web folder.

    Raises:
      UserError: `url` is not http or https.
    """
    check_address(url)
    return lambda name: url


def _body(
    session: requests.Session, url: str, timeout_s: float, is_stopped: Callable[[], bool]
) -> Iterator[bytes]:
    """Yield the body of a response in chunks; any failure is a FetchError."""
    with responding(session, url, timeout_s) as response:
        for chunk in chunks_of(response, MAX_BYTES):
            if is_stopped():
                raise FetchError("stopped")
            yield chunk


def _save(chunks: Iterator[bytes], path: Path, sha256: str) -> None:
    """Write a body to disk and check that it is the published file."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for chunk in chunks:
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() == sha256:
        return
    if is_lfs_pointer(path):
        raise FetchError(
            "the server sent a Git LFS pointer instead of the file; use a --base_url that serves "
            "Git LFS content, or none"
        )
    raise FetchError("the received file has another checksum than the published one", True)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog=program("data_prep.download"),
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--root", type=path_flag, required=True, help="the folder to fill")
    parser.add_argument("--base_url", help="a mirror: http(s)://host/folder, with the same names")
    parser.add_argument("--jobs", type=int, default=8, help="parallel downloads (default 8)")
    args = parser.parse_args()
    if args.jobs < 1:
        raise UserError(f"--jobs={args.jobs} must be 1 or more.")
    crema_d = corpora.CORPORA["crema_d"]
    checksums = read_manifest(crema_d.release.manifest)
    base_url = crema_d.release.base_url if args.base_url is None else mirror(args.base_url)
    try:
        outcome = download(args.root, checksums, base_url, jobs=args.jobs)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt("stopped; run it again to resume.") from stop
    print(
        f"{outcome.kept:,} files were already there, {outcome.fetched:,} were downloaded, "
        f"{len(outcome.failed):,} failed."
    )
    for name, reason in itertools.islice(outcome.failed.items(), 5):
        print(f"  {name}: {reason}")
    if len(outcome.failed) > 5:
        print(f"  and {len(outcome.failed) - 5:,} more")
    if outcome.failed:
        print("Run it again to resume: finished files are not downloaded again.")
        return 1
    print(f"{args.root} is complete; every file has the published checksum.")
    print(crema_d.licence)
    return 0


if __name__ == "__main__":
    exit_with_message(main)
