"""Trained run → one file; see ser_jax.predict.exported_model for its layout.

Axes: R replicas, B batch, S samples, C classes.
"""

import dataclasses
import hashlib
import json
import types
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import export as jax_export

from ser_jax.common.errors import UserError
from ser_jax.common.files import read_json, replacing
from ser_jax.data.leakage import Heard
from ser_jax.evaluate.finished_run import chosen_replicas
from ser_jax.export import texts
from ser_jax.metrics import classification
from ser_jax.predict import exported_model
from ser_jax.predict.trained_model import TrainedModel
from ser_jax.train import checkpoints

PLATFORMS = ("cpu", "cuda", "tpu")
# Keys of results.json; the rest is about single clips, speakers and replicas.
_HEADLINE = (
    "config model input protocol unseen_speakers unseen_sentences corpus n_train n_train_examples "
    "n_val n_test n_test_speakers labels per_class confusion intervals"
).split()
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # a fixed date, the first that a zip can hold


def probabilities(
    model: TrainedModel,
) -> Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    """Return the exported function.

    (waveform_BxS, n_samples_B) → (probability_BxC, probability_RxBxC), the mean and each replica.
    """
    spec = model.spec
    model = dataclasses.replace(model, network=model.network.clone(portable=True))
    # With S symbolic, XLA must be able to prove that a second frame fits; the padding is ignored.
    more = 0 if spec.centered else spec.frame_length + spec.hop_length

    def function(waveform: jax.Array, n_samples: jax.Array) -> tuple[jax.Array, jax.Array]:
        x_BxTxF, n_frames_B = model.examples(jnp.pad(waveform, ((0, 0), (0, more))), n_samples)
        # One replica after another: vmap over weights makes convolutions slower on CPU.
        logits = [model.logits(weights, x_BxTxF, n_frames_B) for weights in model.weights]
        probability_RxBxC = jnp.stack([jax.nn.softmax(logits_BxC) for logits_BxC in logits])
        return probability_RxBxC.mean(axis=0), probability_RxBxC

    return function


def program(model: TrainedModel) -> bytes:
    """Serialise `probabilities` with its weights, for any B and S and for all PLATFORMS."""
    b, s = jax_export.symbolic_shape("b, s")
    clips = jax.ShapeDtypeStruct((b, s), jnp.float32), jax.ShapeDtypeStruct((b,), jnp.int32)
    limit = jax.config.jax_traceback_in_locations_limit
    # Recorded source paths and lines would reveal local folders.
    jax.config.update("jax_traceback_in_locations_limit", 0)
    try:
        exported = jax_export.export(jax.jit(probabilities(model)), platforms=PLATFORMS)(*clips)
    finally:
        jax.config.update("jax_traceback_in_locations_limit", limit)
    return bytes(exported.serialize(vjp_order=0))


def members(
    model: TrainedModel,
    results: Mapping[str, Any] | None = None,
    licence: str = "",
    onnx: bool = False,
    heard: Mapping[int, Heard] = types.MappingProxyType({}),
) -> dict[str, bytes]:
    """Return all members of the zip by name.

    Args:
      model: the trained model.
      results: its `headline`, if it was evaluated.
      licence: text, or path of a text file, that replaces the note on the corpus.
      onnx: whether to include model.onnx.
      heard: by each fold of its training; without it the file cannot teach another training.

    Raises:
      UserError: the licence cannot be read, or the ONNX export failed.
    """
    note = texts.licence(*_corpora(model), licence)
    contents = {exported_model.LICENCE: note.encode()}
    manifest = {
        "format_version": exported_model.FORMAT_VERSION,
        "corpus": model.corpus,
        "labels": list(model.labels),
        "sampling_rate": model.spec.sampling_rate,
        "features": dataclasses.asdict(model.spec),
        "input": model.kind,
        "min_frames": model.min_frames,
        "max_frames": model.max_frames,
        "model": model.config["model"],
        "replicas": [
            {"replica": number, **dataclasses.asdict(replica)}
            for number, replica in zip(model.numbers, model.replicas, strict=True)
        ],
        "failed": [str(replica) for replica in model.failed],
        "jax": jax.__version__,
        "platforms": list(PLATFORMS),
        "call": texts.call(model.spec, len(model.replicas)),
    }
    contents[exported_model.MODEL] = program(model)
    onnx_samples = 0
    if onnx:
        from ser_jax.export.onnx import convert

        onnx_samples = model.spec.n_samples(model.max_frames)
        contents[exported_model.ONNX] = convert(probabilities(model), onnx_samples)
    if heard:
        folds = sorted({replica.fold for replica in model.replicas})
        lists = {str(fold): heard[fold].to_json() for fold in folds}
        contents[exported_model.HEARD] = json.dumps(lists).encode()
    if results is not None:
        contents[exported_model.RESULTS] = _json(results)
    contents[exported_model.README] = texts.readme(manifest, results, onnx_samples).encode()
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(contents.items())}
    return {**contents, exported_model.MANIFEST: _json({**manifest, "sha256": sums})}


def _corpora(model: TrainedModel) -> tuple[dict[str, str], str]:
    """Return {corpus: licence} of a run and of those from whose weights it started.

    The second value is the name of one of these that is not there any more, or "".
    """
    corpora, config = {model.corpus: model.licence}, model.config
    while source := config.get("init_from"):
        try:
            metadata = checkpoints.best_metadata(Path(source))
        except UserError:
            return corpora, Path(source).name
        corpora.setdefault(metadata["corpus"], metadata.get("licence", ""))
        config = metadata["config"]
    return corpora, ""


def headline(workdir: Path, model: TrainedModel) -> dict[str, Any] | None:
    """Return the headline results of a run; None if it was not evaluated.

    Raises:
      UserError: results.json is damaged or of another training.
    """
    path, remedy = workdir / exported_model.RESULTS, "run --mode=evaluate with this --workdir"
    if not path.exists():
        return None
    results = read_json(path, remedy)
    try:
        epoch_of = {r["replica"]: r["best_epoch"] for r in chosen_replicas(results)}
        values = {key: results[key] for key in (*_HEADLINE, *classification.HEADLINE)}
        # Replicas that diverged were evaluated but do not predict.
        epochs = tuple(epoch_of.get(number) for number in model.numbers)
        fits = epochs == model.epochs and values["labels"] == list(model.labels)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged; {remedy}.") from error
    if not fits:
        raise UserError(f"{path} does not belong to this trained model; {remedy}.")
    return values


def write(path: Path, contents: Mapping[str, bytes]) -> None:
    """Write a zip, completely or not at all; equal contents give equal bytes."""
    if path.is_dir():
        raise UserError(f"--out={path} is a folder; give a file, such as {path / 'emotion.zip'}.")
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, data in sorted(contents.items()):
            info = zipfile.ZipInfo(name, _ZIP_DATE)
            info.create_system, info.external_attr = 3, 0o644 << 16
            archive.writestr(info, data)


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode()
