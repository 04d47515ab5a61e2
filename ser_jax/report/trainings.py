"""The part of a run report about its trainings."""

from typing import Any

import numpy as np

from ser_jax.evaluate.finished_run import chosen_replicas, failures
from ser_jax.pages.blocks import Block, Code, Figure, Heading, Listing, Strong, Table
from ser_jax.pages.numbers import percent
from ser_jax.report import wording
from ser_jax.report.wording import Epochs, score_text

_PARTS = ("train", "val")


def blocks(epochs: Epochs, results: dict[str, Any], command: str) -> list[Block]:
    """Return the training curves, the sweep, the replicas and how to repeat the run."""
    return [
        *_curves(epochs, results),
        *_settings(results),
        *_replicas(epochs, results),
        *_reproduction(epochs, results, command),
    ]


def _curves(epochs: Epochs, results: dict[str, Any]) -> list[Block]:
    if wording.is_fitted(epochs):
        rows = [epochs[replica["replica"]][0] for replica in chosen_replicas(results)]
        train, val = (percent(np.mean([r[f"{part}/accuracy"] for r in rows])) for part in _PARTS)
        return [
            Heading("Training"),
            f"Fitted in one go, without epochs: an accuracy of {train} in training and of {val} in "
            "validation. Seeds make no difference.",
        ]
    penalties = [
        row["train/l2"]
        for replica in chosen_replicas(results)
        for row in epochs[replica["replica"]]
        if row["epoch"] == replica["best_epoch"]
    ]
    penalty = f" (at the best epoch: {np.mean(penalties):.3g})" if penalties else ""
    return [
        Heading("Training"),
        Figure(
            "curves.png",
            "Curves over the epochs: loss, accuracy and macro-F1 of training and validation, and "
            "the learning rate; metrics.jsonl holds the numbers",
        ),
        f"The loss shown is the cross-entropy alone; the L2 penalty is logged separately{penalty}.",
    ]


def _settings(results: dict[str, Any]) -> list[Block]:
    """Return the settings of a sweep, if there was one."""
    settings, monitor = results["settings"], results["monitor"]
    if len(settings) < 2:
        return []
    columns = [*settings[0]["setting"], "trainings", f"validation {monitor}"]
    columns += ["test accuracy", "test UAR", "chosen"]
    rows = []
    for summary in settings:
        row = [*map(str, summary["setting"].values()), f"{summary['n_replicas']}"]
        row += [score_text(summary["val"], monitor), score_text(summary["accuracy"])]
        rows.append([*row, score_text(summary["uar"]), Strong("yes") if summary["chosen"] else ""])
    return [
        Heading("Settings"),
        Table(columns, rows, "Settings of the sweep"),
        "The setting was chosen by its mean on validation; the test clips had no part in it. "
        "All numbers above are for the chosen setting alone.",
    ]


def _replicas(epochs: Epochs, results: dict[str, Any]) -> list[Block]:
    """Return a table of the replicas and the mean of the chosen ones, if there are several."""
    replicas, monitor = results["replicas"], results["monitor"]
    if len(replicas) < 2:
        return []
    of_steps = [] if wording.is_fitted(epochs) else ["seed", "best epoch"]
    columns = ["replica", *replicas[0]["setting"], "fold", *of_steps, f"validation {monitor}"]
    rows = []
    for replica in replicas:
        row = [str(replica["replica"]), *map(str, replica["setting"].values())]
        row.append(str(replica["fold"]))
        if of_steps:
            row += [str(replica["seed"]), str(replica["best_epoch"] or "")]
        row.append(score_text({"mean": replica["val"], "sd": None}, monitor))
        rows.append([*row, percent(replica["accuracy"]), percent(replica["uar"])])
    means = [score_text(results["intervals"][key]) for key in ("accuracy", "uar")]
    rows.append([Strong("mean ± sd"), *[""] * (len(columns) - 1), *means])
    parts = [Heading("Replicas"), Table([*columns, "accuracy", "UAR"], rows, "The trainings")]
    failed = failures(results)
    if len(results["settings"]) > 1:
        parts.append("The last row covers the replicas of the chosen setting.")
    if failed:
        parts.append(f"{failed}: a loss or a weight was not finite. They are left out of all else.")
    return parts


def _reproduction(epochs: Epochs, results: dict[str, Any], command: str) -> list[Block]:
    seeds = wording.distinct(results, "seed")
    seed = f" Its seed{'s were' if len(seeds) > 1 else ' was'} {', '.join(map(str, seeds))}."
    seed *= not wording.is_fitted(epochs)
    heading, file = Heading("To reproduce"), Code("config.json")
    if not command:
        text = "The command was not recorded; the run's settings are in "
        return [heading, (text, file, f" beside this folder.{seed}")]
    text = " beside this folder holds every setting of the run; this command gives those that "
    return [
        heading,
        (file, f"{text}differ from the config file.{seed}"),
        Listing(f"{command} --workdir=<new folder>"),
    ]
