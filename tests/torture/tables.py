"""Damaged tables of a corpus through its reader, the checks before a training, and the commands."""

import contextlib
import re
import shutil
import signal
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile

from data_prep.prepare import read_corpus
from ser_jax.audio.listing import audio_in
from ser_jax.common.errors import UserError
from ser_jax.train.experiment import check_corpus
from tests.torture import commands, spreadsheets
from tests.torture.trial import Trial

_SHARE = 250  # one table of so many goes through the commands, which take seconds
_LIMIT = 20.0  # s, in which a table is read


def run(seed: int, count: int, folder: Path) -> Iterator[Trial]:
    """See tests/torture/trial.py."""
    commands.must(commands.launch(folder, "train", "--config.train.epochs=1"), folder)
    write_audio(folder / "tables")
    for number in range(seed, seed + count):
        yield attempt(number, folder, with_commands=number % _SHARE == 0 or count == 1)


def write_audio(folder: Path) -> None:
    """Write the files that the tables list."""
    for name in spreadsheets.FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        noise_S = 0.1 * np.random.default_rng(0).standard_normal(6400)
        soundfile.write(folder / name, noise_S, 16_000)


def attempt(seed: int, folder: Path, *, with_commands: bool) -> Trial:
    """Read the table that belongs to a seed, in folder/tables, in every way."""
    sheet = spreadsheets.make(seed)
    table = folder / "tables" / "table.csv"
    table.write_bytes(sheet.content)
    split = ("speaker_kfold", "column", "random_file", "speaker_sentence")[seed % 4]
    config = _config(table, split)
    read = {
        "read": lambda: read_corpus(config).utterances,
        "check": lambda: check_corpus(config, read_corpus(config)),
        "list": lambda: audio_in(table),
    }
    answers = {name: _answer(function) for name, function in read.items()}
    faults = [f"{name}: {text}" for name, (kind, text) in answers.items() if kind == "fell"]
    for name, function in read.items():
        if not faults and (again := _answer(function)) != answers[name]:
            faults.append(f"{name} said {answers[name]!r}, then {again!r}")
    if not faults and sheet.whole is not None:
        table.write_bytes(sheet.whole)
        kind, text = _answer(read["read"])
        if (kind, _placeless(text)) != (answers["read"][0], _placeless(answers["read"][1])):
            faults.append(f"the undamaged table gives {text!r}, this {answers['read'][1]!r}")
        table.write_bytes(sheet.content)
    if with_commands and not faults:
        faults = _run_commands(folder, table, answers["read"])
    if faults:
        shutil.copy(table, folder / f"table_{seed}.csv")
    outcome = answers["read"][0]
    return Trial("tables", sheet.damage, seed, outcome, "; ".join(faults)[:3000])


def _config(table: Path, split: str):
    from configs import cnn2d

    config = cnn2d.get_config("demo")
    config.corpus.name, config.corpus.root = "csv", str(table)
    config.split.name, config.split.n_folds = split, 3
    config.train.batch_size = 2
    return config


def _answer(function: Callable[[], object]) -> tuple[str, str]:
    """Return ("read", what), ("refused", why) or ("fell", how)."""
    try:
        with _time_limit():
            return "read", repr(function())
    except UserError as error:
        text = str(error)
        if len(text) > 3000 or "\n" in text:
            return "fell", f"a message of {len(text)} characters: {text[:200]!r}"
        return "refused", text
    except Exception:
        return "fell", traceback.format_exc()[-1500:]


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    def late(*args: object) -> None:
        raise TimeoutError(f"not ended after {_LIMIT:.0f} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, _LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _placeless(text: str) -> str:
    """Return utterances, of the table with a note less, without the lines they stand in."""
    return re.sub(r"line \d+", "", text)


def _run_commands(folder: Path, table: Path, answer: tuple[str, str]) -> list[str]:
    """Run verify, prepare and predict, and return what is wrong with what they do."""
    out = folder / "out"
    further = ["--config.corpus.name=csv", f"--config.corpus.root={table}"]
    prepare = commands.launch(out, "prepare", *further, "--config.augmentation.views=()")
    workdir = f"--workdir={folder / 'run'}"
    faults = []
    for name, arguments in {
        "verify": ["-m", "data_prep.verify", f"--root={table}", "--corpus=csv"],
        "prepare": prepare,
        "predict": ["-m", "ser_jax.predict", workdir, "--format=csv", str(table)],
    }.items():
        texts = []
        for _ in range(2):
            shutil.rmtree(out, ignore_errors=True)
            ended = commands.run(arguments, folder)
            if trouble := ended.trouble((0, 1)):
                faults.append(f"{name}: {trouble}")
            if name == "prepare" and answer[0] == "refused" and answer[1] not in ended.err:
                faults.append(f"{name} said {ended.err[-500:]!r} and the reader {answer[1]!r}")
            texts.append(ended.out)
        if texts[0] != texts[1]:
            faults.append(f"{name} said {texts[0][-500:]!r}, then {texts[1][-500:]!r}")
    return faults
