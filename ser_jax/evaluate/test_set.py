"""Evaluate the best weights on the test set and write results.json and predictions.csv."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from ser_jax.common import files, interrupts, provenance
from ser_jax.common.errors import UserError
from ser_jax.common.runtime import explain_out_of_memory
from ser_jax.data.loader import BatchLoader
from ser_jax.data.records import open_records
from ser_jax.evaluate import predictions_csv
from ser_jax.evaluate.results import collect_results, headline
from ser_jax.metrics.predictions import Predictions
from ser_jax.parallel import mesh, placement, processes
from ser_jax.train import checkpoints, replicas
from ser_jax.train import workdir as train_workdir
from ser_jax.train.evaluator import Evaluator
from ser_jax.train.experiment import Experiment, make_experiment


def evaluate(
    config: ConfigDict, records_folder: Path, workdir: Path, experiment: Experiment | None = None
) -> dict[str, Any]:
    """Evaluate each replica's best weights on its test set, each clip once.

    In a sweep, the headline is about the replicas of the setting that was best on validation.
    Replicas that failed are left out.

    Args:
      config: of the run.
      records_folder: its records.
      workdir: of the run.
      experiment: of the config and the records, if training has opened them.

    Returns:
      The contents of results.json.

    Raises:
      UserError: the workdir has no trained model, one trained with another config, or only
        replicas that failed; or a device's memory does not suffice.
    """
    layout = mesh.make_layout(config, len(replicas.expand(config)))
    # One replica per device: evaluation is no faster with more, and memory then suffices for any
    # number of replicas.
    layout = dataclasses.replace(layout, at_once=layout.mesh.shape["replica"])
    weights, metadata = checkpoints.load_best(workdir, layout.replicated)
    train_workdir.claim(workdir, config, records_folder.parent.name, is_training=False)
    experiment = experiment or make_experiment(config, open_records(records_folder))
    with explain_out_of_memory("evaluate.batch_size"), interrupts.deferred():
        predictions, loss_R = _predict(experiment, weights, layout)
    value_R, epoch_R = processes.fetch((weights["value"], weights["epoch"]))
    failed_R = checkpoints.failed(weights) | ~np.isfinite(loss_R)
    if failed_R.all():
        raise UserError(
            f"{workdir} holds no model with finite weights; train again with a lower "
            "optimizer.learning_rate, in a new --workdir."
        )
    predictions = predictions.of_replicas(np.flatnonzero(~failed_R))
    value_R = np.where(failed_R, -np.inf, value_R)
    results = collect_results(experiment, predictions, loss_R, value_R, epoch_R)
    results["provenance"] = {
        "training": metadata.get("provenance"),  # None for a run of an earlier version
        "evaluation": provenance.collect(config.train.compute_dtype),
    }
    if processes.is_first():
        files.write_json(workdir / "results.json", results)
        labels = experiment.records.labels
        predictions_csv.write(workdir / "predictions.csv", predictions, labels)
    print(headline(results), flush=True)
    return results


def _predict(
    experiment: Experiment, weights: dict[str, Any], layout: mesh.Layout
) -> tuple[Predictions, np.ndarray]:
    """Return the test predictions of all replicas, and each replica's mean cross-entropy."""
    groups = placement.split(checkpoints.weights_of(weights), layout)
    rows = [experiment.splits[replica.fold].test for replica in experiment.replicas]
    evaluator = Evaluator(experiment, BatchLoader(experiment.examples, layout), layout)
    sums, probabilities = evaluator(groups, rows)
    row_P, clips = np.concatenate(rows), experiment.records.clips
    predictions = Predictions(
        replica_P=np.repeat(np.arange(len(rows)), [len(test) for test in rows]),
        clip_P=np.array(clips.ids)[row_P],
        speaker_P=np.array(clips.speakers)[row_P],
        label_P=np.array(clips.labels)[row_P],
        probability_PxC=np.concatenate(probabilities),
    )
    return predictions, sums.loss / sums.n
