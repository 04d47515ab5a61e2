"""The growth benchmark measures every stage, and reports and plots its results."""

import re

import pytest

from benchmarks import growth
from benchmarks.growth_stages import STAGES, Cost


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
            stage: Cost(seconds=n * each, n_examples=n, peak_mib=200 + n / 2**20)
            for stage in STAGES
        }
        for n, each in ((1000, 1e-4), (10_000, 2e-4))
    }
    output = growth.verdict(costs)
    assert "10,000 utterances: a streamed epoch takes 1.00 of the time in memory." in output
    for stage in STAGES:
        assert (
            f"{stage}: from 1,000 to 10,000 utterances an example takes 2.00 of the time; each "
            "utterance more adds 1 bytes to the peak." in output
        )
    growth.draw(costs, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


def test_a_failing_stage_gives_the_reason(tmp_path):
    with pytest.raises(SystemExit, match="error: load of 150 utterances failed:\n(.|\n)*Error"):
        growth.cost_of("load", 150, tmp_path)
