"""A run's report as a page of Markdown."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ser_jax.evaluate.finished_run import chosen_replicas
from ser_jax.metrics import classification
from ser_jax.pages.markdown import escape, table
from ser_jax.pages.numbers import mean_sd, percent, span
from ser_jax.report import wording

METRICS = {**classification.TITLES, "weighted_f1": "weighted F1"}
MOST_ROWS = 25  # of a table; of an attribute with more values the page tells the extremes

Epochs = Mapping[int, Sequence[Mapping[str, float]]]


def page(epochs: Epochs, results: dict[str, Any]) -> str:
    """The report in Markdown."""
    title = f"# {escape(results['model'])} on {escape(results['corpus'])}"
    return "\n\n".join([title, *parts(epochs, results).values()]) + "\n"


def parts(epochs: Epochs, results: dict[str, Any]) -> dict[str, str]:
    """The report's parts by name, each in Markdown, in their order; those that have content."""
    human = "![Listeners' confusion beside the model's](human.png)" if "human" in results else ""
    every = {
        "headline": _headline(results),
        "meaning": _meaning(results),
        "facts": table(["", ""], _facts(epochs, results), "---"),
        "perceived": _perceived(results),
        "per class": f"## Per class\n\n{_per_class(results)}",
        "confusion": "![Confusion matrix](confusion.png)",
        "human": human,
        "breakdown": _breakdown(results),
        "certainty": _certainty(results),
        "training": _training(epochs, results),
        "settings": _settings(results),
        "replicas": _replicas(results),
        "reproduce": _reproduce(results),
    }
    return {name: part for name, part in every.items() if part}


def _headline(results: dict[str, Any]) -> str:
    counts, human = np.array(results["confusion"], float), results.get("human", {})
    always = np.zeros_like(counts)
    always[:, counts.sum(1).argmax()] = counts.sum(1)  # the commonest class for every clip
    columns = ["", "**model**", "95 % interval", "chance", "always the commonest class"]
    columns += ["listeners, each rating", "listeners, plurality"] if human else []
    rows = []
    for key, name in METRICS.items():
        score = results["intervals"][key]
        chance = 1 / len(counts) if key in ("accuracy", "uar") else None
        listeners = [human.get(key), human.get(f"plurality_{key}")] if human else []
        rows.append([name, f"**{_spread(score)}**", _interval(score)])
        rows[-1] += map(percent, [chance, classification.HEADLINE[key](always), *listeners])
    return table(columns, rows)


def _meaning(results: dict[str, Any]) -> str:
    """What the headline's numbers are, and what they are not."""
    n, n_speakers = len(chosen_replicas(results)), results["n_test_speakers"]
    what = (
        "One training: how much another seed would change is not known."
        if n == 1
        else f"Mean ± standard deviation over {n} trainings, {_crossed(results)}."
    )
    if n_speakers > 1:
        few = "; with so few speakers it is somewhat too narrow" if n_speakers < 30 else ""
        what += (
            f" The interval is a bootstrap over the {n_speakers} test speakers: it covers which "
            f"speakers of this corpus were tested, neither the seeds nor the choice of corpus{few}."
        )
    return (
        f"{what} Chance is a uniform guess among {len(results['labels'])} classes. UAR, "
        "unweighted average recall, is the mean of the classes' recalls."
    )


def _facts(epochs: Epochs, results: dict[str, Any]) -> list[list[str]]:
    heard = "none was heard in training"
    speakers = "**were heard in training too**: expect less of new speakers"
    examples = f"{results['n_train_examples']:,} examples with their augmented views"
    first = " (of the first fold)" if len(_values(results, "fold")) > 1 else ""
    chosen = chosen_replicas(results)
    best = [replica["best_epoch"] for replica in chosen]
    last = max(epochs[replica["replica"]][-1]["epoch"] for replica in chosen)
    facts = [
        ["corpus", escape(results["corpus"])],
        ["input", escape(results["input"])],
        ["protocol", escape(results["protocol"])],
        ["test speakers", heard if results["unseen_speakers"] else speakers],
        ["test sentences", heard] if results["unseen_sentences"] else [],
        ["trainings", f"{len(chosen)}: {_crossed(results)}"],
        ["chosen by validation", escape(wording.setting_text(chosen[0]["setting"]))],
        ["training", f"{results['n_train']:,} clips, {examples}{first}"],
        ["validation", f"{results['n_val']:,} clips{first}"],
        ["test", f"{results['n_test']:,} clips of {_count(results['n_test_speakers'])}"],
        ["best epoch", f"{'–'.join(map(str, sorted({min(best), max(best)})))} of {last:.0f}"],
    ]
    if "human" in results:
        human = results["human"]
        facts.append(["listeners", f"{human['n_ratings']:,} ratings of {human['n_clips']:,} clips"])
    return [fact for fact in facts if fact and fact[1]]


def _perceived(results: dict[str, Any]) -> str:
    if not results.get("perceived"):
        return ""
    intended, perceived = results["intervals"]["accuracy"], results["perceived"]
    columns = ["compared with the emotion that", "accuracy", "95 % interval", "UAR", "clips"]
    rows = []
    for name, score, interval, n_clips in (
        ("was intended", results, intended, results["n_test"]),
        ("listeners heard", perceived, perceived, perceived["n_clips"]),
    ):
        row = [name, percent(score["accuracy"]), _interval(interval), percent(score["uar"])]
        rows.append([*row, f"{n_clips:,}"])
    return f"""## Intended and perceived

{table(columns, rows)}

What listeners heard is a clip's most frequent vote; where votes tie, each tied emotion counts as
right."""


def _per_class(results: dict[str, Any]) -> str:
    groups = {group["value"]: group for group in results["breakdown"]["emotion"]}
    recalls = results["human"]["recall"] if "human" in results else None
    columns = ["class", "clips", "precision", "recall", "95 % interval", "F1"]
    columns += ["listeners' recall"] if recalls else []
    rows = []
    for i, (label, scores) in enumerate(results["per_class"].items()):
        group = groups.get(label, {"n": 0, "low": None})  # no clip of this class was tested
        row = [escape(label), f"{group['n']:,}", percent(scores["precision"])]
        row += [percent(scores["recall"]), _interval(group), percent(scores["f1"])]
        rows.append([*row, percent(recalls[i])] if recalls else row)
    return table(columns, rows)


def _breakdown(results: dict[str, Any]) -> str:
    parts = [
        "## Breakdown",
        "Intervals are a bootstrap over speakers. A group of one speaker has one over its clips, "
        "marked \\*, which tells nothing of other speakers.",
        "![Accuracy by class and attribute](breakdown.png)",
    ]
    for name, rows in results["breakdown"].items():
        if name == "emotion" or len(rows) < 2:  # the table of classes, the whole test
            continue
        name = escape(name.replace("_", " "))
        parts.append(_extremes(name, rows) if len(rows) > MOST_ROWS else _groups(name, rows))
    return "\n\n".join(parts)


def _groups(name: str, groups: Sequence[Mapping[str, Any]]) -> str:
    rated = any(group["human"] is not None for group in groups)
    columns = [name, "clips", "speakers", "accuracy", "95 % interval"]
    rows = []
    for group in groups:
        row = [escape(group["value"]), f"{group['n']:,}", f"{group['n_speakers']:,}"]
        row += [percent(group["accuracy"]), _interval(group)]
        rows.append([*row, percent(group["human"])] if rated else row)
    return table([*columns, "listeners"] if rated else columns, rows)


def _extremes(name: str, groups: Sequence[Mapping[str, Any]]) -> str:
    ordered = sorted(groups, key=lambda group: group["accuracy"])
    worst, best = (
        f"{percent(group['accuracy'])} ({escape(group['value'])})"
        for group in (ordered[0], ordered[-1])
    )
    median = percent(float(np.median([group["accuracy"] for group in groups])))
    return (
        f"By {name}, {len(groups)} of them: from {worst} to {best}, median {median}; "
        "`results.json` lists all."
    )


def _certainty(results: dict[str, Any]) -> str:
    bins = [one for one in results["calibration"]["bins"] if one["n"]]
    hits = {point["coverage"]: point["accuracy"] for point in results["coverage"]}
    confidence = np.average([b["confidence"] for b in bins], weights=[b["n"] for b in bins])
    side = "surer than it should be" if confidence > hits[1.0] else "less sure than it could be"
    return f"""## Certainty

The expected calibration error is {percent(results["calibration"]["ece"])}: with a mean confidence
of {percent(confidence)} and an accuracy of {percent(hits[1.0])}, the model is {side}. Of the half
of which it is most certain it gets {percent(hits[0.5])} right, of the tenth {percent(hits[0.1])}.

![Reliability and coverage](reliability.png)"""


def _training(epochs: Epochs, results: dict[str, Any]) -> str:
    penalties = [
        row["train/l2"]
        for replica in chosen_replicas(results)
        for row in epochs[replica["replica"]]
        if row["epoch"] == replica["best_epoch"]
    ]
    penalty = f" (at the best epoch: {np.mean(penalties):.3g})" if penalties else ""
    return f"""## Training

![Training curves](curves.png)

The loss shown is the cross-entropy alone; the L2 penalty is logged apart from it{penalty}."""


def _settings(results: dict[str, Any]) -> str:
    """What the sweep found."""
    settings, monitor = results["settings"], results["monitor"]
    if len(settings) < 2:
        return ""
    columns = [*map(escape, settings[0]["setting"]), "trainings", f"validation {monitor}"]
    columns += ["test accuracy", "test UAR", "chosen"]
    rows = []
    for one in settings:
        row = [*map(escape, one["setting"].values()), f"{one['n_replicas']}"]
        row += [_spread(one["val"], monitor), _spread(one["accuracy"]), _spread(one["uar"])]
        rows.append([*row, "**yes**" if one["chosen"] else ""])
    return f"""## Settings

{table(columns, rows)}

The setting was chosen by its mean on validation; the test clips had no part in that. All numbers
above are of the chosen one alone."""


def _replicas(results: dict[str, Any]) -> str:
    """A table of the trainings, the chosen ones' mean below."""
    replicas, monitor = results["replicas"], results["monitor"]
    if len(replicas) < 2:
        return ""
    columns = ["replica", *map(escape, replicas[0]["setting"]), "fold", "seed", "best epoch"]
    columns.append(f"validation {monitor}")
    rows = []
    for one in replicas:
        rows.append([f"{one['replica']}", *map(escape, one["setting"].values())])
        rows[-1] += [f"{one[key]}" for key in ("fold", "seed", "best_epoch")]
        rows[-1].append(_spread({"mean": one["val"], "sd": None}, monitor))
        rows[-1] += [percent(one["accuracy"]), percent(one["uar"])]
    mean = ["**mean ± sd**", *[""] * (len(columns) - 1)]
    mean += [_spread(results["intervals"][key]) for key in ("accuracy", "uar")]
    rows.append(mean)
    text = f"## Replicas\n\n{table([*columns, 'accuracy', 'UAR'], rows)}"
    if len(chosen_replicas(results)) < len(replicas):
        text += "\n\nThe last row is of the chosen setting's replicas."
    return text


def _reproduce(results: dict[str, Any]) -> str:
    # A run's name is its config's file and variants, joined by "-".
    name = re.sub(r"[^\w-]", "_", str(results["config"]))
    file, _, variants = name.partition("-")
    config = f"configs/{file}.py" + (":" + variants.replace("-", ",") if variants else "")
    seeds = _values(results, "seed")
    many = f" --config.replicas.seeds={len(seeds)}" if len(seeds) > 1 else ""
    were = "s were" if len(seeds) > 1 else " was"
    return f"""## To reproduce

`config.json` beside this folder holds every setting of the run; give those that differ from the
config's file as `--config.KEY=VALUE`. Its seed{were} {", ".join(map(str, seeds))}.

```
python launch.py --config={config} --config.seed={seeds[0]}{many} --workdir=<new folder>
```"""


def _values(results: dict[str, Any], key: str) -> list[Any]:
    """The different values of a key among the chosen replicas."""
    return sorted({replica[key] for replica in chosen_replicas(results)})


def _count(n_speakers: int) -> str:
    return "one speaker" if n_speakers == 1 else f"{n_speakers} speakers"


def _crossed(results: dict[str, Any]) -> str:
    """Such as "seeds 0, 1, 2 × fold 0"."""
    parts = []
    for key in ("seed", "fold"):
        values = _values(results, key)
        parts.append(f"{key}{'s' * (len(values) > 1)} {', '.join(map(str, values))}")
    return " × ".join(parts)


def _spread(score: Mapping[str, float | None], monitor: str = "accuracy") -> str:
    """Mean ± sd; a loss as it is, everything else as per cent."""
    mean, sd = score["mean"], score["sd"]
    if mean is None:
        return "not finite"
    return mean_sd(mean, sd, ".3f", 1) if monitor == "loss" else f"{mean_sd(mean, sd)} %"


def _interval(score: Mapping[str, Any]) -> str:
    """Limits, with a mark if they are over clips in place of speakers."""
    if score["low"] is None:
        return ""
    mark = "\\*" if score.get("interval_over") == "clips" else ""
    return f"{span(score['low'], score['high'])} %{mark}"
