"""Damage files, tables and runs at random, print what was tried and what fell.

    make torture                                                # some minutes
    python -m tests.torture --files=10000 --kills=100           # hours
    python -m tests.torture --only=audio --seed=417 --files=1   # repeats a trial

The exit code is 1 if anything fell. Ctrl-C ends it with what was tried so far.
"""

import argparse
import contextlib
import datetime
import importlib
import os
import shlex
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

os.environ["JAX_PLATFORMS"] = "cpu"  # whatever the machine has; before JAX is imported

from ser_jax.pages import blocks, markdown  # noqa: E402
from tests.torture.trial import Trial  # noqa: E402

KINDS = ("audio", "tables", "kills", "disk")


def main() -> int:
    flags = _flags()
    counts = {
        "audio": flags.files,
        "tables": flags.files,
        "kills": flags.kills,
        "disk": -(-flags.kills // 4),
    }
    deadline = time.monotonic() + 60 * flags.minutes
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also in a shell's background
    trials: list[Trial] = []
    begin = time.monotonic()
    with _folder(flags.keep) as folder, contextlib.suppress(KeyboardInterrupt):
        for kind in flags.only or KINDS:
            for trial in _try(kind, flags.seed, counts[kind], folder / kind, deadline):
                trials.append(trial)
    minutes = (time.monotonic() - begin) / 60
    command = shlex.join(["python", "-m", "tests.torture", *sys.argv[1:]])
    text = report(trials, command, minutes)
    print(text)
    if flags.out:
        flags.out.write_text(text, encoding="utf-8")
    return 1 if any(trial.fell for trial in trials) else 0


def _try(kind: str, seed: int, count: int, folder: Path, deadline: float) -> Iterator[Trial]:
    """Yield the trials of a kind until time is up, under a progress bar."""
    if not count:
        return
    folder.mkdir(parents=True)
    attempts = importlib.import_module(f"tests.torture.{kind}").run(seed, count, folder)
    with (
        contextlib.closing(attempts),
        tqdm(total=count, desc=kind, unit="trial", disable=None) as progress,
    ):
        for trial in attempts:
            if trial.fell:
                line = f"fell: {trial.name}, {_again(trial)}: {trial.detail.strip()}"
                progress.write(line, file=sys.stderr)
            yield trial
            progress.update()
            if time.monotonic() > deadline:
                progress.write(f"{kind}: time is up.", file=sys.stderr)
                return


def report(trials: Sequence[Trial], command: str, minutes: float) -> str:
    """Return what was tried and what fell, as Markdown."""
    outcomes = list(dict.fromkeys(trial.outcome for trial in trials))
    counts: dict[tuple[str, str], Counter[str]] = {}
    for trial in trials:
        counter = counts.setdefault((trial.kind, trial.name), Counter())
        counter.update(tried=1, fell=trial.fell)
        counter[trial.outcome] += 1
    rows = []
    for (kind, name), counter in sorted(counts.items()):
        said = ", ".join(f"{counter[o]:,} {o}" for o in outcomes if counter[o])
        rows.append([kind, name, said, f"{counter['tried']:,}", f"{counter['fell']:,}"])
    fallen = [trial for trial in trials if trial.fell]
    total = f"{len(trials):,} trials in {minutes:.0f} minutes, {len(fallen):,} fell."
    parts: list[blocks.Block] = [
        "What was damaged or stopped at random, and what the program made of it.",
        blocks.Listing(command),
        f"{datetime.date.today()}: {total}",
        blocks.Table(["kind", "what", "outcome", "tried", "fell"], rows, text_columns=3),
    ]
    if fallen:
        items = [
            (f"{trial.name}, ", blocks.Code(_again(trial)), f": {trial.detail}") for trial in fallen
        ]
        parts += [blocks.Heading("What fell"), blocks.Bullets(items)]
    return markdown.document("Torture", parts)


def _again(trial: Trial) -> str:
    """Return the flags that repeat a trial."""
    return f"--only={trial.kind} --seed={trial.seed} --files=1 --kills=1"


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.torture",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, default=0, help="of the first trial of each kind")
    parser.add_argument("--files", type=int, default=500, help="audio files, and tables")
    parser.add_argument("--kills", type=int, default=12, help="runs stopped; full disks: a quarter")
    parser.add_argument("--only", choices=KINDS, action="append", help="this kind, or these")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="at most")
    parser.add_argument("--keep", type=Path, help="work in this new folder and keep it")
    parser.add_argument("--out", type=Path, help="also write the table here, as Markdown")
    return parser.parse_args()


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep:
        keep.mkdir(parents=True)
        yield keep.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="ser_jax_torture_") as name:
        yield Path(name)


if __name__ == "__main__":
    sys.exit(main())
