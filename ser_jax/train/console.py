"""What the terminal shows of a training: parameters, data, a line an epoch."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from ser_jax.pages.numbers import percent
from ser_jax.train.experiment import Experiment
from ser_jax.train.state import TrainState


def parameter_table(params: Mapping[str, Any]) -> str:
    """Name, shape and count of each parameter, and their total, as aligned text."""
    rows = [
        (
            jax.tree_util.keystr(path, simple=True, separator="/"),
            "×".join(map(str, leaf.shape)),
            leaf.size,
        )
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    ]
    rows.append(("total", "", sum(count for *_, count in rows)))
    wide, high = (max(len(row[i]) for row in rows) for i in (0, 1))
    return "\n".join(
        f"{name:<{wide}}  {shape:<{high}}  {count:>12,}" for name, shape, count in rows
    )


def describe(task: Experiment, state: TrainState) -> str:
    """What is about to be trained, for the console."""
    config, examples = task.config, task.examples
    where = "in memory" if examples.x_NxTxF is not None else "streamed from disk"
    n_examples = {fold: len(task.train_M(fold)) for fold in task.splits}
    n_steps = math.ceil(max(n_examples.values()) / config.train.batch_size)
    counts = sorted(set(n_examples.values()))
    lines = [
        parameter_table(state.params),
        "",
        *(_describe_split(task, fold) for fold in task.splits),
        f"{'–'.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} training examples (views: "
        "original"
        + "".join(f", {view}" for view in config.input.views)
        + f") of {examples.max_frames} frames × {examples.width} columns, "
        f"{examples.n_bytes / 1e9:.2f} GB {where}; "
        f"{n_steps} steps an epoch on {jax.devices()[0].device_kind}.",
    ]
    split = next(iter(task.splits.values()))
    if not split.unseen_speakers:
        speakers = np.array(task.records.clips.speakers)
        seen = np.isin(speakers[split.test], speakers[split.train]).mean()
        lines.append(
            f"NOTE: {percent(seen)} of the test clips are of speakers seen in training. The "
            "result says nothing about new speakers; split.name=tfds or speaker_kfold does."
        )
    return "\n".join(lines)


def _describe_split(task: Experiment, fold: int) -> str:
    split, speakers = task.splits[fold], np.array(task.records.clips.speakers)
    return (
        f"{task.corpus}, protocol {split.protocol}"
        + (f", fold {fold}" if len(task.splits) > 1 else "")
        + ": "
        + ", ".join(
            f"{part} {len(rows)} clips of {len(set(speakers[rows]))} speakers"
            for part, rows in split.parts().items()
        )
        + "."
    )


def header(n_replicas: int) -> str:
    """The console's column titles."""
    return (
        "epoch      loss  accuracy  macro-F1        l2 |  val loss  accuracy  macro-F1 |"
        "      rate     time   clips/s" + ("  training" if n_replicas > 1 else "")
    )


def line(rows: Sequence[dict[str, float]], n_epochs: int, n_replicas: int) -> str:
    """One epoch under `header`: the mean over the replicas that still train."""
    row = {key: sum(each[key] for each in rows) / len(rows) for key in rows[0]}
    train = f"{row['train/loss']:9.4f} {row['train/accuracy']:9.4f} {row['train/macro_f1']:9.4f}"
    val = f"{row['val/loss']:9.4f} {row['val/accuracy']:9.4f} {row['val/macro_f1']:9.4f}"
    epoch = f"{rows[0]['epoch']:>3}/{n_epochs:<3}"
    cost = f"{row['seconds']:7.1f}s {row['examples_per_second']:9.1f}"
    training = f"  {len(rows)} of {n_replicas}" if n_replicas > 1 else ""
    return (
        f"{epoch} {train} {row['train/l2']:9.4f} | {val} | {row['learning_rate']:9.2e} "
        f"{cost}{training}"
    )
