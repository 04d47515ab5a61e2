"""Build results.json from the test predictions of a run."""

import dataclasses
import itertools
import operator
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from ser_jax.evaluate.finished_run import chosen_replicas, failures
from ser_jax.metrics import listeners
from ser_jax.metrics.breakdown import accuracy_by_group
from ser_jax.metrics.calibration import calibration, coverage
from ser_jax.metrics.classification import TITLES, summary
from ser_jax.metrics.intervals import bootstrap_intervals, mean_sd
from ser_jax.metrics.predictions import Predictions, speaker_confusions
from ser_jax.pages import numbers
from ser_jax.train.experiment import Experiment
from ser_jax.train.replicas import best_setting


def collect_results(
    experiment: Experiment,
    predictions: Predictions,
    loss_R: np.ndarray,
    value_R: np.ndarray,
    epoch_R: np.ndarray,
) -> dict[str, Any]:
    """Return the contents of results.json.

    In a sweep, the setting that was best on validation is chosen, and everything but `replicas` and
    `settings` describes its replicas only. Replicas that failed are never chosen.

    Args:
      predictions: of all replicas that did not fail.
      loss_R: mean cross-entropy on the test set.
      value_R: monitored value at the best epoch; larger is better, −∞ for a replica that failed.
      epoch_R: that epoch.
    """
    replicas = _replicas(experiment, predictions, value_R, epoch_R)
    chosen = [r["replica"] for r in replicas if r["chosen"]]
    fold_of = {number: experiment.replicas[number].fold for number in chosen}
    tested = predictions.of_replicas(chosen)
    return {
        **_facts(experiment, [*fold_of.values()]),
        **_scores(experiment, tested),
        "ensemble": _ensemble(tested, fold_of),
        "loss": float(np.mean(loss_R[chosen])),
        "best_epoch": replicas[chosen[0]]["best_epoch"],
        "monitor": experiment.config.train.monitor,
        "replicas": replicas,
        "settings": _settings(replicas),
    }


def headline(results: dict[str, Any]) -> str:
    """Return the main metrics of results.json as a sentence for the console."""
    chosen, failed = chosen_replicas(results), failures(results)
    setting = ", ".join(f"{key}={value}" for key, value in chosen[0]["setting"].items())
    ensemble = results.get("ensemble")
    return (
        f"Test ({results['corpus']}, {results['protocol']}, {results['n_test']} clips of "
        f"{results['n_test_speakers']} speakers, {len(chosen)} replica{'s' * (len(chosen) > 1)}"
        + (f", {setting}: best on validation" if setting else "")
        + "): "
        + _metrics(results["intervals"])
        + (
            f"; mean probability of the seeds: {_metrics(ensemble['intervals'])}"
            if ensemble
            else ""
        )
        + ". In brackets: 95 % over speakers."
        + (f" {failed} and are left out." if failed else "")
    )


def _metrics(intervals: Mapping[str, dict[str, float | None]]) -> str:
    return ", ".join(f"{title} {_with_interval(intervals[key])}" for key, title in TITLES.items())


def _with_interval(interval: dict[str, float | None]) -> str:
    text = {"spec": ".4f", "scale": 1}
    score = numbers.mean_sd(interval["mean"], interval["sd"], **text)
    return score + numbers.limits(interval["low"], interval["high"], **text)


def _targets(config: ConfigDict) -> str:
    """Return what was aimed at, and the teacher's name, which need not be a path that exists."""
    train = config.train
    if train.targets != "teacher":
        return train.targets
    return f"{Path(train.teacher).name}, at temperature {train.teacher_temperature:g}"


def _facts(experiment: Experiment, folds: Sequence[int]) -> dict[str, Any]:
    """Return what was trained, and on which data it was tested in these folds."""
    config, clips = experiment.config, experiment.records.clips
    first = folds[0]
    split = experiment.splits[first]
    test = {row for fold in folds for row in experiment.splits[fold].test.tolist()}
    return {
        "config": config.name,
        "model": config.model.name,
        "input": config.input.kind,
        "protocol": split.protocol,
        "targets": _targets(config),
        "unseen_speakers": split.unseen_speakers,
        "unseen_sentences": split.unseen_sentences,
        "corpus": experiment.corpus,
        "n_train": len(split.train),
        "n_train_examples": len(experiment.train_M(first)),
        "n_val": len(split.val),
        "n_test": len(test),
        "n_test_speakers": len({clips.speakers[row] for row in test}),
        "labels": list(experiment.records.labels),
        "n_left_out": len(experiment.records.left_out),  # clips that could not be used
    }


def _scores(experiment: Experiment, predictions: Predictions) -> dict[str, Any]:
    """Return all metrics of the chosen replicas together."""
    records, labels = experiment.records, list(experiment.records.labels)
    ids = records.clips.ids
    votes = {clip: votes for clip, votes in zip(ids, records.votes, strict=True) if votes}
    attributes = {
        name: dict(zip(ids, values, strict=True)) for name, values in records.attributes.items()
    }
    intervals = bootstrap_intervals(predictions)
    scores = {
        **summary(speaker_confusions(predictions).sum((0, 1)), labels),
        **{name: interval["mean"] for name, interval in intervals.items()},
        "intervals": intervals,
        "calibration": calibration(predictions),
        "coverage": coverage(predictions),
        "breakdown": accuracy_by_group(predictions, attributes, votes, labels),
    }
    label_of = dict(zip(predictions.clip_P.tolist(), predictions.label_P.tolist(), strict=True))
    if all(clip in votes for clip in label_of):
        rated = np.array([votes[clip] for clip in label_of])
        scores["human"] = listeners.agreement(rated, np.array(list(label_of.values())))
        if any(map(any, rated.tolist())):
            scores["human"]["lead"] = listeners.lead(predictions, votes)
        scores["perceived"] = listeners.perceived(predictions, votes)
    return scores


def _ensemble(predictions: Predictions, fold_of: Mapping[int, int]) -> dict[str, Any] | None:
    """Return the scores of the mean probability over the seeds of each fold; None for one seed.

    This is how `predict` uses the replicas of a fold together.
    """
    counts = Counter(fold_of.values())
    if max(counts.values()) < 2:
        return None
    return {
        "n_seeds": max(counts.values()),
        "intervals": bootstrap_intervals(predictions.ensembles(fold_of)),
    }


def _replicas(
    experiment: Experiment, predictions: Predictions, value_R: np.ndarray, epoch_R: np.ndarray
) -> list[dict[str, Any]]:
    """Return each replica's metrics; those of the setting that validated best are chosen.

    A replica that failed has no metrics: all are None.
    """
    labels = list(experiment.records.labels)
    best = best_setting([replica.setting for replica in experiment.replicas], value_R)
    rows = []
    for number, replica in enumerate(experiment.replicas):
        value, failed = float(value_R[number]), not np.isfinite(value_R[number])
        counts_CxC = speaker_confusions(predictions.of_replicas([number])).sum((0, 1))
        scores = summary(counts_CxC, labels)
        rows.append(
            {
                "replica": number,
                **dataclasses.asdict(replica),
                "best_epoch": None if failed else int(epoch_R[number]),
                "val": None if failed else abs(value),  # a loss is monitored negated
                "n_test": int(counts_CxC.sum()),
                **(dict.fromkeys(scores) if failed else scores),
                "chosen": replica.setting == best and not failed,
            }
        )
    return rows


def _settings(replicas: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return validation and test metrics of each swept setting, without replicas that failed."""
    rows = []
    for setting, group in itertools.groupby(replicas, key=operator.itemgetter("setting")):
        setting_replicas = list(group)
        members = [replica for replica in setting_replicas if replica["val"] is not None]
        rows.append(
            {
                "setting": setting,
                "chosen": any(replica["chosen"] for replica in setting_replicas),
                "n_replicas": len(members),
                **{key: _mean_sd([r[key] for r in members]) for key in ("val", "accuracy", "uar")},
            }
        )
    return rows


def _mean_sd(values: Sequence[float]) -> dict[str, float | None]:
    return mean_sd(values) if values else {"mean": None, "sd": None}
