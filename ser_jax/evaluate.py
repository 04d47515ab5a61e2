"""Test metrics of the best weights → results.json and predictions.csv."""

import csv
import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from ser_jax import (
    checkpoints,
    devices,
    files,
    metric_log,
    parallel,
    record_reader,
    replicas,
    task,
)
from ser_jax import results as results_of
from ser_jax.evaluator import Evaluator
from ser_jax.feed import Feed
from ser_jax.statistics import Predictions


def evaluate(config: ConfigDict, records_folder: Path, workdir: Path) -> dict[str, Any]:
    """Tests the best weights of each replica on its test part, each clip once.

    Of a sweep, the setting that was best on validation is chosen, and the headline is of its
    replicas alone.

    Returns:
      What results.json holds.

    Raises:
      UserError: nothing is trained there, or it was trained with another config.
    """
    layout = devices.layout(config, len(replicas.expand(config)))
    # One replica a device at a time: nothing to gain from more, and memory for any number.
    layout = dataclasses.replace(layout, at_once=layout.mesh.shape["replica"])
    weights, _ = checkpoints.load_best(workdir, layout.whole)
    metric_log.claim(workdir, config, records_folder.parent.name)
    this = task.make(config, record_reader.open_records(records_folder))
    predictions, loss_R = _predict(this, weights, layout)
    best = devices.fetch((weights["value"], weights["epoch"]))
    results = results_of.collect(this, predictions, loss_R, *best)
    if devices.is_first():
        files.write_json(workdir / "results.json", results)
        files.write_text(workdir / "predictions.csv", _table(this, predictions))
    print(results_of.sentence(results), flush=True)
    return results


def _predict(
    this: task.Task, weights: dict[str, Any], layout: devices.Layout
) -> tuple[Predictions, np.ndarray]:
    """Test predictions of all replicas, and the mean cross-entropy of each."""
    groups = parallel.cut(checkpoints.weights_of(weights), layout)
    rows = [this.splits[replica.fold].test for replica in this.replicas]
    evaluator = Evaluator(this, Feed(this.examples, layout), layout)
    sums, probabilities = evaluator(groups, rows)
    row_P, clips = np.concatenate(rows), this.records.clips
    predictions = Predictions(
        replica_P=np.repeat(np.arange(len(rows)), [len(test) for test in rows]),
        clip_P=np.array(clips.ids)[row_P],
        speaker_P=np.array(clips.speakers)[row_P],
        label_P=np.array(clips.labels)[row_P],
        probability_PxC=np.concatenate(probabilities),
    )
    return predictions, sums.loss / sums.n


def _table(this: task.Task, predictions: Predictions) -> str:
    """One row a replica and test clip: who, what, and a probability a class."""
    labels = this.records.labels
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["replica", "id", "speaker", "true", "predicted", *labels])
    for replica, clip, speaker, label, prediction, probability_C in zip(
        predictions.replica_P.tolist(),
        predictions.clip_P.tolist(),
        predictions.speaker_P.tolist(),
        predictions.label_P.tolist(),
        predictions.prediction_P.tolist(),
        predictions.probability_PxC.tolist(),
        strict=True,
    ):
        probabilities = (f"{p:.6f}" for p in probability_C)
        writer.writerow([replica, clip, speaker, labels[label], labels[prediction], *probabilities])
    return text.getvalue()
