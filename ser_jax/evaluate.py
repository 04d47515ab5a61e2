"""Test metrics of the best weights → results.json and predictions.csv."""

import csv
import io
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from ser_jax import checkpoints, files, metric_log, metrics, parallel, record_reader, task
from ser_jax.evaluator import Evaluator
from ser_jax.train_state import Normalisation


def evaluate(config: ConfigDict, records_folder: Path, workdir: Path) -> dict[str, Any]:
    """Tests the best weights on the test part, each clip once, and writes the results.

    Returns:
      What results.json holds.

    Raises:
      UserError: nothing is trained there, or it was trained with another config.
    """
    weights, metadata = checkpoints.load_best(workdir)
    metric_log.claim(workdir, config, records_folder.parent.name)
    this = task.make(config, record_reader.open_records(records_folder))
    evaluator = Evaluator(this, parallel.Feed(this.examples))
    sums, probability_NxC = evaluator(
        weights["params"],
        weights.get("batch_stats", {}),
        Normalisation(**_fields(weights["normalisation"])),
        this.split.test,
    )
    confusion_CxC = np.asarray(sums.confusion_CxC)
    labels = list(this.records.labels)
    summary = metrics.summary(confusion_CxC, labels)
    results = {
        "config": config.name,
        "model": config.model.name,
        "input": config.input.kind,
        "protocol": config.split.name,
        "unseen_speakers": this.split.unseen_speakers,
        "corpus": this.corpus,
        "n_train": len(this.split.train),
        "n_train_examples": len(this.train_M),
        "n_val": len(this.split.val),
        "n_test": len(this.split.test),
        "n_test_speakers": len({this.records.clips.speakers[i] for i in this.split.test}),
        "labels": labels,
        **summary,
        "loss": float(sums.loss) / int(sums.n),
        "best_epoch": metadata["best_epoch"],
        "replicas": [
            {
                "seed": config.seed,
                "fold": config.split.fold,
                "best_epoch": metadata["best_epoch"],
                **summary,
            }
        ],
    }
    votes = [this.records.votes[i] for i in this.split.test]
    if all(votes):
        test_labels = np.array(this.records.clips.labels)[this.split.test]
        results["human"] = metrics.human(np.array(votes), test_labels)
    files.write_json(workdir / "results.json", results)
    files.write_text(workdir / "predictions.csv", _predictions(this, probability_NxC))
    print(
        f"Test ({this.corpus}, {config.split.name}, {results['n_test']} clips of "
        f"{results['n_test_speakers']} speakers, best epoch {results['best_epoch']}): accuracy "
        f"{results['accuracy']:.4f}, UAR {results['uar']:.4f}, macro-F1 {results['macro_f1']:.4f}."
    )
    return results


def _fields(normalisation: Any) -> dict[str, jax.Array]:
    return {name: normalisation[name] for name in ("mean_F", "sd_F")}


def _predictions(this: task.Task, probability_NxC: np.ndarray) -> str:
    """One row a test clip: id, speaker, true, predicted, a probability a class."""
    clips, labels = this.records.clips, this.records.labels
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "speaker", "true", "predicted", *labels])
    for row, probability_C in zip(this.split.test, probability_NxC, strict=True):
        writer.writerow(
            [
                clips.ids[row],
                clips.speakers[row],
                labels[clips.labels[row]],
                labels[int(np.argmax(probability_C))],
                *(f"{p:.6f}" for p in probability_C),
            ]
        )
    return text.getvalue()
