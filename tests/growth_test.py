"""The growth benchmark measures every stage, and reports and plots its results."""

import re

import pytest

from benchmarks import growth
from benchmarks.growth import STAGES, Cost


def test_growth_measures_every_stage(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["growth", "--utterances=200"])
    growth.main()
    output = capsys.readouterr().out
    rows = re.findall(r"^\| (\d+) \| (.+?) \| (\S+) \| (\S+) \| (\S+) \|$", output, re.MULTILINE)
    assert [(n, stage) for n, stage, *_ in rows] == [("200", stage) for stage in STAGES]
    assert all(float(number) > 0 for row in rows for number in row[2:])
    assert "200 utterances: a streamed epoch takes" in output


def test_sizes_are_compared_and_plotted(tmp_path):
    costs = {
        n: {
            stage: Cost(seconds=n * seconds, n_examples=n, peak_mib=200 + n / 2**20)
            for stage in STAGES
        }
        for n, seconds in ((1000, 1e-4), (10_000, 2e-4))
    }
    output = growth.verdict(costs)
    assert "10,000 utterances: a streamed epoch takes 1.00 times as long as in memory." in output
    for stage in STAGES:
        assert (
            f"{stage}: from 1,000 to 10,000 utterances, time per example × 2.00; each additional "
            "utterance adds 1 bytes to the peak." in output
        )
    growth.draw(costs, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


def test_a_failing_stage_gives_the_reason(tmp_path):
    with pytest.raises(SystemExit, match="error: .*--stage=load.* failed.\n(.|\n)*Error"):
        growth.measure_stage("load", 150, tmp_path)
