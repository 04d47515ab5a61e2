"""A trained run in one file that needs neither this repository nor its workdir.

python -m ser_jax.export --workdir=runs/cnn2d-tfds --out=emotion.zip

See ser_jax.bundle for what is in it. Axes: R replicas, B batch, S samples, C classes.
"""

import contextlib
import dataclasses
import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import export as jax_export

from ser_jax.common import files
from ser_jax.common.errors import UserError
from ser_jax.evaluate.finished_run import chosen_replicas
from ser_jax.export import texts
from ser_jax.metrics import classification
from ser_jax.predict import exported_model
from ser_jax.predict.trained_model import TrainedModel

PLATFORMS = ("cpu", "cuda", "tpu")
# Of results.json; the rest is about single clips, speakers and replicas.
_HEADLINE = (
    "config model input protocol unseen_speakers unseen_sentences corpus n_train n_train_examples "
    "n_val n_test n_test_speakers labels per_class confusion intervals"
).split()
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the first date that a zip knows


def probabilities(
    this: TrainedModel,
) -> Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    """(waveform_BxS, n_samples_B) → (probability_BxC, probability_RxBxC), the mean and each."""
    spec = this.spec
    this = dataclasses.replace(this, model=this.model.clone(portable=True))
    # While S is unknown it must be sure that a second frame fits; past a clip's end nothing counts.
    more = 0 if spec.centered else spec.frame_length + spec.hop_length

    def function(waveform: jax.Array, n_samples: jax.Array) -> tuple[jax.Array, jax.Array]:
        x_BxTxF, n_frames_B = this.examples(jnp.pad(waveform, ((0, 0), (0, more))), n_samples)
        # One after another, not mapped: XLA:CPU convolves far faster so.
        each = [jax.nn.softmax(this.logits(w, x_BxTxF, n_frames_B)) for w in this.weights]
        probability_RxBxC = jnp.stack(each)
        return probability_RxBxC.mean(axis=0), probability_RxBxC

    return function


def program(this: TrainedModel) -> bytes:
    """`probabilities` with its weights, for any sizes and for PLATFORMS."""
    b, s = jax_export.symbolic_shape("b, s")
    clips = jax.ShapeDtypeStruct((b, s), jnp.float32), jax.ShapeDtypeStruct((b,), jnp.int32)
    with _no_source_lines():
        exported = jax_export.export(jax.jit(probabilities(this)), platforms=PLATFORMS)(*clips)
    return bytes(exported.serialize(vjp_order=0))


@contextlib.contextmanager
def _no_source_lines() -> Iterator[None]:
    """JAX notes the path and line of each operation; where this lies is nobody's business."""
    name = "jax_traceback_in_locations_limit"
    before = getattr(jax.config, name)
    jax.config.update(name, 0)
    try:
        yield
    finally:
        jax.config.update(name, before)


def members(
    this: TrainedModel,
    results: Mapping[str, Any] | None = None,
    licence: str = "",
    onnx: bool = False,
) -> dict[str, bytes]:
    """All that is in the zip.

    Args:
      this: what a workdir has learnt.
      results: the headline of its evaluation, if there was one.
      licence: in place of the note on the corpus: a text, or the path of one.
      onnx: whether model.onnx is wanted.

    Raises:
      UserError: the licence cannot be read, or ONNX was asked for and cannot be had.
    """
    found = {exported_model.LICENCE: texts.licence(this.config, this.corpus, licence).encode()}
    about = {
        "format_version": exported_model.FORMAT_VERSION,
        "corpus": this.corpus,
        "labels": list(this.labels),
        "sampling_rate": this.spec.sampling_rate,
        "features": dataclasses.asdict(this.spec),
        "input": this.kind,
        "min_frames": this.min_frames,
        "max_frames": this.max_frames,
        "model": this.config["model"],
        "replicas": [
            {"replica": number, **dataclasses.asdict(replica)}
            for number, replica in zip(this.numbers, this.replicas, strict=True)
        ],
        "jax": jax.__version__,
        "platforms": list(PLATFORMS),
        "call": texts.call(this.spec, len(this.replicas)),
    }
    found[exported_model.MODEL] = program(this)
    onnx_samples = 0
    if onnx:
        from ser_jax.export import onnx as export_onnx

        onnx_samples = texts.heard(this.spec, this.max_frames)
        found[exported_model.ONNX] = export_onnx.convert(probabilities(this), onnx_samples)
    if results is not None:
        found[exported_model.RESULTS] = _json(results)
    found[exported_model.README] = texts.readme(about, results, onnx_samples).encode()
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(found.items())}
    return {**found, exported_model.ABOUT: _json({**about, "sha256": sums})}


def headline(workdir: Path, this: TrainedModel) -> dict[str, Any] | None:
    """What an evaluation found, without its details; None if there was none.

    Raises:
      UserError: results.json is damaged or of another training.
    """
    path, remedy = workdir / exported_model.RESULTS, "run --mode=evaluate with this --workdir"
    if not path.exists():
        return None
    results = files.read_json(path, remedy)
    try:
        epoch_of = {r["replica"]: r["best_epoch"] for r in chosen_replicas(results)}
        found = {key: results[key] for key in (*_HEADLINE, *classification.HEADLINE)}
        # One that diverged was tested and does not predict.
        epochs = tuple(epoch_of.get(number) for number in this.numbers)
        fits = epochs == this.epochs and found["labels"] == list(this.labels)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged; {remedy}.") from error
    if not fits:
        raise UserError(f"{path} is not of the model that is there; {remedy}.")
    return found


def write(path: Path, contents: Mapping[str, bytes]) -> None:
    """Writes a zip: the same bytes for the same contents, all of it or nothing."""
    if path.is_dir():
        raise UserError(f"--out={path} is a folder; name a file, such as {path / 'emotion.zip'}.")
    with files.replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, data in sorted(contents.items()):
            info = zipfile.ZipInfo(name, _LONG_AGO)
            info.create_system, info.external_attr = 3, 0o644 << 16
            archive.writestr(info, data)


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode()
