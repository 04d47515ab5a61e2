"""Compare finished runs: their metrics, and paired differences on the same test clips."""

import collections
import csv
import io
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ser_jax.common import files
from ser_jax.compare import figure as compare_figure
from ser_jax.evaluate.finished_run import FinishedRun, chosen_replicas, failures
from ser_jax.metrics.classification import HEADLINE, TITLES
from ser_jax.metrics.intervals import paired_differences
from ser_jax.pages import figure, markdown
from ser_jax.pages.blocks import Block, Bullets, Figure, Heading, Strong, Table, Text
from ser_jax.pages.numbers import limits, mean_sd, points

# What identifies a run, as results.json has it.
FACTS = """model input protocol unseen_speakers unseen_sentences corpus n_test
    n_test_speakers""".split()


def write(runs: Sequence[FinishedRun], out: Path) -> dict[str, Any]:
    """Write compare.md, compare.csv, compare.json and compare.png; return compare.json's content.

    The runs have different names.
    """
    comparison = compare(runs)
    files.write_json(out / "compare.json", comparison)
    files.write_text(out / "compare.csv", runs_csv(comparison["runs"]))
    files.write_text(out / "compare.md", page(comparison))
    figure.save(compare_figure.forest(runs), out / "compare.png")
    return comparison


def compare(runs: Sequence[FinishedRun]) -> dict[str, Any]:
    """Return the content of compare.json.

    That is `runs`; `pairs` tested on the same clips, with their differences; and `not_comparable`,
    every other pair with the reason.
    """
    comparison = {"runs": [_summary(run) for run in runs], "pairs": [], "not_comparable": []}
    for a, b in itertools.combinations(runs, 2):
        names, reason = {"a": a.name, "b": b.name}, not_comparable(a, b)
        if reason:
            comparison["not_comparable"].append({**names, "reason": reason})
        else:
            comparison["pairs"].append({**names, **_differences(a, b)})
    return comparison


def not_comparable(a: FinishedRun, b: FinishedRun) -> str:
    """Return the reason why two runs have no paired difference; "" if they have one."""
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


def _summary(run: FinishedRun) -> dict[str, Any]:
    chosen = chosen_replicas(run.results)
    return {
        "name": run.name,
        "config": run.results["config"],
        **{fact: run.results[fact] for fact in FACTS},
        "n_replicas": len(chosen),
        "failures": failures(run.results),
        "setting": chosen[0]["setting"],
        "intervals": {metric: run.results["intervals"][metric] for metric in HEADLINE},
    }


def _differences(a: FinishedRun, b: FinishedRun) -> dict[str, Any]:
    """Return a − b, and whether each interval excludes 0: None if there is no interval."""
    differences = paired_differences(a.predictions, b.predictions)
    for score in differences.values():
        low, high = score["low"], score["high"]
        score["excludes_0"] = None if low is None else low > 0 or high < 0
    facts = ("unseen_speakers", "unseen_sentences", "n_test", "n_test_speakers")
    return {
        "protocol": " / ".join(dict.fromkeys(run.results["protocol"] for run in (a, b))),
        **{fact: a.results[fact] for fact in facts},
        "differences": differences,
    }


def runs_csv(runs: Iterable[dict[str, Any]]) -> str:
    """Return one row per run: its facts, then mean, sd and limits of each metric."""
    text = io.StringIO()
    statistics = ("mean", "sd", "low", "high")
    facts = ["name", "config", *FACTS, "n_replicas"]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*facts, *(f"{metric}_{s}" for metric in TITLES for s in statistics)])
    for run in runs:
        values = [run["intervals"][metric][s] for metric in TITLES for s in statistics]
        writer.writerow([run[fact] for fact in facts] + values)
    return text.getvalue()


def page(comparison: dict[str, Any]) -> str:
    """Return compare.md from the content of compare.json."""
    blocks = [
        _runs_table(comparison["runs"]),
        "Mean ± standard deviation over a run's replicas, in per cent. In brackets is a 95 % "
        "interval from a bootstrap over the test speakers: how far the mean would move with "
        "other speakers. With fewer than about 30 speakers it is somewhat too narrow. The "
        "effect of other seeds shows in the standard deviation alone, and not at all for a "
        "single replica.",
        Figure("compare.png", "The runs' metrics with intervals"),
        *_pairs(comparison["pairs"]),
        *_not_comparable(comparison["not_comparable"]),
    ]
    return markdown.document("Runs side by side", blocks)


def _runs_table(runs: Iterable[dict[str, Any]]) -> Table:
    columns = ["run", "model", "input", "protocol", "test speakers", "corpus", "replicas"]
    columns += ["test clips", *TITLES.values()]
    rows = []
    for run in runs:
        row = [run["name"], run["model"], run["input"], run["protocol"], _speakers(run)]
        replicas = "; ".join(filter(None, (f"{run['n_replicas']}", run["failures"])))
        row += [run["corpus"], replicas, f"{run['n_test']:,}"]
        rows.append([*row, *(_score(run["intervals"][metric]) for metric in TITLES)])
    return Table(columns, rows, text_columns=len(columns))


def _pairs(pairs: Sequence[dict[str, Any]]) -> list[Block]:
    if not pairs:
        return []
    rows = []
    for pair in pairs:
        row = [f"{pair['a']} − {pair['b']}", pair["protocol"], _speakers(pair)]
        differences = [_difference(pair["differences"][metric]) for metric in TITLES]
        rows.append([*row, f"{pair['n_test']:,}", *differences])
    columns = ["difference", "protocol", "test speakers", "test clips", *TITLES.values()]
    return [
        Heading("Differences on the same test clips"),
        Table(columns, rows, text_columns=len(columns)),
        (
            "In percentage points, with a 95 % interval from a bootstrap that resamples the "
            "same speakers for both runs. ",
            Strong("Bold"),
            ": the interval excludes 0. It takes the trainings as given: weigh a difference "
            "against the standard deviations above before calling one model better than "
            "another. One in 20 such intervals misses by chance.",
        ),
    ]


def _not_comparable(pairs: Sequence[dict[str, str]]) -> list[Block]:
    if not pairs:
        return []
    by_reason = collections.defaultdict(list)
    for pair in pairs:
        by_reason[pair["reason"]].append(f"{pair['a']} and {pair['b']}")
    reasons = [f"{reason}: {'; '.join(names)}" for reason, names in by_reason.items()]
    return [Heading("Not comparable"), Bullets(reasons)]


def _speakers(run: dict[str, Any]) -> Text:
    seen = "unseen" if run["unseen_speakers"] else Strong("seen")
    training = "" if run["unseen_speakers"] else " in training"
    sentences = ", sentences unseen too" if run["unseen_sentences"] else ""
    return f"{run['n_test_speakers']}, ", seen, f"{training}{sentences}"


def _score(score: dict[str, float | None]) -> str:
    return mean_sd(score["mean"], score["sd"]) + limits(score["low"], score["high"])


def _difference(score: dict[str, Any]) -> Text:
    difference = points(score["difference"])
    interval = limits(score["low"], score["high"], "+.1f")
    return Strong(difference) if score["excludes_0"] else difference, interval
