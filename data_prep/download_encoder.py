"""Download a pretrained speech encoder: OpenAI's Whisper, as safetensors.

    python -m data_prep.download_encoder --name=whisper-base --root=data/encoders

The file is <root>/<name>/model.safetensors; the folder is what --config.encoder.path takes. Run it
again to resume. The file gets its name only if it holds an encoder and has the published SHA-256.
Where none is known, that of the first download is recorded beside it and checked ever after.
Whisper's licence is MIT in OpenAI's repository, https://github.com/openai/whisper; most of its
cards at https://huggingface.co/openai say Apache-2.0.
"""

if __name__ == "__main__":  # before imports that take a while
    from ser_jax.common import interrupts

    interrupts.end_at_once()

import argparse
import dataclasses
import hashlib
import re
import shutil
import time
from pathlib import Path

import requests
from tqdm import tqdm

from data_prep.corpora.release import read_manifest
from data_prep.fetching import FetchError, check_address, chunks_of, responding, with_retries
from ser_jax.common import files
from ser_jax.common.cli import exit_with_message, path_flag, program
from ser_jax.common.errors import UserError
from ser_jax.encoders import weights

HUB = "https://huggingface.co"
ADDRESS = "{base_url}/openai/{name}/resolve/main/" + weights.FILE
RECORD = weights.FILE + ".sha256"  # in the format of sha256sum
PART = f".{weights.FILE}.{{}}.part"  # {}: which version of the file it is a part of
LICENCE = (
    "Whisper's weights are OpenAI's, under the MIT licence by https://github.com/openai/whisper; "
    "most cards at https://huggingface.co/openai say Apache-2.0."
)


@dataclasses.dataclass(frozen=True)
class Published:
    """What is known of a file on the hub."""

    n_bytes: int
    sha256: str = ""  # hexadecimal; "" if unknown


# Sizes and checksums as in manifests of other programs that download the same files; those entered
# here stand in two or more that do not depend on each other.
ENCODERS = {
    "whisper-tiny": Published(
        151_061_672, "7ebd0e69e78190ffe1438491fa05cc1f5c1aa3a4c4db3bc1723adbb551ea2395"
    ),
    "whisper-tiny.en": Published(
        151_060_136, "db59695928ded6043adaef491a53ef4e12da9611184d77c53baa691a60b958ad"
    ),
    "whisper-base": Published(
        290_403_936, "07cadb9f25677c8d50df603e66a98fbd842cce45047139baeb16e6219a1e807b"
    ),
    "whisper-base.en": Published(
        290_401_888, "d4dd5542fd6a1d35639e21384238f3bfe6c557c849d392b5905d33ee29e71db5"
    ),
    "whisper-small": Published(
        966_995_080, "1d7734884874f1a1513ed9aa760a4f8e97aaa02fd6d93a3a85d27b2ae9ca596b"
    ),
    "whisper-small.en": Published(
        966_992_008, "6014ac49b506df900f66f4aca6b0801eed7245594ace97bcaf73e0ae5b863066"
    ),
    "whisper-medium": Published(
        3_055_544_304, "62f73550fa6db24b0c6f6c5962bd0dae80fa644e93cde9cd9c3792971b47fd28"
    ),
    # As the others are, it is one row of the vocabulary smaller than the multilingual file.
    "whisper-medium.en": Published(3_055_540_208),
    "whisper-large-v3": Published(
        3_087_130_976, "a8e94b85976e5864ba3e9525c7e6c83b2a1eca42d4b797a0c7c24d778e40fd95"
    ),
    "whisper-large-v3-turbo": Published(
        1_617_824_864, "542566a422ae4f3fd23f1ba11add198fca01bbf82e66e6a2857b3f608b1eb9d1"
    ),
}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """An encoder that is complete."""

    path: Path
    kept: bool  # it was there already
    sha256: str
    checksum: str  # what it was compared with: "published", "recorded", or "" if nothing


def download(
    name: str,
    root: Path,
    base_url: str = HUB,
    *,
    attempts: int = 5,
    delay_s: float = 1.0,
    timeout_s: float = 30.0,
) -> Outcome:
    """Download the weights of an encoder into its folder below `root`, or check those there.

    An exception or the end of the process leaves a part, whose rest the next call downloads.

    Args:
      name: a key of ENCODERS.
      root: the folder of all encoders.
      base_url: the hub or a mirror, with the same paths.
      attempts: consecutive ones that bring nothing, while their failures are transient.
      delay_s: seconds before the second attempt; doubled before each further one.
      timeout_s: seconds without data after which a connection is closed.

    Raises:
      UserError: the name is unknown, the download failed, the file is another one, or the folder
        cannot be written.
    """
    if name not in ENCODERS:
        raise UserError(f"--name={name} is not among the encoders: {', '.join(ENCODERS)}.")
    url = ADDRESS.format(base_url=check_address(base_url), name=name)
    folder, published = root / name, ENCODERS[name]
    busy = f"another process is downloading to {folder}; wait until it has ended."
    with files.locked(folder, refusal=busy), requests.Session() as session:
        session.headers["Accept-Encoding"] = "identity"  # ranges of the file itself
        path, record = folder / weights.FILE, folder / RECORD
        recorded = ""
        if not published.sha256 and record.exists():
            recorded = read_manifest(record).get(weights.FILE, "")
        expected = published.sha256 or recorded
        if kept := path.exists():
            sha256 = _check_kept(path, expected)
        else:
            sha256 = ""

            def attempt() -> None:
                nonlocal sha256
                part, resumed = _receive(session, url, folder, published, timeout_s)
                sha256 = _check_received(part, expected, url, resumed)
                part.replace(path)

            failure = with_retries(
                attempt,
                time.sleep,
                attempts=attempts,
                delay_s=delay_s,
                n_bytes=lambda: sum(part.stat().st_size for part in _parts(folder)),
            )
            if failure:
                remedy = "run it again to resume" if failure.transient else "try another --base_url"
                raise UserError(f"cannot download {name}: {failure}; {remedy}.")
        if not expected:
            files.write_text(record, f"{sha256}  {weights.FILE}\n")
    compared = "published" if published.sha256 else "recorded" if recorded else ""
    return Outcome(path, kept, sha256, compared)


def _parts(folder: Path) -> list[Path]:
    """Return the incomplete file, if there is one."""
    return list(folder.glob(PART.format("*")))


def _receive(
    session: requests.Session, url: str, folder: Path, published: Published, timeout_s: float
) -> tuple[Path, bool]:
    """Complete the part of a file; return it, and whether some of it was there before.

    Raises:
      FetchError: the connection failed, or the server has another file.
      UserError: the disk is full.
    """
    old = next(iter(_parts(folder)), None)
    # Its last byte again, since servers refuse an empty range of a part that lacks nothing.
    start = max(0, old.stat().st_size - 1) if old else 0
    asked = {"Range": f"bytes={start}-"} if start else {}
    with responding(session, url, timeout_s, asked) as response:
        headers = response.headers
        if response.ok and headers.get("Content-Type", "").startswith("text/html"):
            raise FetchError(f"{url} is a web page, as of a login or a proxy, instead of the file")
        version = published.sha256 or headers.get("ETag") or headers.get("Last-Modified", "")
        part = folder / PART.format(hashlib.sha256(version.encode()).hexdigest()[:16])
        sent = re.match(r"bytes (\d+)-\d+/(\d+)$", headers.get("Content-Range", ""))
        if response.status_code == 200:
            start, n_bytes = 0, int(headers.get("Content-Length", published.n_bytes))
        elif sent and part == old and int(sent[1]) == start:
            n_bytes = int(sent[2])
        else:
            if old:
                old.unlink()
            raise FetchError(f"{url} has changed, or is sent in other pieces than asked for", True)
        if n_bytes != published.n_bytes:
            raise FetchError(f"{url} has {n_bytes:,} bytes, not {published.n_bytes:,} as published")
        if old and old != part:
            old.unlink()
        _write(response, part, start, published.n_bytes)
    if (n_received := part.stat().st_size) < published.n_bytes:
        raise FetchError(f"{n_received:,} of {published.n_bytes:,} bytes came ({url})", True)
    return part, start > 0


def _write(response: requests.Response, part: Path, start: int, n_bytes: int) -> None:
    """Write a body into the part from byte `start` on, under a progress bar."""
    free = shutil.disk_usage(part.parent).free
    if n_bytes - start > free:
        raise UserError(
            f"cannot write {part.parent}: {n_bytes - start:,} bytes are to come and {free:,} are "
            "free; make room and run it again."
        )
    with (
        part.open("r+b" if start else "wb") as file,
        tqdm(
            desc=part.parent.name,
            initial=start,
            total=n_bytes,
            unit="B",
            unit_scale=True,
            disable=None,
        ) as bar,
    ):
        file.seek(start)
        for chunk in chunks_of(response, n_bytes - start):
            with files.explain_full_disk(part.parent):
                file.write(chunk)
                file.flush()  # so that a killed process, too, leaves what it has received
            bar.update(len(chunk))


def _check_kept(path: Path, expected: str) -> str:
    """Return the SHA-256 of a file that was there before."""
    weights.read_size(path)
    sha256 = files.sha256_of(path)
    if expected and sha256 != expected:
        raise UserError(
            f"{path} has the SHA-256 {sha256[:12]}… instead of {expected[:12]}…, the published one "
            "or that of its first download; move it away and run it again."
        )
    return sha256


def _check_received(part: Path, expected: str, url: str, resumed: bool) -> str:
    """Return the SHA-256 of a complete part; delete it and raise a FetchError if it is wrong."""
    reason = ""
    try:
        weights.read_size(part)
    except UserError as error:
        reason = str(error).removesuffix(".").replace(str(part), url)
    sha256 = files.sha256_of(part)
    if expected and sha256 != expected:
        reason = reason or (
            f"{url} has the SHA-256 {sha256[:12]}… instead of {expected[:12]}…, the published one "
            f"or that of the first download, recorded in {part.with_name(RECORD)}"
        )
    if reason:
        part.unlink()
        raise FetchError(reason, transient=resumed)  # the older piece may have been damaged
    return sha256


def main() -> None:
    parser = argparse.ArgumentParser(
        prog=program("data_prep.download_encoder"),
        description=__doc__,
        epilog="\n  ".join(["NAME is one of", *ENCODERS]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--name", required=True, help="which encoder")
    parser.add_argument(
        "--root", type=path_flag, required=True, help="the folder of encoders; each has its own"
    )
    parser.add_argument("--base_url", default=HUB, help=f"a mirror of {HUB}, with the same paths")
    args = parser.parse_args()
    try:
        outcome = download(args.name, args.root, args.base_url)
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt("stopped; run it again to resume.") from stop
    print(f"{outcome.path} {'was already there' if outcome.kept else 'is complete'}.")
    if outcome.checksum:
        print(f"Its SHA-256 is the {outcome.checksum} one.")
    else:
        print(
            f"No published checksum of {args.name} is known here: its SHA-256, {outcome.sha256}, "
            f"is recorded in {outcome.path.with_name(RECORD)} and checked from now on."
        )
    print(LICENCE)
    print(f"Use it: --config.encoder.path={outcome.path.parent}")


if __name__ == "__main__":
    exit_with_message(main)
