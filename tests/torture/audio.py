"""Damaged audio files through verify, prepare and predict, twice, in random order."""

import csv
import hashlib
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from tests.torture import commands
from tests.torture.mutants import Mutant, make
from tests.torture.trial import Trial

_BATCH = 1000
_LEAST, _PER_FILE = 300.0, 0.5  # s, in which a command ends

_NUMBER = re.compile(r"\b[01]\.\d{6}\b")
_SHORT = "shorter than any training clip"  # which all of them are

# {seed: what a command says of the file}
Answers = dict[int, str]


class FellError(Exception):
    """A command that did what it must not; which of its files made it do so is not known."""


def run(seed: int, count: int, folder: Path) -> Iterator[Trial]:
    """See tests/torture/trial.py; a batch of files goes through the same processes."""
    commands.must(commands.launch(folder, "train", "--config.train.epochs=1"), folder)
    for first in range(seed, seed + count, _BATCH):
        seeds = range(first, min(first + _BATCH, seed + count))
        batch_dir = folder / f"batch_{first}"
        (batch_dir / "made").mkdir(parents=True)
        mutants = [make(s, batch_dir / "made") for s in seeds]
        details: dict[int, list[str]] = {s: [] for s in seeds}
        passes = []
        for number in (1, 2):
            order = np.random.default_rng((first, number)).permutation(len(mutants))
            ordered = [mutants[i] for i in order]
            passes.append(
                {
                    name: _answers(command, ordered, folder, batch_dir / name, details)
                    for name, command in COMMANDS.items()
                }
            )
        for mutant in mutants:
            yield _judge(mutant, *passes, details[mutant.seed])
        shutil.rmtree(batch_dir)


def _answers(
    command: Callable[[Sequence[Mutant], Path, Path], Answers],
    mutants: Sequence[Mutant],
    base: Path,
    folder: Path,
    details: dict[int, list[str]],
) -> Answers:
    """Return what a command says of each file; where it falls, find the files that make it fall."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        return command(mutants, base, folder)
    except FellError as fall:
        if len(mutants) == 1:
            details[mutants[0].seed].append(str(fall))
            return {mutants[0].seed: "fell"}
    half = len(mutants) // 2
    answers = _answers(command, mutants[:half], base, folder, details)
    return answers | _answers(command, mutants[half:], base, folder, details)


def _judge(
    mutant: Mutant, first: dict[str, Answers], second: dict[str, Answers], details: list[str]
) -> Trial:
    for name in COMMANDS:
        answers = [p[name].get(mutant.seed, "no answer") for p in (first, second)]
        if "no answer" in answers or not _same(*answers):
            details = [*details, f"{name} said {answers[0]!r}, then {answers[1]!r}"]
    predicted, prepared = first["predict"].get(mutant.seed, ""), first["prepare"].get(mutant.seed)
    outcome = "refused" if predicted.startswith("error") else "read"
    if outcome == "read" and not predicted.endswith(("|", _SHORT)):
        outcome = "read with a note"
    if prepared and (outcome == "refused") != prepared.startswith("left out"):
        details = [*details, f"predict said {predicted!r} and prepare {prepared!r}"]
    if (mutant.promise, outcome) in (("read", "refused"), ("noted", "read")) and not details:
        details = [f"must be {mutant.promise}, and predict said {predicted!r}"]
    detail = "; ".join(details)
    return Trial("audio", mutant.format, mutant.seed, outcome, detail and f"{mutant}: {detail}")


def _same(a: str, b: str) -> bool:
    """Return whether answers are equal; probabilities depend on the batch in their last digits."""
    if _NUMBER.sub("#", a) != _NUMBER.sub("#", b):
        return False
    numbers = [np.array(_NUMBER.findall(text), float) for text in (a, b)]
    return np.allclose(*numbers, atol=1e-4, rtol=0)


def _place(mutants: Sequence[Mutant], folder: Path) -> None:
    """Put the files into a folder under names that sort in their order."""
    folder.mkdir()
    for rank, mutant in enumerate(mutants):
        (folder / f"{rank:06}_{mutant.path.name}").hardlink_to(mutant.path)


def _plain(text: str, folder: Path) -> str:
    """Return a message without what differs between two passes."""
    return re.sub(r"\d{6}_(?=m\d)", "", text.replace(f"{folder}/", ""))


def _seed_of(name: str) -> int:
    return int(re.search(r"m(\d+)", name)[1])


def _run(arguments: Sequence[str], base: Path, n_files: int) -> commands.Ended:
    ended = commands.run(arguments, base, _LEAST + _PER_FILE * n_files)
    if trouble := ended.trouble((0, 1)):
        raise FellError(f"{arguments[0:2]}: {trouble}")
    return ended


def verify(mutants: Sequence[Mutant], base: Path, folder: Path) -> Answers:
    """Run data_prep.verify on a table of the files."""
    root = _table(mutants, folder)
    report = folder / "report.json"
    arguments = ["-m", "data_prep.verify", f"--root={root}", "--corpus=csv", f"--json={report}"]
    ended = _run(arguments, base, len(mutants))
    if ended.err or not report.exists():
        raise FellError(f"verify: {ended.err[-1000:]}")
    findings = json.loads(report.read_text())
    answers: dict[int, list[str]] = {mutant.seed: [] for mutant in mutants}
    for finding in [*findings["wrong"], *findings["known"], *findings["noted"]]:
        if finding["kind"] == "reader":
            raise FellError(f"verify: {finding['detail']}")
        if finding["kind"] == "identical":  # depends on the other files of the batch
            continue
        for name in finding["files"]:
            text = f"{finding['kind']}: {_plain(finding['detail'], folder / 'files')}"
            answers.setdefault(_seed_of(name), []).append(text)
    return {seed: " | ".join(sorted(texts)) for seed, texts in answers.items()}


def prepare(mutants: Sequence[Mutant], base: Path, folder: Path) -> Answers:
    """Run launch.py --mode=prepare on a table of the files, and of two that are sound."""
    root = _table(mutants, folder, sorted((base / "corpus").rglob("*.wav"))[:2])
    arguments = commands.launch(
        folder,
        "prepare",
        "--config.corpus.name=csv",
        f"--config.corpus.root={root}",
        "--config.augmentation.views=()",
    )
    ended = _run(arguments, base, len(mutants))
    if ended.err or ended.code:
        raise FellError(f"prepare: {ended.err[-1000:]}")
    import tensorflow_datasets as tfds

    (metadata,) = (folder / "records").rglob("metadata.json")
    answers = {
        _seed_of(name): f"left out: {_plain(reason, folder / 'files')}"
        for name, reason in json.loads(metadata.read_text())["left_out"].items()
    }
    for record in tfds.builder_from_directory(metadata.parent).as_data_source("original"):
        name = record["id"].decode()
        if not name.startswith("sound"):
            digest = hashlib.sha256(b"".join(p.tobytes() for p in record["planes"].values()))
            answers[_seed_of(name)] = f"{record['n_frames']} frames, {digest.hexdigest()[:16]}"
    return answers


def predict(mutants: Sequence[Mutant], base: Path, folder: Path, *options: str) -> Answers:
    """Run ser_jax.predict on a folder with the files."""
    _place(mutants, folder / "files")
    out = folder / "predictions.csv"
    workdir = f"--workdir={base / 'run'}"
    arguments = ["-m", "ser_jax.predict", workdir, "--format=csv", f"--out={out}", *options]
    ended = _run([*arguments, str(folder / "files")], base, len(mutants))
    lines = [line for line in ended.err.splitlines() if not line.startswith("note: windows of")]
    if len(lines) != 1 or not re.match(r"[\d,]+ files?[, ]", lines[0]) or not out.exists():
        raise FellError(f"predict: {ended.err[-1000:]}")
    answers: dict[int, str] = {}
    with io.StringIO(out.read_text(encoding="utf-8"), newline="") as file:
        for row in csv.DictReader(file):
            seed, note = _seed_of(row["path"]), _plain(row["note"], folder / "files")
            values = " ".join(value for key, value in row.items() if key not in ("path", "note"))
            answers[seed] = "\n".join(filter(None, (answers.get(seed), f"{values}|{note}")))
    return answers


def windows(mutants: Sequence[Mutant], base: Path, folder: Path) -> Answers:
    """Run ser_jax.predict on windows of the files."""
    return predict(mutants, base, folder, "--window=0.2")


def _table(mutants: Sequence[Mutant], folder: Path, sound: Sequence[Path] = ()) -> Path:
    """Write a corpus of the files, and return its table."""
    _place(mutants, folder / "files")
    paths = sorted((folder / "files").iterdir())
    for number, path in enumerate(sound):
        paths.append(folder / "files" / f"sound{number}.wav")
        shutil.copy(path, paths[-1])
    table = folder / "files" / "corpus.csv"
    rows = [f"{path.name},{'ab'[i % 2]},{i % 4}\n" for i, path in enumerate(paths)]
    table.write_text("path,emotion,speaker\n" + "".join(rows))
    return table


COMMANDS = {"verify": verify, "prepare": prepare, "predict": predict, "windows": windows}
