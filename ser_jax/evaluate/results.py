"""Test predictions → what results.json says of a run."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ser_jax.evaluate.finished_run import chosen_replicas
from ser_jax.metrics import breakdown, calibration, classification, intervals, listeners
from ser_jax.metrics import predictions as metrics_predictions
from ser_jax.metrics.predictions import Predictions
from ser_jax.pages import numbers
from ser_jax.train.experiment import Experiment
from ser_jax.train.replicas import best_setting


def collect(
    this: Experiment,
    predictions: Predictions,
    loss_R: np.ndarray,
    value_R: np.ndarray,
    epoch_R: np.ndarray,
) -> dict[str, Any]:
    """What results.json holds.

    Of a sweep, the setting that was best on validation is chosen, and all but `replicas` and
    `settings` is of its replicas alone.

    Args:
      this: what was trained.
      predictions: of all replicas.
      loss_R: mean cross-entropy of each on its test part.
      value_R: monitored value of each replica's best epoch; larger is better.
      epoch_R: that epoch.
    """
    replicas = _replicas(this, predictions, value_R, epoch_R)
    chosen = [r["replica"] for r in replicas if r["chosen"]]
    return {
        **_about(this),
        **_headline(this, predictions.of(chosen)),
        "loss": float(np.mean(loss_R[chosen])),
        "best_epoch": replicas[chosen[0]]["best_epoch"],
        "monitor": this.config.train.monitor,
        "replicas": replicas,
        "settings": _settings(replicas),
    }


def sentence(results: dict[str, Any]) -> str:
    """The headline, for the console."""
    chosen = chosen_replicas(results)
    setting = ", ".join(f"{key}={value}" for key, value in chosen[0]["setting"].items())
    return (
        f"Test ({results['corpus']}, {results['protocol']}, {results['n_test']} clips of "
        f"{results['n_test_speakers']} speakers, {len(chosen)} replica{'s' * (len(chosen) > 1)}"
        + (f", {setting}: best on validation" if setting else "")
        + "): "
        + ", ".join(
            f"{title} {_with_interval(results['intervals'][name])}"
            for name, title in classification.TITLES.items()
        )
        + ". In brackets: 95 % over speakers."
    )


def _with_interval(interval: dict[str, float | None]) -> str:
    text = {"spec": ".4f", "scale": 1}
    score = numbers.mean_sd(interval["mean"], interval["sd"], **text)
    return score + numbers.limits(interval["low"], interval["high"], **text)


def _replicas(
    this: Experiment, predictions: Predictions, value_R: np.ndarray, epoch_R: np.ndarray
) -> list[dict[str, Any]]:
    """Each replica's own metrics. Those of the setting that was best on validation are chosen."""
    labels = list(this.records.labels)
    found = []
    for number, replica in enumerate(this.replicas):
        value = float(value_R[number])
        counts_CxC = metrics_predictions.speaker_confusions(predictions.of([number]))[0].sum(0)
        found.append(
            {
                "replica": number,
                **dataclasses.asdict(replica),
                "best_epoch": int(epoch_R[number]),
                # The monitor is a loss negated, or never came to be.
                "val": abs(value) if np.isfinite(value) else None,
                "n_test": int(counts_CxC.sum()),
                **classification.summary(counts_CxC, labels),
            }
        )
    best = best_setting([replica.setting for replica in this.replicas], value_R)
    for replica in found:
        replica["chosen"] = replica["setting"] == best
    return found


def _distinct(replicas: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    settings: list[dict[str, Any]] = []
    for replica in replicas:
        if replica["setting"] not in settings:
            settings.append(replica["setting"])
    return settings


def _settings(replicas: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each swept setting by validation, and its test metrics."""
    table = []
    for setting in _distinct(replicas):
        members = [r for r in replicas if r["setting"] == setting]
        table.append(
            {
                "setting": setting,
                "chosen": members[0]["chosen"],
                "n_replicas": len(members),
                **{key: _spread([r[key] for r in members]) for key in ("val", "accuracy", "uar")},
            }
        )
    return table


def _spread(values: Sequence[float | None]) -> dict[str, float | None]:
    if None in values:
        return {"mean": None, "sd": None}
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "sd": sd}


def _about(this: Experiment) -> dict[str, Any]:
    """What was trained and tested on what."""
    config, clips = this.config, this.records.clips
    first = this.replicas[0].fold
    test = sorted({row for split in this.splits.values() for row in split.test.tolist()})
    return {
        "config": config.name,
        "model": config.model.name,
        "input": config.input.kind,
        "protocol": config.split.name,
        "unseen_speakers": this.splits[first].unseen_speakers,
        "unseen_sentences": this.splits[first].unseen_sentences,
        "corpus": this.corpus,
        "n_train": len(this.splits[first].train),
        "n_train_examples": len(this.train_M(first)),
        "n_val": len(this.splits[first].val),
        "n_test": len(test),
        "n_test_speakers": len({clips.speakers[row] for row in test}),
        "labels": list(this.records.labels),
    }


def _headline(this: Experiment, predictions: Predictions) -> dict[str, Any]:
    """Everything that is told of the chosen replicas together."""
    records, labels = this.records, list(this.records.labels)
    ids = records.clips.ids
    votes = {clip: votes for clip, votes in zip(ids, records.votes, strict=True) if votes}
    attributes = {
        name: dict(zip(ids, values, strict=True)) for name, values in records.attributes.items()
    }
    spread = intervals.intervals(predictions)
    counts_CxC = metrics_predictions.speaker_confusions(predictions).sum((0, 1))
    results = {
        **classification.summary(counts_CxC, labels),
        **{name: interval["mean"] for name, interval in spread.items()},
        "intervals": spread,
        "calibration": calibration.calibration(predictions),
        "coverage": calibration.coverage(predictions),
        "breakdown": breakdown.breakdown(predictions, attributes, votes, labels),
    }
    test = dict(zip(predictions.clip_P.tolist(), predictions.label_P.tolist(), strict=True))
    if all(clip in votes for clip in test):
        rated = np.array([votes[clip] for clip in test])
        results["human"] = listeners.agreement(rated, np.array(list(test.values())))
        results["perceived"] = listeners.perceived(predictions, votes)
    return results
