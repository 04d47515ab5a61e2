"""Is the corpus whole and sound? Checksums, Git LFS pointers, silent, broken and repeated clips.

    python -m data_prep.verify --root=data/crema_d
    python -m data_prep.verify --root=my_clips --corpus=csv --json=report.json

It looks at the files themselves, so it also works where a reader would refuse. It exits with 1 if
something is wrong. What CREMA-D itself was published with (a silent clip, three recordings under
two labels each) is listed and does not count as wrong.
"""

import argparse
import dataclasses
import functools
import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath

import numpy as np

from data_prep import corpora, workers
from data_prep.download import read_manifest
from data_prep.workers import in_threads
from ser_jax.audio import files as audio_files
from ser_jax.audio import waveform
from ser_jax.common import files
from ser_jax.common.cli import exit_with_message
from ser_jax.common.errors import UserError

FULL_SCALE = 1 - 2**-15  # the largest positive 16-bit sample
CLIPPED_RUN = 3  # consecutive samples at full scale; peak normalisation makes only single ones
SILENT_DB = 20 * math.log10(waveform.SILENT_RMS)
BLOCK = 2**20  # samples decoded at a time: a recording of hours fits in memory

# Every kind of finding, in the order of the table, and what to do about it.
DOWNLOAD = "CREMA-D: python -m data_prep.download --root={root}"
REMEDIES = {
    "missing": f"listed but not there; {DOWNLOAD}",
    "unexpected": "no such clip was published; move the files out of the folder",
    "Git LFS pointer": f"not audio; run `git lfs pull` in the clone; {DOWNLOAD}",
    "wrong checksum": f"not the published bytes; {DOWNLOAD}",
    "unreadable": "cannot be decoded; replace the files",
    "cut short": "the file ends before its header says; fetch or copy it again",
    "empty": "no samples; replace the files",
    "not finite": "NaN or infinite samples; replace the files",
    "silent": f"RMS below {SILENT_DB:.0f} dB of full scale; leave them out",
    "identical": "the same bytes under several names; keep one, or none if their labels differ",
    "reader": "the corpus cannot be read as it is",
    "clipped": f"{CLIPPED_RUN} or more consecutive samples at full scale; listen to them",
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """One file, or one group of identical files.

    Attributes:
      kind: a key of REMEDIES.
      files: names relative to the root; () where it concerns the whole corpus.
      detail: what exactly was found, or "".
    """

    kind: str
    files: tuple[str, ...]
    detail: str = ""


@dataclasses.dataclass(frozen=True)
class Report:
    """What `verify` found; `dataclasses.asdict` makes it JSON.

    Attributes:
      corpus: the reader's name.
      root: the folder that was looked at.
      files: how many audio files were looked at.
      seconds: their duration in all.
      checksums_right: clips with the published bytes; None where no checksums are published.
      facts: sentences about the corpus as a whole.
      wrong: what should be mended.
      known: defects that the corpus was published with.
      noted: worth knowing, and harmless.
    """

    corpus: str
    root: str
    files: int
    seconds: float
    checksums_right: int | None
    facts: tuple[str, ...]
    wrong: tuple[Finding, ...]
    known: tuple[Finding, ...]
    noted: tuple[Finding, ...]


@dataclasses.dataclass(frozen=True)
class _Check:
    """What one file is by itself; `fault` is a key of REMEDIES, or "" for a sound clip."""

    name: str
    sha256: str = ""
    seconds: float = 0.0
    fault: str = ""
    detail: str = ""
    clipped: bool = False


def verify(root: Path, corpus: str = "crema_d") -> Report:
    """Looks at every audio file below a folder.

    Args:
      root: the folder of the corpus (`csv`: or its table).
      corpus: a key of corpora.READERS.

    Raises:
      UserError: there is no audio, or the corpus is unknown.
    """
    if corpus not in corpora.READERS:
        raise UserError(f"corpus {corpus!r} is unknown; use one of {', '.join(corpora.READERS)}.")
    if not root.exists():
        raise UserError(f"{root} does not exist; give the folder of the corpus as --root.")
    folder = root.parent if root.is_file() else root
    names = [path.relative_to(folder).as_posix() for path in corpora.find_audio(folder)]
    facts, exact, findings = [], frozenset(), []
    if corpus == "crema_d":
        names, facts = _without_spare_mp3s(names)
    check = functools.partial(_check, folder)
    checks = [c for _, c in in_threads(check, names, workers.n_processors(), "verifying")]
    checks.sort(key=lambda c: c.name)
    if corpus == "crema_d":
        exact, findings, more_facts = _compare(checks, folder, read_manifest())
        facts += more_facts
    findings += [*_faults(checks), *_reading(root, folder, corpus)]
    defects = corpora.DEFECTS.get(corpus, {})

    def as_published(finding: Finding) -> bool:
        clips = {_id(name) for name in finding.files}
        if finding.kind not in ("silent", "identical") or len(clips) < len(finding.files):
            return False  # one clip, copied: that was not published
        known = any({clip, defects.get(clip)} - {""} == clips for clip in clips)
        return known or all(name in exact for name in finding.files)

    order = list(REMEDIES)
    findings.sort(key=lambda f: (order.index(f.kind), f.files))
    loud = tuple(f for f in findings if f.kind != "clipped")
    return Report(
        corpus=corpus,
        root=str(root),
        files=len(checks),
        seconds=sum(c.seconds for c in checks),
        checksums_right=len(set(map(_id, exact))) if corpus == "crema_d" else None,
        facts=tuple(facts),
        wrong=tuple(f for f in loud if not as_published(f)),
        known=tuple(f for f in loud if as_published(f)),
        noted=tuple(f for f in findings if f.kind == "clipped"),
    )


def _check(folder: Path, name: str) -> _Check:
    """Hashes and decodes one file; whatever is the matter with it becomes a fault."""
    path, sha256 = folder / name, ""
    try:
        if not path.is_file():  # a broken link, or something that is no file at all
            return _Check(name, fault="unreadable", detail="no regular file")
        sha256 = files.sha256_of(path)
        if waveform.is_lfs_pointer(path):
            return _Check(name, sha256, fault="Git LFS pointer")
        if path.stat().st_size == 0:
            return _Check(name, sha256, fault="empty", detail="0 bytes")
        return _listen(path, _Check(name, sha256))
    except Exception as error:  # one bad file never ends the whole check
        detail = f"{type(error).__name__}: {error}"
        return _Check(name, sha256, fault="unreadable", detail=detail)


def _listen(path: Path, check: _Check) -> _Check:
    """Decodes a file block by block: its duration, and what is wrong with its samples."""
    import soundfile

    samples, total, squares, clipped = 0, 0.0, 0.0, False
    with soundfile.SoundFile(os.fspath(path)) as sound:
        # Blocks overlap, so that no run of clipped samples hides on a border.
        for block_SxC in sound.blocks(
            BLOCK, overlap=CLIPPED_RUN - 1, dtype="float32", always_2d=True
        ):
            if not np.isfinite(block_SxC).all():
                return dataclasses.replace(check, fault="not finite")
            mono_S = block_SxC.mean(axis=1, dtype=np.float64)  # what the features will be made of
            samples += len(mono_S)
            total += mono_S.sum()
            squares += np.square(mono_S).sum()
            clipped = clipped or _has_run(np.abs(block_SxC) >= FULL_SCALE, CLIPPED_RUN)
        check = dataclasses.replace(check, seconds=sound.frames / sound.samplerate, clipped=clipped)
    if missing := audio_files.missing_bytes(path):
        return dataclasses.replace(check, fault="cut short", detail=f"{missing} bytes are missing")
    if not samples:
        return dataclasses.replace(check, fault="empty", detail="no samples")
    rms = math.sqrt(max(squares / samples - (total / samples) ** 2, 0.0))  # without a DC offset
    if rms < waveform.SILENT_RMS:
        return dataclasses.replace(check, fault="silent", detail=f"RMS {rms:.1e} of full scale")
    return check


def _has_run(full_SxC: np.ndarray, length: int) -> bool:
    """True if some channel is True for `length` consecutive samples."""
    starts = len(full_SxC) - length + 1
    if starts < 1 or not full_SxC.any():
        return False
    return bool(np.all([full_SxC[i : starts + i] for i in range(length)], axis=0).any())


def _faults(checks: Sequence[_Check]) -> Iterator[Finding]:
    """Findings that need no knowledge of the corpus."""
    by_sum: dict[str, list[str]] = defaultdict(list)
    for check in checks:
        if check.fault:
            yield Finding(check.fault, (check.name,), check.detail)
        if check.clipped:
            yield Finding("clipped", (check.name,))
        if check.seconds:
            by_sum[check.sha256].append(check.name)
    yield from (Finding("identical", tuple(same)) for same in by_sum.values() if len(same) > 1)


def _reading(root: Path, folder: Path, corpus: str) -> Iterator[Finding]:
    """What the corpus's reader objects to, and what its table lists in vain."""
    try:
        for utterance in corpora.read(corpus, root).utterances:
            if not utterance.path.exists():
                yield Finding("missing", (utterance.path.relative_to(folder).as_posix(),))
    except Exception as error:  # a reader may stumble over anything; the report goes on
        yield Finding("reader", (), str(error) or type(error).__name__)


def _compare(
    checks: Sequence[_Check], folder: Path, published: Mapping[str, str]
) -> tuple[frozenset[str], list[Finding], list[str]]:
    """Compares with the published checksums: exact clips, findings, facts."""
    clips = {_id(name): name for name in published if name.startswith("AudioWAV/")}
    findings, exact, others = [], set(), Counter()
    for check in checks:
        clip, suffix = clips.get(_id(check.name)), PurePath(check.name).suffix.lower()
        if clip is None:
            findings.append(Finding("unexpected", (check.name,)))
        elif suffix != ".wav":
            others[suffix] += 1
        elif check.sha256 == published[clip]:
            exact.add(check.name)
        elif check.fault != "Git LFS pointer":
            findings.append(Finding("wrong checksum", (check.name,)))
    there = {_id(check.name) for check in checks}
    findings += [Finding("missing", (clips[i],)) for i in clips if i not in there]
    right = len(set(map(_id, exact)))
    facts = [f"{right:,} of {len(clips):,} clips have the published checksum."]
    facts += [
        f"{n:,} clips are {suffix}: another format than published (.wav), so not byte-exact; "
        "everything but the checksum was checked."
        for suffix, n in others.most_common()
    ]
    tables = sorted(published.keys() - set(clips.values()))
    for name in list(tables):
        places = (folder / name, folder / PurePath(name).name)  # a copy may keep them flat
        table = next((p for p in places if p.is_file()), None)
        if table and files.sha256_of(table) != published[name]:
            findings.append(Finding("wrong checksum", (table.relative_to(folder).as_posix(),)))
        if table:
            tables.remove(name)
    if tables:
        facts.append(f"tables that are not there: {', '.join(tables)} (votes, age and sex).")
    return frozenset(exact), findings, facts


def _without_spare_mp3s(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Passes over MP3s that lie beside a better copy, as the reader does; and says so."""
    better = {_id(name) for name in names if not name.lower().endswith(".mp3")}
    kept = [n for n in names if not (n.lower().endswith(".mp3") and _id(n) in better)]
    spare = len(names) - len(kept)
    return kept, [f"{spare:,} MP3s were passed over: better copies are there."] if spare else []


def _id(name: str) -> str:
    return corpora.crema_d_id(PurePath(name).stem)


def render(report: Report) -> str:
    """The report as text; long lists are cut to their first few."""
    hours = report.seconds / 3600
    lines = [f"{report.corpus} in {report.root}: {report.files:,} audio files, {hours:.2f} h"]
    lines += [f"  {fact}" for fact in report.facts]
    for title, findings in (
        ("wrong", report.wrong),
        ("known: the corpus was published like this (not counted as wrong)", report.known),
        ("worth knowing (not counted as wrong)", report.noted),
    ):
        by_kind: dict[str, list[Finding]] = defaultdict(list)
        for finding in findings:
            by_kind[finding.kind].append(finding)
        lines += ["", title] if by_kind else []
        for kind, some in by_kind.items():
            shown = [" = ".join(f.files) or f.detail for f in some[:3]]
            rest = f", and {len(some) - 3:,} more" if len(some) > 3 else ""
            lines += [f"  {kind:<15} {len(some):>6,}  {', '.join(shown)}{rest}"]
            lines += [f"  {'':<15} {'':>6}  → {REMEDIES[kind].format(root=report.root)}"]
    return "\n".join([*lines, "", "something is wrong." if report.wrong else "nothing is wrong."])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True, help="the folder of the corpus")
    parser.add_argument("--corpus", choices=list(corpora.READERS), default="crema_d")
    parser.add_argument("--json", type=Path, help="also write the whole report to this file")
    args = parser.parse_args()
    report = verify(args.root, args.corpus)
    if args.json:
        files.write_json(args.json, dataclasses.asdict(report))
    print(render(report))
    return 1 if report.wrong else 0


if __name__ == "__main__":
    exit_with_message(main)
