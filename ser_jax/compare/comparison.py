"""Runs side by side, each number beside its protocol, and differences where they can be told.

python -m ser_jax.compare runs/cnn1d-tfds runs/cnn2d-tfds runs/paper-tfds --out=runs/compare
"""

import collections
import csv
import io
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ser_jax.common import files
from ser_jax.compare import figure as compare_figure
from ser_jax.evaluate.finished_run import FinishedRun, chosen_replicas
from ser_jax.metrics import classification, intervals
from ser_jax.metrics.classification import TITLES
from ser_jax.pages import figure
from ser_jax.pages.markdown import escape, table
from ser_jax.pages.numbers import limits, mean_sd, points


def write(runs: Sequence[FinishedRun], out: Path) -> dict[str, Any]:
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
    files.write_text(out / "compare.csv", rows(found["runs"]))
    files.write_text(out / "compare.md", page(found))
    figure.save(compare_figure.forest(runs), out / "compare.png")
    return found


def not_comparable(a: FinishedRun, b: FinishedRun) -> str:
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


def _row(run: FinishedRun) -> dict[str, Any]:
    chosen = chosen_replicas(run.results)
    return {
        "name": run.name,
        "config": run.results["config"],
        **{fact: run.results[fact] for fact in FACTS},
        "n_replicas": len(chosen),
        "setting": chosen[0]["setting"],
        "intervals": {name: run.results["intervals"][name] for name in classification.HEADLINE},
    }


def _differences(a: FinishedRun, b: FinishedRun) -> dict[str, Any]:
    """a − b, and whether the interval excludes 0: None if there is no interval."""
    found = intervals.paired_differences(a.predictions, b.predictions)
    for one in found.values():
        one["excludes_0"] = None if one["low"] is None else one["low"] > 0 or one["high"] < 0
    facts = ("unseen_speakers", "unseen_sentences", "n_test", "n_test_speakers")
    return {
        "protocol": " / ".join(dict.fromkeys(run.results["protocol"] for run in (a, b))),
        **{fact: a.results[fact] for fact in facts},
        "differences": found,
    }


# What a run is, as results.json has it.
FACTS = """model input protocol unseen_speakers unseen_sentences corpus n_test
    n_test_speakers""".split()


def page(found: dict[str, Any]) -> str:
    """compare.md from what compare.json holds."""
    parts = [
        "# Runs side by side",
        runs_table(found["runs"]),
        "Mean ± standard deviation over a run's replicas, in per cent, and in brackets a 95 % "
        "interval by bootstrap over the test speakers: how far the mean would move with other "
        "speakers. With fewer than about 30 speakers it is somewhat too narrow. How much other "
        "seeds would change is told by the standard deviation alone, and by nothing where there "
        "is one replica.",
        "![The runs' metrics with intervals](compare.png)",
        *_pairs(found["pairs"]),
        *_others(found["not_comparable"]),
    ]
    return "\n\n".join(parts) + "\n"


def runs_table(rows: Sequence[dict[str, Any]]) -> str:
    """What was run and what it gave, in Markdown."""
    columns = ["run", "model", "input", "protocol", "test speakers", "corpus", "replicas"]
    cells = [
        [
            *(escape(row[fact]) for fact in ("name", "model", "input", "protocol")),
            _speakers(row),
            escape(row["corpus"]),
            f"{row['n_replicas']}",
            f"{row['n_test']:,}",
            *(_score(row["intervals"][name]) for name in TITLES),
        ]
        for row in rows
    ]
    return table([*columns, "test clips", *TITLES.values()], cells, "---")


def _pairs(pairs: Sequence[dict[str, Any]]) -> list[str]:
    if not pairs:
        return []
    cells = [
        [
            f"{escape(pair['a'])} − {escape(pair['b'])}",
            escape(pair["protocol"]),
            _speakers(pair),
            f"{pair['n_test']:,}",
            *(_difference(pair["differences"][name]) for name in TITLES),
        ]
        for pair in pairs
    ]
    columns = ["difference", "protocol", "test speakers", "test clips", *TITLES.values()]
    return [
        "## Differences on the same test clips",
        table(columns, cells, "---"),
        "In points, with a 95 % interval by a bootstrap that gives both runs the same speakers. "
        "**Bold**: the interval excludes 0. It takes the trainings as they are: hold it against "
        "the standard deviations above before calling one model better than another. And of 20 "
        "such intervals one misses by chance.",
    ]


def _others(pairs: Sequence[dict[str, str]]) -> list[str]:
    if not pairs:
        return []
    by_reason = collections.defaultdict(list)
    for pair in pairs:
        by_reason[pair["reason"]].append(f"{escape(pair['a'])} and {escape(pair['b'])}")
    lines = [f"- {escape(why)}: {'; '.join(names)}" for why, names in by_reason.items()]
    return ["## Not comparable", "\n".join(lines)]


def _speakers(row: dict[str, Any]) -> str:
    seen = "unseen" if row["unseen_speakers"] else "**seen** in training"
    sentences = ", sentences unseen too" if row["unseen_sentences"] else ""
    return f"{row['n_test_speakers']}, {seen}{sentences}"


def _score(score: dict[str, float | None]) -> str:
    return mean_sd(score["mean"], score["sd"]) + limits(score["low"], score["high"])


def _difference(score: dict[str, Any]) -> str:
    text = points(score["difference"])
    text = f"**{text}**" if score["excludes_0"] else text
    return text + limits(score["low"], score["high"], "+.1f")


def rows(runs: Sequence[dict[str, Any]]) -> str:
    """One row a run: what it is, then mean, sd and limits of each metric."""
    text = io.StringIO()
    values = ("mean", "sd", "low", "high")
    facts = ["name", "config", *FACTS, "n_replicas"]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*facts, *(f"{name}_{value}" for name in TITLES for value in values)])
    for row in runs:
        numbers = [row["intervals"][name][value] for name in TITLES for value in values]
        writer.writerow([row[fact] for fact in facts] + numbers)
    return text.getvalue()
