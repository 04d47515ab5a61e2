"""Headings and phrases that the reports of runs, comparisons and studies share."""

from typing import Any

from ser_jax.evaluate.finished_run import chosen_replicas


def titles(results: dict[str, Any]) -> tuple[str, str]:
    """What was tested, and under which protocol."""
    heard = "unseen" if results["unseen_speakers"] else "seen"
    test = "test speakers and sentences" if results["unseen_sentences"] else "test speakers"
    return (
        f"{results['model']} on {results['corpus']}",
        f"split {results['protocol']}, {test} {heard} in training",
    )


def heading(results: dict[str, Any]) -> tuple[str, str]:
    """`titles` with the number of clips, two lines."""
    tested, protocol = titles(results)
    return tested, f"{protocol} · {test_clips(results)}"


def test_clips(results: dict[str, Any]) -> str:
    """How many clips were tested, and by how many replicas."""
    n_test, n_predictions = results["n_test"], sum(map(sum, results["confusion"]))
    n_replicas = len(chosen_replicas(results))
    text = f"{n_test:,} test clips"
    if n_predictions == n_test * n_replicas:
        return text if n_replicas == 1 else f"{text} × {n_replicas} replicas"
    return f"{text}, {n_replicas} replicas, {n_predictions:,} predictions"


def setting_text(setting: dict[str, Any]) -> str:
    """Swept values, such as "optimizer.learning_rate = 0.001"."""
    return ", ".join(f"{key} = {value}" for key, value in setting.items())
