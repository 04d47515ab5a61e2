"""Fetches CREMA-D, 7,442 WAVs (606 MB) and its tables, and checks every byte.

    python -m data_prep.download --root=data/crema_d

Run it again to resume: files that are in place and right are not fetched again. A file gets its
name only when its SHA-256 is the published one. The corpus is under the Open Database License
(ODbL) 1.0, its contents under the Database Contents License (DbCL) 1.0; its home is
https://github.com/CheyneyComputerScience/CREMA-D.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import http.client
import itertools
import re
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

from data_prep.workers import in_threads
from ser_jax.audio import waveform
from ser_jax.common import files
from ser_jax.common.cli import exit_with_message
from ser_jax.common.errors import UserError

MANIFEST = Path(__file__).parent / "corpora/crema_d.sha256"
# The audio is in Git LFS, whose content GitHub serves from a host of its own.
WAV_URL = "https://media.githubusercontent.com/media/CheyneyComputerScience/CREMA-D/master"
TABLE_URL = "https://raw.githubusercontent.com/CheyneyComputerScience/CREMA-D/master"
CHUNK = 2**16  # bytes
LONGEST = 2**26  # bytes; no file of the corpus has a tenth of it, so nothing fills the disk
GIVE_UP = 16  # files in a row that did not come: the server is away, do not wait for thousands


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How many files were in place, how many came, and why (name → reason) the others did not."""

    kept: int
    fetched: int
    failed: Mapping[str, str]


class _FetchError(Exception):
    """A file did not come. If it may pass, another attempt is worth while, after `wait_s`."""

    def __init__(self, reason: str, may_pass: bool = False, wait_s: float = 0.0):
        super().__init__(reason)
        self.may_pass = may_pass
        self.wait_s = wait_s


def download(
    root: Path,
    manifest: Mapping[str, str],
    base_url: str | None = None,
    *,
    jobs: int = 8,
    attempts: int = 5,
    delay_s: float = 1.0,
    timeout_s: float = 30.0,
) -> Outcome:
    """Fetches what is missing or wrong below a folder.

    Args:
      root: where the files go.
      manifest: name → hex SHA-256, as read_manifest gives it.
      base_url: every file is `base_url/name`; None means the corpus's own home.
      jobs: files fetched at a time.
      attempts: how often a file is asked for while its fault may pass.
      delay_s: seconds before the second attempt; doubled before each further one.
      timeout_s: seconds that a connection may be mute.

    Raises:
      UserError: a bad URL, a name that leads out of `root`, or a folder that cannot be written.
    """
    for name in manifest:
        _check_name(name, "the manifest")
    if base_url is not None and not re.match(r"https?://[^/]", base_url):
        raise UserError(f"--base_url={base_url} is no web address; use http(s)://host/folder.")
    opener, stop = _opener(), threading.Event()

    def is_right(name: str) -> bool:
        with contextlib.suppress(OSError):
            return files.sha256_of(root / name) == manifest[name]
        return False

    def fetch(name: str) -> _FetchError | None:
        home = base_url or (WAV_URL if name.endswith(".wav") else TABLE_URL)
        url, failure = f"{home.rstrip('/')}/{urllib.parse.quote(name)}", None
        for attempt in range(attempts):
            if attempt and stop.wait(max(failure.wait_s, delay_s * 2 ** (attempt - 1))):
                break
            try:
                with files.replacing(root / name) as temporary:
                    _save(_chunks(opener, url, timeout_s, stop), temporary, manifest[name])
                return None
            except _FetchError as error:
                failure = error
                if not error.may_pass:
                    break
            except OSError as error:  # of the disk: those of the network are _FetchErrors by now
                raise UserError(
                    f"cannot write {root / name} ({error.strerror}); mend that and run it again."
                ) from error
        return failure

    there = [name for name in manifest if (root / name).exists()]
    right = {name for name, ok in in_threads(is_right, there, jobs, "checking") if ok}
    wanted = [name for name in manifest if name not in right]
    failed, answered, in_a_row = {}, set(), 0
    with contextlib.closing(in_threads(fetch, wanted, jobs, "fetching", stop)) as results:
        for name, failure in results:
            answered.add(name)
            if failure:
                failed[name] = str(failure)
            in_a_row = in_a_row + 1 if failure and failure.may_pass else 0
            if in_a_row == GIVE_UP:
                break
    for name in wanted:
        if name not in answered:
            failed[name] = f"given up, since {GIVE_UP} files in a row did not come"
    return Outcome(len(right), len(wanted) - len(failed), failed)


def _opener() -> urllib.request.OpenerDirector:
    """Speaks HTTP and HTTPS and nothing else, wherever a redirect may point."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener


def _chunks(
    opener: urllib.request.OpenerDirector, url: str, timeout_s: float, stop: threading.Event
) -> Iterator[bytes]:
    """The body of one answer. Whatever goes wrong on the way is a _FetchError."""
    received = 0
    try:
        with opener.open(url, timeout=timeout_s) as response:
            while chunk := response.read(CHUNK):
                received += len(chunk)
                if stop.is_set():
                    raise _FetchError("stopped")
                if received > LONGEST:
                    raise _FetchError("the server sends far more than the file")
                yield chunk
            if response.length:  # what Content-Length promised and did not come
                raise _FetchError(f"the connection ended after {received:,} bytes", may_pass=True)
    except urllib.error.HTTPError as error:
        error.close()
        after = error.headers.get("Retry-After", "")
        raise _FetchError(
            f"HTTP {error.code} {error.reason} from {url}",
            may_pass=error.code in (408, 429) or error.code >= 500,
            wait_s=min(int(after), 60) if after.isdecimal() else 0,
        ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise _FetchError(f"{reason or type(error).__name__} ({url})", may_pass=True) from error


def _save(chunks: Iterator[bytes], path: Path, sha256: str) -> None:
    """Writes a body to disk as it comes, and refuses all but the published bytes."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for chunk in chunks:
            digest.update(chunk)
            file.write(chunk)
    if digest.hexdigest() == sha256:
        return
    if waveform.is_lfs_pointer(path):
        raise _FetchError(
            "the server sent a Git LFS pointer instead of the file; use a --base_url that serves "
            "Git LFS content, or none"
        )
    raise _FetchError("what came has another checksum than the published file", may_pass=True)


def read_manifest(path: Path = MANIFEST) -> dict[str, str]:
    """Name → hex SHA-256, from a table as sha256sum writes it.

    Raises:
      UserError: a line has another form, or its name leads elsewhere.
    """
    sums = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        match = re.fullmatch(r"([0-9a-f]{64})  (.+)", line)
        if not match:
            raise UserError(f"{path}, line {number}: is not `sha256  name`; restore the file.")
        _check_name(match[2], f"{path}, line {number}")
        sums[match[2]] = match[1]
    return sums


def _check_name(name: str, where: str) -> None:
    if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)*", name):
        raise UserError(f"{where}: {name!r} is no plain path below a folder; restore the manifest.")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True, help="the folder to fill")
    parser.add_argument("--base_url", help="a mirror: http(s)://host/folder, with the same names")
    parser.add_argument("--jobs", type=int, default=8, help="files fetched at a time (default 8)")
    args = parser.parse_args()
    if args.jobs < 1:
        raise UserError(f"--jobs={args.jobs} is too few; use 1 or more.")
    try:
        outcome = download(args.root, read_manifest(), args.base_url, jobs=args.jobs)
    except KeyboardInterrupt:
        print("stopped; run it again to resume.", file=sys.stderr)
        return 130
    print(
        f"{outcome.kept:,} files were in place, {outcome.fetched:,} came, "
        f"{len(outcome.failed):,} failed."
    )
    for name, reason in itertools.islice(outcome.failed.items(), 5):
        print(f"  {name}: {reason}")
    if len(outcome.failed) > 5:
        print(f"  and {len(outcome.failed) - 5:,} more")
    if outcome.failed:
        print("Run it again to resume: what is in place is not fetched again.")
        return 1
    print(f"{args.root} is complete, and every file has the published checksum.")
    print("CREMA-D is under ODbL 1.0, its contents under DbCL 1.0.")
    return 0


if __name__ == "__main__":
    exit_with_message(main)
