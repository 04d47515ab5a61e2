"""The examples of CONTRIBUTING.md run as they stand there, pasted at Python's prompt."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PROMPT = """\
import code, sys
console = code.InteractiveConsole()
for line in [*sys.stdin.read().splitlines(), ""]:
    console.push(line)
"""
EXAMPLES = dict(re.findall(r"^## (Add .+?)\n.+?^```python\n(.+?)^```", TEXT, re.M | re.S))


def test_every_kind_of_addition_has_an_example():
    added = [title.removeprefix("Add a ") for title in EXAMPLES]
    assert added == ["corpus", "feature", "model", "metric", "figure"]


@pytest.mark.parametrize("title", EXAMPLES)
def test_example_runs(title):
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROMPT],
        input=EXAMPLES[title],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert not run.stderr


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/guide.md"])
def test_links_lead_to_files(page):
    folder = (ROOT / page).parent
    for target in re.findall(
        r"\]\((?!https?:)([^)#]+)\)", (ROOT / page).read_text(encoding="utf-8")
    ):
        assert (folder / target).exists(), target
