"""A workdir's config.json: which run it belongs to, and what may change on a restart."""

import json
from pathlib import Path

from ml_collections import ConfigDict

from ser_jax.common import files
from ser_jax.common.config import flatten
from ser_jax.common.errors import UserError
from ser_jax.encoders import weights
from ser_jax.models import registry
from ser_jax.parallel import processes
from ser_jax.train import checkpoints, metric_log

# Names, paths and devices may change between two starts of a run, and a run may be extended, since
# no epoch depends on how many follow. Nothing else that affects the result may change; init_from
# may lead elsewhere, to the same weights.
_MAY_CHANGE = """name records_dir corpus.title corpus.root corpus.tables_dir encoder.path
    train.epochs train.checkpoint_seconds train.tensorboard input.memory_limit_gb replicas.strategy
    replicas.at_once devices.replica devices.data report.clips_a_cell model.size""".split()
# Checksums of the other runs that a training draws on, by the key that names each.
_SOURCES = {"init_from": "init_from_sha256", "train.teacher": "teacher_sha256"}
_ENCODER = "encoder_sha256"  # of the encoder's, if it trains too; they have the model's size

# Keys that earlier runs lack, with the values that say what those runs did.
_ADDED = {
    "corpus.label_map": [],
    "split.column": "split",
    "split.inside": "",
    "encoder.path": "",
    "encoder.pooling": "statistics",
    "encoder.states": [],
    "encoder.context": 0.0,
    "optimizer.weight_decay": 0.0,
    "optimizer.clip_norm": 0.0,
    "optimizer.encoder_factor": 1.0,
    "optimizer.layer_decay": 1.0,
    "online_augmentation.time_masks": 0,
    "online_augmentation.time_mask_frames": 25,
    "online_augmentation.frequency_masks": 0,
    "online_augmentation.frequency_mask_columns": 10,
    "online_augmentation.frequency_shift": 0,
    "online_augmentation.time_shift": 0,
    "online_augmentation.level_sd": 0.0,
    "online_augmentation.noise_sd": 0.0,
    "online_augmentation.mixup": 0.0,
    "train.sampling": "shuffled",
    "train.focal_gamma": 0.0,
    "train.targets": "labels",
    "train.teacher": "",
    "train.teacher_temperature": 1.0,
    "optimizer.ema_decay": 0.0,
    "optimizer.schedule": "constant",
    "optimizer.warmup": 0.0,
}


def claim(
    workdir: Path, config: ConfigDict, records_name: str, *, is_training: bool = True
) -> None:
    """Write config.json, or check that the existing one describes the same run.

    Args:
      workdir: of the run.
      config: of the run.
      records_name: the name of the records' folder, which contains their fingerprint.
      is_training: whether the run goes on to train, and config.json is to be rewritten.

    Raises:
      UserError: the workdir belongs to a run with another config, other records or other initial
        weights, has trained more epochs than the config has, or is not writable.
    """
    path = workdir / "config.json"
    content = json.loads(config.to_json()) | {"records": records_name}
    before = _ADDED | flatten(files.read_json(path)) if path.exists() else {}
    may_change = _MAY_CHANGE
    if config.optimizer.schedule != "constant":  # whose rates depend on how many epochs follow
        may_change = [key for key in may_change if key != "train.epochs"]
    for key, name in _SOURCES.items():
        source = flatten(content)[key]
        if before.get(name):
            may_change = [*may_change, key]  # the weights are compared instead
        if source and (not before or before.get(name)):
            moved = before.get(key) != source
            content[name] = (
                checkpoints.source_sha256(Path(source)) if is_training or moved else before[name]
            )
    if registry.MODELS[config.model.name].is_pretrained:
        content[_ENCODER] = (
            before[_ENCODER]
            if before and not is_training
            else files.sha256_of(weights.file_in(Path(config.encoder.path)))
        )
    if before:
        now = flatten(content)
        changes = [
            f"{key} was {before.get(key)!r} and is {now.get(key)!r}"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key) and key not in may_change
        ]
        if changes:
            raise UserError(
                f"{workdir} belongs to a run with another config: {'; '.join(changes)}. Choose "
                "another --workdir, or delete this one."
            )
        n_trained = metric_log.n_epochs(workdir)
        if config.train.epochs < n_trained:
            raise UserError(
                f"{workdir} has trained {n_trained} epochs, and train.epochs={config.train.epochs} "
                f"is less; give {n_trained} or more, or choose another --workdir."
            )
    if processes.is_first() and (is_training or not before):
        files.write_json(path, content)
