"""What a run report says, as a list of blocks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ser_jax.common.provenance import as_text
from ser_jax.evaluate.finished_run import chosen_replicas, failures
from ser_jax.metrics import classification
from ser_jax.pages.blocks import Block, Code, Figure, Heading, Strong, Table, Text
from ser_jax.pages.numbers import percent
from ser_jax.report import trainings, wording
from ser_jax.report.wording import Epochs, interval_text, score_text

METRICS = {**classification.TITLES, "weighted_f1": "weighted F1"}
MOST_ROWS = 25  # an attribute with more values is summarised in a sentence
CONFUSION = Figure("confusion.png", "Confusion matrix of the model")
HUMAN = Figure("human.png", "Confusion matrix of the listeners beside the model's")


def blocks(epochs: Epochs, results: dict[str, Any], command: str = "") -> list[Block]:
    """Return all of a run report but its title; see run_report.write."""
    return [
        _scores(results),
        _reading(epochs, results),
        _facts(epochs, results),
        *_perceived(results),
        Heading("Per class"),
        _per_class(results),
        CONFUSION,
        *([HUMAN] if "human" in results else []),
        *_breakdown(results),
        *_calibration(results),
        *trainings.blocks(epochs, results, command),
    ]


def _scores(results: dict[str, Any]) -> Table:
    counts_CxC, human = np.array(results["confusion"], float), results.get("human", {})
    support_C = counts_CxC.sum(1)
    majority_CxC = np.zeros_like(counts_CxC)
    majority_CxC[:, support_C.argmax()] = support_C  # predicts one class for every clip
    columns = ["", Strong("model"), "95 % interval", "chance", "majority class"]
    columns += ["listeners, each rating", "listeners, plurality"] if human else []
    rows = []
    for key, title in METRICS.items():
        score = results["intervals"][key]
        chance = 1 / len(counts_CxC) if key in ("accuracy", "uar") else None
        references = [chance, classification.HEADLINE[key](majority_CxC)]
        references += [human.get(key), human.get(f"plurality_{key}")] if human else []
        rows.append(
            [title, Strong(score_text(score)), interval_text(score), *map(percent, references)]
        )
    if ensemble := results.get("ensemble"):  # earlier runs have none
        for key, title in METRICS.items():
            score = ensemble["intervals"][key]
            name = f"{title}, mean probability of {ensemble['n_seeds']} seeds"
            blank = [""] * (len(columns) - 3)
            rows.append([name, Strong(score_text(score)), interval_text(score), *blank])
    return Table(columns, rows, "Scores on the test clips")


def _reading(epochs: Epochs, results: dict[str, Any]) -> str:
    """Explain what the scores and their intervals cover, and what they do not."""
    n_trainings, n_speakers = len(chosen_replicas(results)), results["n_test_speakers"]
    fitted = wording.is_fitted(epochs)
    text = (
        f"Mean ± standard deviation over {n_trainings} trainings, "
        f"{wording.seeds_and_folds(epochs, results)}."
        if n_trainings > 1
        else "One training, in which nothing is random."
        if fitted
        else "One training: the variation between seeds is unknown."
    )
    if n_speakers > 1:
        few = "; with so few speakers it is somewhat too narrow" if n_speakers < 30 else ""
        text += (
            f" The interval is a bootstrap over the {n_speakers} test speakers: it covers which "
            f"speakers of this corpus were tested, but {'not' if fitted else 'neither seeds nor'} "
            f"other corpora{few}."
        )
    return (
        f"{text} Chance is a uniform guess among {len(results['labels'])} classes. UAR "
        "(unweighted average recall) is the mean of the per-class recalls."
    )


def _facts(epochs: Epochs, results: dict[str, Any]) -> Table:
    unseen = "unseen in training"
    seen = (Strong("seen in training"), ": expect lower scores for new speakers")
    first = " (first fold)" if len(wording.distinct(results, "fold")) > 1 else ""
    chosen = chosen_replicas(results)
    best_epochs = sorted({replica["best_epoch"] for replica in chosen})
    best = "–".join(map(str, dict.fromkeys((best_epochs[0], best_epochs[-1]))))
    last = max(epochs[replica["replica"]][-1]["epoch"] for replica in chosen)
    n_speakers = results["n_test_speakers"]
    facts: dict[str, Text] = {
        "corpus": results["corpus"],
        "input": results["input"],
        "protocol": results["protocol"],
        "test speakers": unseen if results["unseen_speakers"] else seen,
        "test sentences": unseen if results["unseen_sentences"] else "",
        "aimed at": "" if results.get("targets", "labels") == "labels" else results["targets"],
        "trainings": f"{len(chosen)}: {wording.seeds_and_folds(epochs, results)}",
        "left out": failures(results),
        "chosen on validation": wording.setting_text(chosen[0]["setting"]),
        "training": f"{results['n_train']:,} clips{_examples(results)}{first}",
        "validation": f"{results['n_val']:,} clips{first}",
        "test": f"{results['n_test']:,} clips of {n_speakers} speaker{'s' * (n_speakers != 1)}",
        "clips left out": f"{n:,}, which could not be used; data_prep.verify names them"
        if (n := results.get("n_left_out", 0))
        else "",
        "best epoch": "" if wording.is_fitted(epochs) else f"{best} of {last:.0f}",
    }
    if "human" in results:
        human = results["human"]
        facts["listeners"] = f"{human['n_ratings']:,} ratings of {human['n_clips']:,} clips"
    facts |= _provenance(results)
    rows = [(name, text) for name, text in facts.items() if text]
    return Table(["", ""], rows, "The run", text_columns=2)


def _examples(results: dict[str, Any]) -> str:
    n = results["n_train_examples"]
    return f", {n:,} examples with their augmented views" if n > results["n_train"] else ""


def _provenance(results: dict[str, Any]) -> dict[str, Text]:
    """Return what computed the run, and where the test was computed with something else."""
    by_part = results.get("provenance", {})
    training, test = (as_text(by_part.get(part)) for part in ("training", "evaluation"))
    other = {name: text for name, text in test.items() if text != training.get(name)}
    return training | {f"{name} of the test": text for name, text in other.items()}


def _perceived(results: dict[str, Any]) -> list[Block]:
    if not results.get("perceived"):
        return []
    intended, perceived = results["intervals"]["accuracy"], results["perceived"]
    rows = [
        [name, percent(score["accuracy"]), interval_text(interval), percent(score["uar"]), f"{n:,}"]
        for name, score, interval, n in (
            ("intended emotion", results, intended, results["n_test"]),
            ("perceived emotion", perceived, perceived, perceived["n_clips"]),
        )
    ]
    columns = ["scored against the", "accuracy", "95 % interval", "UAR", "clips"]
    return [
        Heading("Intended and perceived"),
        Table(columns, rows, "Accuracy against the intended and the perceived emotion"),
        "The perceived emotion of a clip is its most frequent vote; where votes tie, each tied "
        "emotion counts as correct.",
    ]


def _per_class(results: dict[str, Any]) -> Table:
    groups = {group["value"]: group for group in results["breakdown"]["emotion"]}
    recalls = results["human"]["recall"] if "human" in results else None
    columns = ["class", "clips", "precision", "recall", "95 % interval", "F1"]
    columns += ["listeners' recall"] if recalls else []
    rows = []
    for i, (label, scores) in enumerate(results["per_class"].items()):
        group = groups.get(label, {"n": 0, "low": None})  # no test clip of this class
        row = [label, f"{group['n']:,}", percent(scores["precision"]), percent(scores["recall"])]
        row += [interval_text(group), percent(scores["f1"])]
        rows.append([*row, percent(recalls[i])] if recalls else row)
    return Table(columns, rows, "Scores of each class")


def _breakdown(results: dict[str, Any]) -> list[Block]:
    parts = [
        Heading("Breakdown"),
        "Intervals are a bootstrap over speakers. A group with a single speaker has one over "
        "its clips instead, marked *, which says nothing about other speakers.",
        Figure(
            "breakdown.png",
            "Accuracy with its interval, by class and by each attribute; the tables of this page "
            "hold the numbers",
        ),
    ]
    for attribute, groups in results["breakdown"].items():
        # The table of classes has the emotions; a single group is the whole test part.
        if attribute != "emotion" and len(groups) > 1:
            summarise = _extremes if len(groups) > MOST_ROWS else _groups
            parts.append(summarise(attribute.replace("_", " "), groups))
    return parts


def _groups(attribute: str, groups: Sequence[Mapping[str, Any]]) -> Table:
    columns = [attribute, "clips", "speakers", "accuracy", "95 % interval"]
    columns += ["listeners"] if any(group["human"] is not None for group in groups) else []
    rows = []
    for group in groups:
        row = [group["value"], f"{group['n']:,}", f"{group['n_speakers']:,}"]
        row += [percent(group["accuracy"]), interval_text(group), percent(group["human"])]
        rows.append(row[: len(columns)])
    return Table(columns, rows, f"Accuracy by {attribute}")


def _extremes(attribute: str, groups: Sequence[Mapping[str, Any]]) -> Text:
    ordered = sorted(groups, key=lambda group: group["accuracy"])
    worst, best = (
        f"{percent(group['accuracy'])} ({group['value']})" for group in (ordered[0], ordered[-1])
    )
    median = percent(float(np.median([group["accuracy"] for group in groups])))
    text = f"By {attribute}, {len(groups)} groups: from {worst} to {best}, median {median}; "
    return (text, Code("results.json"), " lists all.")


def _calibration(results: dict[str, Any]) -> list[Block]:
    bins = [edges for edges in results["calibration"]["bins"] if edges["n"]]
    accuracy = {point["coverage"]: point["accuracy"] for point in results["coverage"]}
    confidence = np.average([b["confidence"] for b in bins], weights=[b["n"] for b in bins])
    side = "overconfident" if confidence > accuracy[1.0] else "underconfident"
    return [
        Heading("Calibration"),
        f"The expected calibration error is {percent(results['calibration']['ece'])}: with a "
        f"mean confidence of {percent(confidence)} and an accuracy of "
        f"{percent(accuracy[1.0])}, the model is {side}. Of the most confident half of its "
        f"predictions {percent(accuracy[0.5])} are correct, of the most confident tenth "
        f"{percent(accuracy[0.1])}.",
        Figure(
            "reliability.png",
            "Accuracy against confidence, a histogram of confidence, and accuracy on the most "
            "confident predictions against coverage; results.json holds the numbers",
        ),
    ]
