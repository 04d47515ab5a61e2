"""What an export says to people: its licence note and its README."""

import contextlib
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ser_jax.common.errors import UserError
from ser_jax.features import FeatureSpec
from ser_jax.pages import numbers

# By the reader's name: what the corpus' makers ask for.
_LICENCES = {
    "crema_d": "CREMA-D is under the Open Database License (ODbL) 1.0, its contents under the "
    "Database Contents License (DbCL) 1.0.",
    "ravdess": "RAVDESS is under the Creative Commons licence CC BY-NC-SA 4.0: attribution, no "
    "commercial use, share alike.",
    "synthetic": "The corpus is made by a program and holds nobody's voice; no licence of its own "
    "is known to bind it.",
}
_UNKNOWN = "The licence of this corpus is not known to the program that wrote this note."

_TEXTS = (".txt", ".md", ".rst", ".html", ".htm")  # a text that ends so is a file's name

_COLUMNS = 95
_README = """\
Speech emotion recognition: {corpus} -> {labels}

model.bin is one function: features, normalisation and {n_replicas} trained network{s}.
It runs on a CPU, an NVIDIA GPU or a TPU and needs no more than

    pip install "jax>={jax}" numpy flatbuffers

(JAX promises that its later versions read such a file for at least half a year.)

Save this as example.py and run: python example.py THIS.zip CLIP.wav

    import json, sys, wave, zipfile
    import jax, numpy as np
    from jax import export
    with zipfile.ZipFile(sys.argv[1]) as archive:
        labels = json.loads(archive.read("model.json"))["labels"]
        model = jax.jit(export.deserialize(bytearray(archive.read("model.bin"))).call)
    with wave.open(sys.argv[2]) as file:  # 16 bits, one channel
        assert file.getparams()[:3] == (1, 2, {sampling_rate}), file.getparams()
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / np.float32(32768)
    mean, each = model(samples[None], np.array([len(samples)], np.int32))
    for label, probability in zip(labels, np.asarray(mean)[0]):
        print(f"{{probability:.6f}} {{label}}")

{call}
The network hears the first {seconds:.1f} s of a clip; training had none below {least:.1f} s.
Each new number of clips or of samples compiles anew, so pad clips to a few lengths: what is past
a clip's end counts for nothing. Other formats: samples, rate = soundfile.read(path,
dtype="float32"), the mean of the channels, and, as in training, soxr.resample(samples, rate,
{sampling_rate}, quality="HQ"). ser_jax does all that itself:

    from ser_jax.predictor import Predictor
    Predictor("THIS.zip")(samples, rate).emotion

{results}
LICENCE.txt says what the weights were trained on. model.json holds the rest, and the SHA-256 of
every other file. There is no pickle in here, and opening it runs no code of the file's but the
network, which XLA compiles.
"""

_ONNX = """
model.onnx is the mean probability for ONNX Runtime: inputs waveform, float32 [clips, {samples}],
and n_samples, int32 [clips]; output probability. Its number of samples is fixed: pad with zeros or
cut to it.
"""


def call(spec: FeatureSpec, n_replicas: int) -> str:
    """The calling convention in words."""
    return (
        f"Inputs: waveform, float32 [clips, samples], mono at {spec.sampling_rate} Hz, full scale "
        "±1, padded at the end to the same number of samples; n_samples, int32 [clips], each "
        "clip's own length, 1 or more. Both sizes are free. Outputs: the mean probabilities, "
        f"float32 [clips, classes], and those of each replica, float32 [{n_replicas}, clips, "
        "classes]; classes in the order of labels."
    )


def readme(about: Mapping[str, Any], results: Mapping[str, Any] | None, onnx_samples: int) -> str:
    """README.txt.

    Args:
      about: what model.json says.
      results: the headline of results.json, if there is one.
      onnx_samples: the length that model.onnx takes; 0 if there is none.
    """
    spec, n_replicas = FeatureSpec(**about["features"]), len(about["replicas"])
    text = _README.format(
        corpus=about["corpus"],
        labels=", ".join(about["labels"]),
        n_replicas=n_replicas,
        s="s, averaged" if n_replicas > 1 else "",
        jax=about["jax"],
        sampling_rate=spec.sampling_rate,
        call=textwrap.fill(about["call"], _COLUMNS) + "\n",
        seconds=heard(spec, about["max_frames"]) / spec.sampling_rate,
        least=heard(spec, about["min_frames"] - 1) / spec.sampling_rate,
        results=textwrap.fill(_sentence(results), _COLUMNS) + "\n",
    )
    return text + (_ONNX.format(samples=onnx_samples) if onnx_samples else "")


def _sentence(results: Mapping[str, Any] | None) -> str:
    if results is None:
        return "It has not been evaluated, so how well it does is not known."
    uar = results["intervals"]["uar"]
    interval = ""
    if uar["low"] is not None:
        interval = f" (95 % over speakers: {numbers.span(uar['low'], uar['high'], '.3f', 1)})"
    whose = "speakers not in training" if results["unseen_speakers"] else "speakers of training"
    return (
        f"Measured on {results['n_test']} test clips of {results['n_test_speakers']} {whose}, of "
        f"the same corpus (protocol {results['protocol']}), a replica at a time: unweighted "
        f"average recall {uar['mean']:.3f}{interval}; chance is {1 / len(results['labels']):.3f}. "
        "results.json has more. Other voices, rooms and languages were not measured."
    )


def licence(config: Mapping[str, Any], corpus: str, given: str = "") -> str:
    """LICENCE.txt.

    Args:
      config: of the run.
      corpus: what results call it.
      given: the user's own note, or the path of a file that holds it; "" for the program's.

    Raises:
      UserError: there is no such file, or it is no text.
    """
    if given:
        return _given(given).rstrip() + "\n"
    parts = [
        f"The weights of this network were trained on: {corpus}.",
        _LICENCES.get(config["corpus"]["name"], _UNKNOWN),
    ]
    if config.get("init_from"):
        parts.append(
            "The training started from the weights of another run, "
            f"{Path(config['init_from']).name}; what those were trained on, and under which "
            "licence, this note does not say."
        )
    parts.append(
        "A corpus' licence may bind what is learnt from it, these weights included; find out "
        "before you use them or pass them on. This note is no legal advice."
    )
    return "\n\n".join(textwrap.fill(part, _COLUMNS) for part in parts) + "\n"


def _given(text: str) -> str:
    is_file = "\n" not in text and Path(text).suffix.lower() in _TEXTS
    with contextlib.suppress(OSError, ValueError):  # a text is no path, or too long for one
        is_file = is_file or Path(text).is_file()
    try:
        text = Path(text).read_text(encoding="utf-8") if is_file else text
    except FileNotFoundError:
        raise UserError(
            f"--licence={text} does not exist; name a text file or give the text."
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"--licence={text} cannot be read as text; give UTF-8.") from error
    if not text.strip():
        raise UserError("--licence is empty; give a text or a file, or leave it out.")
    return text


def heard(spec: FeatureSpec, max_frames: int) -> int:
    """Samples of the longest clip all of which the network hears."""
    return max_frames * spec.hop_length + (0 if spec.centered else spec.frame_length)
