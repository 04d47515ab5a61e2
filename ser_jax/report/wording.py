"""Phrases that the figures and the pages of a run report share."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ser_jax.evaluate.finished_run import chosen_replicas
from ser_jax.pages.numbers import mean_sd, span

Epochs = Mapping[int, Sequence[Mapping[str, float]]]  # rows of metrics.jsonl, by replica


def is_fitted(epochs: Epochs) -> bool:
    """Return whether the model was fitted in one go, see train.classical, and so has no rate."""
    return all(np.isnan(row["learning_rate"]) for rows in epochs.values() for row in rows)


def titles(results: dict[str, Any]) -> tuple[str, str]:
    """Return what was tested, and under which protocol."""
    seen = "unseen" if results["unseen_speakers"] else "seen"
    test = "test speakers and sentences" if results["unseen_sentences"] else "test speakers"
    return (
        f"{results['model']} on {results['corpus']}",
        f"split {results['protocol']}, {test} {seen} in training",
    )


def heading(results: dict[str, Any]) -> tuple[str, str]:
    """Return `titles` with the number of clips, two lines."""
    tested, protocol = titles(results)
    return tested, f"{protocol} · {test_clips(results)}"


def test_clips(results: dict[str, Any]) -> str:
    """Return how many clips were tested, and by how many replicas."""
    n_test, n_predictions = results["n_test"], sum(map(sum, results["confusion"]))
    n_replicas = len(chosen_replicas(results))
    text = f"{n_test:,} test clips"
    if n_predictions == n_test * n_replicas:
        return text if n_replicas == 1 else f"{text} × {n_replicas} replicas"
    return f"{text}, {n_replicas} replicas, {n_predictions:,} predictions"


def setting_text(setting: dict[str, Any]) -> str:
    """Return swept values as text, such as "optimizer.learning_rate = 0.001"."""
    return ", ".join(f"{key} = {value}" for key, value in setting.items())


def distinct(results: dict[str, Any], key: str) -> list[Any]:
    """Return the distinct values of a key among the chosen replicas."""
    return sorted({replica[key] for replica in chosen_replicas(results)})


def seeds_and_folds(epochs: Epochs, results: dict[str, Any]) -> str:
    """Return text such as "seeds 0, 1, 2 × fold 0"; a fit has no seed."""
    parts = []
    for key in ("fold",) if is_fitted(epochs) else ("seed", "fold"):
        values = distinct(results, key)
        parts.append(f"{key}{'s' * (len(values) > 1)} {', '.join(map(str, values))}")
    return " × ".join(parts)


def score_text(score: Mapping[str, float | None], monitor: str = "accuracy") -> str:
    """Return "52.3 ± 1.4 %"; a loss is no percentage."""
    mean, sd = score["mean"], score["sd"]
    if mean is None:
        return "not finite"
    return mean_sd(mean, sd, ".3f", 1) if monitor == "loss" else f"{mean_sd(mean, sd)} %"


def interval_text(score: Mapping[str, Any]) -> str:
    """Return "50.1–54.2 %", with an asterisk if the interval is over clips, not speakers."""
    if score["low"] is None:
        return ""
    mark = "*" if score.get("interval_over") == "clips" else ""
    return f"{span(score['low'], score['high'])} %{mark}"
