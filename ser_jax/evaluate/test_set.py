"""Test metrics of the best weights → results.json and predictions.csv."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from ser_jax.common import files
from ser_jax.data import records
from ser_jax.evaluate import predictions_csv
from ser_jax.evaluate import results as evaluate_results
from ser_jax.metrics.predictions import Predictions
from ser_jax.parallel import mesh, placement, processes
from ser_jax.train import checkpoints, experiment, replicas
from ser_jax.train import workdir as train_workdir
from ser_jax.train.evaluator import Evaluator
from ser_jax.train.loader import BatchLoader


def evaluate(config: ConfigDict, records_folder: Path, workdir: Path) -> dict[str, Any]:
    """Tests the best weights of each replica on its test part, each clip once.

    Of a sweep, the setting that was best on validation is chosen, and the headline is of its
    replicas alone.

    Returns:
      What results.json holds.

    Raises:
      UserError: nothing is trained there, or it was trained with another config.
    """
    layout = mesh.layout(config, len(replicas.expand(config)))
    # One replica a device at a time: nothing to gain from more, and memory for any number.
    layout = dataclasses.replace(layout, at_once=layout.mesh.shape["replica"])
    weights, _ = checkpoints.load_best(workdir, layout.whole)
    train_workdir.claim(workdir, config, records_folder.parent.name)
    this = experiment.make(config, records.open_records(records_folder))
    predictions, loss_R = _predict(this, weights, layout)
    best = processes.fetch((weights["value"], weights["epoch"]))
    results = evaluate_results.collect(this, predictions, loss_R, *best)
    if processes.is_first():
        files.write_json(workdir / "results.json", results)
        predictions_csv.write(workdir / "predictions.csv", predictions, this.records.labels)
    print(evaluate_results.sentence(results), flush=True)
    return results


def _predict(
    this: experiment.Experiment, weights: dict[str, Any], layout: mesh.Layout
) -> tuple[Predictions, np.ndarray]:
    """Test predictions of all replicas, and the mean cross-entropy of each."""
    groups = placement.cut(checkpoints.weights_of(weights), layout)
    rows = [this.splits[replica.fold].test for replica in this.replicas]
    evaluator = Evaluator(this, BatchLoader(this.examples, layout), layout)
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
