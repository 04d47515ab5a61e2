"""A small share of `make torture`: what takes no process of its own."""

import collections

import numpy as np
import pytest

from data_prep.verify.clip import check_clip
from ser_jax.audio import waveform
from ser_jax.common.errors import UserError
from tests.torture import commands, mutants, spreadsheets, tables
from tests.torture.__main__ import report
from tests.torture.kills import differences
from tests.torture.trial import Trial

# Others than those that the command begins with.
SEEDS = range(1_000_000, 1_000_080)


def test_damaged_audio_is_read_alike_twice_or_refused(tmp_path):
    outcomes = set()
    for seed in SEEDS:
        mutant = mutants.make(seed, tmp_path)
        answers = []
        for _ in range(2):
            np.full(10**6, 0.5)  # what is freed here must not come back as samples
            try:
                answers.append(waveform.load(mutant.path, 16_000).tobytes())
            except UserError as error:
                answers.append(str(error))
        assert answers[0] == answers[1], mutant
        check = check_clip(tmp_path, mutant.path.name)
        assert "Error:" not in check.detail, (mutant, check)  # as of an exception in its handler
        outcomes.add(type(answers[0]))
        if mutant.promise == "read":
            assert isinstance(answers[0], bytes), mutant
        if mutant.promise == "noted":
            assert check.fault or check.remarks, mutant
    assert outcomes == {bytes, str}


def test_damaged_tables_are_read_alike_twice_or_refused(tmp_path):
    tables.write_audio(tmp_path / "tables")
    trials = [tables.attempt(seed, tmp_path, with_commands=False) for seed in SEEDS]
    assert not [trial for trial in trials if trial.fell]
    assert {trial.outcome for trial in trials} == {"read", "refused"}


def test_a_seed_repeats_its_trial(tmp_path):
    ways = collections.defaultdict(set)
    for seed in [*SEEDS[:30], *SEEDS[:30]]:
        mutant = mutants.make(seed, tmp_path)
        ways[seed].add((mutant, mutant.path.read_bytes()))
    assert {len(way) for way in ways.values()} == {1}
    assert spreadsheets.make(7) == spreadsheets.make(7)


@pytest.mark.parametrize(
    ("ended", "trouble"),
    [
        (commands.Ended(0, "", "", 1.0), ""),
        (commands.Ended(1, "", "error: no.", 1.0), ""),
        (commands.Ended(-11, "", "", 1.0), "exit code -11"),
        (commands.Ended(1, "", "Traceback (most recent call last):", 1.0), "a traceback"),
        (commands.Ended(-9, "", "", 90.0, timed_out=True), "not ended after 90 s"),
    ],
)
def test_trouble_is_recognised(ended, trouble):
    assert ended.trouble((0, 1)).startswith(trouble) and bool(trouble) == bool(
        ended.trouble((0, 1))
    )


def test_states_that_differ_are_described():
    assert differences({"a": "1", "b": "2"}, {"a": "0", "c": "3"}) == [
        "b is missing",
        "c is too much",
        "a differs",
    ]


def test_what_fell_is_in_the_report_with_its_seed():
    trials = [
        Trial("audio", "FLAC", 3, "read"),
        Trial("audio", "FLAC", 4, "refused", "differs"),
        Trial("kills", "train, kill -9", 3, "resumed"),
    ]
    text = report(trials, "make torture", 2.0)
    assert "| audio | FLAC | 1 read, 1 refused | 2 | 1 |" in text
    assert "| kills | train, kill -9 | 1 resumed | 1 | 0 |" in text
    assert "3 trials in 2 minutes, 1 fell" in text and "--only=audio --seed=4" in text
