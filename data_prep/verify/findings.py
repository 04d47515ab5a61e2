"""What can be wrong with a corpus, what to do about it, and the findings as text."""

import dataclasses
import math
from collections import defaultdict

from data_prep import corpora
from ser_jax.audio import waveform
from ser_jax.audio.level import CLIPPED_RUN, LARGE_OFFSET

SILENT_DB = 20 * math.log10(waveform.SILENT_RMS)

# Every kind of finding, in the order of the text, and what to do about it.
REMEDIES = {
    "missing": "listed but not there",
    "unexpected": "not among the published clips; move the files out of the folder",
    "Git LFS pointer": "not audio; run `git lfs pull` in the clone",
    "wrong checksum": "not the published bytes",
    "unreadable": "cannot be decoded; replace the files",
    "cut short": "shorter than the header says; fetch or copy the files again",
    "empty": "no samples; replace the files",
    "not finite": "NaN or infinite samples; replace the files",
    "silent": f"RMS below {SILENT_DB:.0f} dB of full scale; leave the clips out",
    "identical": "the same bytes under several names; keep one, or none if their labels differ",
    "segment": "start or end is outside the file; correct the table",
    "reader": "the corpus cannot be read; see the message",
    "clipped": f"{CLIPPED_RUN} or more consecutive samples at full scale; listen to the clips",
    "DC offset": f"more than {LARGE_OFFSET:g} times the RMS, which the features see; remove it",
    "remark": "read whole as far as can be told; listen to the clips",
}
NOTED = ("clipped", "DC offset", "remark")  # not wrong in themselves
_FETCHABLE = ("missing", "Git LFS pointer", "wrong checksum")


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something noteworthy about a file, a group of identical files or the whole corpus."""

    kind: str  # a key of REMEDIES
    files: tuple[str, ...]  # names relative to the root; () if it concerns the whole corpus
    detail: str = ""


@dataclasses.dataclass(frozen=True)
class Verification:
    """The result of verifying a corpus; `dataclasses.asdict` makes it JSON."""

    corpus: str  # a key of CORPORA
    root: str  # the folder of the corpus
    files: int  # number of audio files checked
    seconds: float  # their total duration
    checksums_right: int | None  # clips with the published bytes; None if nothing is published
    facts: tuple[str, ...]  # sentences about the whole corpus
    wrong: tuple[Finding, ...]  # to act on
    known: tuple[Finding, ...]  # defects that the corpus was published with
    noted: tuple[Finding, ...]  # harmless but worth knowing


def remedy(kind: str, corpus: str, root: str) -> str:
    """Return what to do about a kind of finding in a corpus of CORPORA."""
    source = corpora.CORPORA[corpus].source.format(root=root)
    return f"{REMEDIES[kind]}; {source}" if kind in _FETCHABLE and source else REMEDIES[kind]


def render(verification: Verification) -> str:
    """Return the findings as text, the first few of each kind."""
    corpus, root, hours = verification.corpus, verification.root, verification.seconds / 3600
    lines = [f"{corpus} in {root}: {verification.files:,} audio files, {hours:.2f} h"]
    lines += [f"  {fact}" for fact in verification.facts]
    for title, findings in (
        ("wrong", verification.wrong),
        ("known: published like this (not counted as wrong)", verification.known),
        ("worth knowing (not counted as wrong)", verification.noted),
    ):
        by_kind: dict[str, list[Finding]] = defaultdict(list)
        for finding in findings:
            by_kind[finding.kind].append(finding)
        lines += ["", title] if by_kind else []
        for kind, group in by_kind.items():
            shown = [" = ".join(f.files) or f.detail for f in group[:3]]
            if kind == "remark":
                shown = [f"{f.files[0]}: {f.detail}" for f in group[:3]]
            rest = f", and {len(group) - 3:,} more" if len(group) > 3 else ""
            lines += [f"  {kind:<15} {len(group):>6,}  {', '.join(shown)}{rest}"]
            lines += [f"  {'':<22}  → {remedy(kind, corpus, root)}"]
    verdict = "something is wrong." if verification.wrong else "nothing is wrong."
    return "\n".join([*lines, "", verdict])
