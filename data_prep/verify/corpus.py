"""Checks a whole corpus: every file, copies, the published checksums, and the reader."""

import functools
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from data_prep import corpora, workers
from data_prep.corpora import CorpusSpec
from data_prep.corpora.reading import find_audio
from data_prep.corpora.release import read_manifest
from data_prep.corpora.synthetic import MARKER
from data_prep.verify.clip import ClipCheck, check_clip
from data_prep.verify.findings import NOTED, REMEDIES, Finding, Verification
from ser_jax.audio.files import foreign_note
from ser_jax.common import files, interrupts
from ser_jax.common.errors import UserError


def verify(root: Path, corpus: str = "crema_d") -> Verification:
    """Check every audio file below a folder.

    Args:
      root: the folder of the corpus (for `csv`: or its table).
      corpus: a key of CORPORA.

    Raises:
      UserError: there is no audio, or that of the synthetic corpus under another name.
    """
    spec = corpora.CORPORA[corpus]
    if not root.exists():
        raise UserError(f"{root} does not exist; give the folder of the corpus as --root.")
    if spec.release and (root / MARKER).is_file():
        raise UserError(f"{root} holds synthetic voices ({MARKER}); add --corpus=synthetic.")
    folder = root.parent if root.is_file() else root
    foreign: list[str] = []
    names = sorted(path.relative_to(folder).as_posix() for path in find_audio(folder, foreign))
    facts: list[str] = []
    exact: frozenset[str] = frozenset()
    if spec.release:
        names, facts = _without_spare_mp3s(spec, names)
    facts += [foreign_note(foreign)] if foreign else []
    check, n_threads = functools.partial(check_clip, folder), workers.n_processors()
    with interrupts.deferred():
        checks = [c for _, c in workers.map_with_progress(check, names, n_threads, "verifying")]
    findings = [*_faults(checks), *_reader_findings(root, folder, corpus, checks)]
    if spec.release:
        exact, more_findings, more_facts = _compare(spec, checks, folder)
        findings, facts = findings + more_findings, facts + more_facts

    def is_known(finding: Finding) -> bool:
        clips = {_id(spec, name) for name in finding.files}
        if finding.kind not in ("silent", "identical") or len(clips) < len(finding.files):
            return False  # copies of one clip were not published
        listed = any({clip, spec.defects.get(clip)} - {""} == clips for clip in clips)
        return listed or all(name in exact for name in finding.files)

    order = list(REMEDIES)
    findings.sort(key=lambda f: (order.index(f.kind), f.files))
    defects = [f for f in findings if f.kind not in NOTED]
    return Verification(
        corpus=corpus,
        root=str(root),
        files=len(checks),
        seconds=sum(c.seconds for c in checks),
        checksums_right=len({_id(spec, name) for name in exact}) if spec.release else None,
        facts=tuple(facts),
        wrong=tuple(f for f in defects if not is_known(f)),
        known=tuple(f for f in defects if is_known(f)),
        noted=tuple(f for f in findings if f.kind in NOTED),
    )


def _faults(checks: Sequence[ClipCheck]) -> Iterator[Finding]:
    """Findings that need no knowledge of the corpus."""
    names_by_sha256: dict[str, list[str]] = defaultdict(list)
    for check in checks:
        if check.fault:
            yield Finding(check.fault, (check.name,), check.detail)
        for kind, detail in check.remarks:
            yield Finding(kind, (check.name,), detail)
        if check.seconds:
            names_by_sha256[check.sha256].append(check.name)
    for names in names_by_sha256.values():
        if len(names) > 1:
            yield Finding("identical", tuple(names))


def _reader_findings(
    root: Path, folder: Path, corpus: str, checks: Sequence[ClipCheck]
) -> Iterator[Finding]:
    """What the reader refuses, and files and segments that a table lists but that are missing."""
    seconds = {check.name: check.seconds for check in checks if check.seconds}
    checked, missing, passed_over = {check.name for check in checks}, set(), set()
    try:
        for utterance in corpora.read(corpus, root).utterances:
            name = utterance.path.relative_to(folder).as_posix()
            if not utterance.path.exists():
                missing.add(name)
            elif name not in checked:  # such as one in a format that is not searched for
                passed_over.add(name)
            elif name in seconds and (reason := utterance.segment.outside(seconds[name])):
                yield Finding("segment", (name,), f"{utterance.place} {reason}")
        yield from (Finding("missing", (name,)) for name in sorted(missing))
        yield from _faults([check_clip(folder, name) for name in sorted(passed_over)])
    except Exception as error:  # whatever the reader stumbles over, the verification goes on
        yield Finding("reader", (), str(error) or type(error).__name__)


def _compare(
    spec: CorpusSpec, checks: Sequence[ClipCheck], folder: Path
) -> tuple[frozenset[str], list[Finding], list[str]]:
    """Return the names of the files with the published bytes, findings, and facts."""
    release, published = spec.release, read_manifest(spec.release.manifest)
    clips = {_id(spec, name): name for name in published if name.startswith(release.audio)}
    findings, exact, other_formats = [], set(), Counter()
    for check in checks:
        clip = clips.get(_id(spec, check.name))
        if clip is None:
            findings.append(Finding("unexpected", (check.name,)))
        elif _suffix(check.name) != _suffix(clip):
            other_formats[_suffix(check.name), _suffix(clip)] += 1
        elif check.sha256 == published[clip]:
            exact.add(check.name)
        elif check.fault != "Git LFS pointer":
            findings.append(Finding("wrong checksum", (check.name,)))
    present = {_id(spec, check.name) for check in checks}
    findings += [Finding("missing", (clips[i],)) for i in clips if i not in present]
    n_exact = len({_id(spec, name) for name in exact})
    facts = [f"{n_exact:,} of {len(clips):,} clips have the published checksum."]
    facts += [
        f"{n:,} clips are {suffix} and were published as {original}; everything except their "
        "checksums was checked."
        for (suffix, original), n in other_formats.most_common()
    ]
    missing_tables = []
    for name in sorted(published.keys() - set(clips.values())):
        places = (folder / name, folder / PurePath(name).name)  # a copy may be flat
        table = next((p for p in places if p.is_file()), None)
        if table is None:
            missing_tables.append(name)
        elif files.sha256_of(table) != published[name]:
            findings.append(Finding("wrong checksum", (table.relative_to(folder).as_posix(),)))
    if missing_tables:
        facts.append(f"missing tables: {', '.join(missing_tables)} ({release.tables_hold}).")
    return frozenset(exact), findings, facts


def _without_spare_mp3s(spec: CorpusSpec, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return names and facts, without MP3s that lie beside a better copy, as the reader does."""
    better = {_id(spec, name) for name in names if _suffix(name) != ".mp3"}
    kept = [n for n in names if _suffix(n) != ".mp3" or _id(spec, n) not in better]
    n_spare = len(names) - len(kept)
    return kept, [f"{n_spare:,} MP3s were skipped: better copies are there."] if n_spare else []


def _id(spec: CorpusSpec, name: str) -> str:
    return spec.clip_id(PurePath(name).stem)


def _suffix(name: str) -> str:
    return PurePath(name).suffix.lower()
