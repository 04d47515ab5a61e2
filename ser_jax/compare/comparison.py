"""Runs side by side, each number beside its protocol, and differences where they can be told.

python -m ser_jax.compare runs/cnn1d-tfds runs/cnn2d-tfds runs/paper-tfds --out=runs/compare
"""

import argparse
import collections
import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ser_jax.common import files
from ser_jax.common.errors import UserError, exit_with_message
from ser_jax.compare import compare_page
from ser_jax.compare import figure as compare_figure
from ser_jax.compare.compare_page import FACTS
from ser_jax.evaluate.finished_run import Run, load
from ser_jax.metrics import classification, predictions
from ser_jax.pages import figure
from ser_jax.train.replicas import chosen_replicas


def write(runs: Sequence[Run], out: Path) -> dict[str, Any]:
    """Writes compare.md, compare.csv, compare.json and compare.png.

    Args:
      runs: one or more, whose names differ.
      out: the folder to write to.

    Returns:
      What compare.json holds: `runs`, the `pairs` with the same test clips, and `not_comparable`,
      each of the other pairs with the reason.
    """
    found = {"runs": [_row(run) for run in runs], "pairs": [], "not_comparable": []}
    for a, b in itertools.combinations(runs, 2):
        pair, reason = {"a": a.name, "b": b.name}, not_comparable(a, b)
        if reason:
            found["not_comparable"].append({**pair, "reason": reason})
        else:
            found["pairs"].append({**pair, **_differences(a, b)})
    files.write_json(out / "compare.json", found)
    files.write_text(out / "compare.csv", compare_page.rows(found["runs"]))
    files.write_text(out / "compare.md", compare_page.page(found))
    figure.save(compare_figure.forest(runs), out / "compare.png")
    return found


def not_comparable(a: Run, b: Run) -> str:
    """Why there is no paired difference of two runs; "" if there is one."""
    if a.results["corpus"] != b.results["corpus"]:
        return "different corpora"
    if a.results["labels"] != b.results["labels"]:
        return "different classes"
    if a.test_sets == b.test_sets:
        return ""
    if frozenset().union(*a.test_sets) == frozenset().union(*b.test_sets):
        return "the same test clips, but in other folds"
    if a.results["unseen_speakers"] != b.results["unseen_speakers"]:
        return "seen and unseen speakers: different test clips"
    if a.results["protocol"] != b.results["protocol"]:
        protocols = sorted((a.results["protocol"], b.results["protocol"]))
        return f"protocols {' and '.join(protocols)}: different test clips"
    return "different test clips, as of other folds or of another seed of the split"


def _row(run: Run) -> dict[str, Any]:
    chosen = chosen_replicas(run.results)
    return {
        "name": run.name,
        "config": run.results["config"],
        **{fact: run.results[fact] for fact in FACTS},
        "n_replicas": len(chosen),
        "setting": chosen[0]["setting"],
        "intervals": {name: run.results["intervals"][name] for name in classification.HEADLINE},
    }


def _differences(a: Run, b: Run) -> dict[str, Any]:
    """a − b, and whether the interval excludes 0: None if there is no interval."""
    found = predictions.differences(a.predictions, b.predictions)
    for one in found.values():
        one["excludes_0"] = None if one["low"] is None else one["low"] > 0 or one["high"] < 0
    facts = ("unseen_speakers", "unseen_sentences", "n_test", "n_test_speakers")
    return {
        "protocol": " / ".join(dict.fromkeys(run.results["protocol"] for run in (a, b))),
        **{fact: a.results[fact] for fact in facts},
        "differences": found,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m ser_jax.compare", description=__doc__.splitlines()[0]
    )
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs that were evaluated")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/compare"), help="default: %(default)s"
    )
    flags = parser.parse_args(arguments)
    folders = [folder.resolve() for folder in flags.runs]
    twice = [folder for folder, n in collections.Counter(folders).items() if n > 1]
    if twice:
        raise UserError(f"{twice[0]} is given twice; name each run once.")
    runs = [load(folder) for folder in flags.runs]
    names = collections.Counter(run.name for run in runs)
    runs = [
        run if names[run.name] == 1 else dataclasses.replace(run, name=str(folder))
        for run, folder in zip(runs, flags.runs, strict=True)
    ]
    print(compare_page.page(write(runs, flags.out)))
    print(f"Written to {flags.out}: compare.md, compare.csv, compare.json, compare.png.")


if __name__ == "__main__":
    exit_with_message(main)
