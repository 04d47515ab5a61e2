"""The README and the licence note of an export."""

import contextlib
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ser_jax.common.errors import UserError
from ser_jax.features import FeatureSpec
from ser_jax.pages import numbers

_UNKNOWN = (
    "The licence of this corpus is not recorded with the run; ask whoever distributes the corpus."
)

_TEXTS = (".txt", ".md", ".rst", ".html", ".htm")  # a text with such an ending is a file name

_COLUMNS = 95
_README = """\
Speech emotion recognition: {corpus} -> {labels}

model.bin is one function: features, normalisation and {n_replicas} trained network{s}.
It runs on a CPU, an NVIDIA GPU or a TPU, and needs only

    pip install "jax>={jax}" numpy flatbuffers

(JAX guarantees that later versions can read such a file for at least six months.)

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
The network uses the first {seconds:.1f} s of a clip; training had no clip below {least:.1f} s.
Each new number of clips or samples is compiled, so pad clips to a few lengths; padding past the
end of a clip does not change the result. For other formats, read with samples, rate =
soundfile.read(path, dtype="float32"), average the channels, and resample as in training with
soxr.resample(samples, rate, {sampling_rate}, quality="HQ"). ser_jax does all of this:

    from ser_jax.predictor import Predictor
    Predictor("THIS.zip")(samples, rate).emotion

{results}
LICENCE.txt names the corpus that the weights were trained on. model.json describes the model and
holds the SHA-256 of every other file. Nothing here is a pickle, and opening the file runs no code
except the network, which XLA compiles.
"""

_ONNX = """
model.onnx computes the mean probability with ONNX Runtime. Inputs: waveform, float32
[clips, {samples}], and n_samples, int32 [clips]; output: probability. The number of samples is
fixed: pad with zeros or cut to it.
"""


def call(spec: FeatureSpec, n_replicas: int) -> str:
    """Describe inputs and outputs of model.bin."""
    return (
        f"Inputs: waveform, float32 [clips, samples], mono at {spec.sampling_rate} Hz, full scale "
        "±1, padded at the end to the same number of samples; n_samples, int32 [clips], the length "
        "of each clip, at least 1. Both sizes are arbitrary. Outputs: the mean probabilities, "
        f"float32 [clips, classes], and those of each replica, float32 [{n_replicas}, clips, "
        "classes]; classes in the order of labels."
    )


def readme(
    manifest: Mapping[str, Any], results: Mapping[str, Any] | None, onnx_samples: int
) -> str:
    """Return README.txt from model.json, the headline results and the length of model.onnx's input.

    Results are None if the run was not evaluated, the length is 0 if there is no model.onnx.
    """
    spec, n_replicas = FeatureSpec(**manifest["features"]), len(manifest["replicas"])
    text = _README.format(
        corpus=manifest["corpus"],
        labels=", ".join(manifest["labels"]),
        n_replicas=n_replicas,
        s="s, averaged" if n_replicas > 1 else "",
        jax=manifest["jax"],
        sampling_rate=spec.sampling_rate,
        call=textwrap.fill(manifest["call"], _COLUMNS) + "\n",
        seconds=spec.n_samples(manifest["max_frames"]) / spec.sampling_rate,
        least=0.0
        if spec.fixed_frames
        else spec.n_samples(manifest["min_frames"] - 1) / spec.sampling_rate,
        results=textwrap.fill(_results(results) + _left_out(manifest["failed"]), _COLUMNS) + "\n",
    )
    return text + (_ONNX.format(samples=onnx_samples) if onnx_samples else "")


def _results(results: Mapping[str, Any] | None) -> str:
    if results is None:
        return "The run was not evaluated, so its accuracy is unknown."
    uar = results["intervals"]["uar"]
    interval = ""
    if uar["low"] is not None:
        interval = f" (95 % over speakers: {numbers.span(uar['low'], uar['high'], '.3f', 1)})"
    speakers = "unseen speakers" if results["unseen_speakers"] else "speakers seen in training"
    return (
        f"Evaluated on {results['n_test']} test clips of {results['n_test_speakers']} {speakers}, "
        f"same corpus, protocol {results['protocol']}, each replica by itself: unweighted average "
        f"recall {uar['mean']:.3f}{interval}; chance is {1 / len(results['labels']):.3f}. "
        "results.json has more. Other voices, rooms and languages were not tested."
    )


def _left_out(failed: Sequence[str]) -> str:
    return f" Left out, since the training failed: {'; '.join(failed)}." if failed else ""


def licence(corpora: Mapping[str, str], missing: str = "", given: str = "") -> str:
    """Return LICENCE.txt.

    Args:
      corpora: by title, their licences in full sentences, or "" where none is recorded; the first
        is the run's own, and the others are those of the runs from whose weights it started.
      missing: the name of a run from whose weights it started, but which is not there any more.
      given: the user's text or text file to use instead; "" for none.
    """
    if given:
        return _given(given).rstrip() + "\n"
    parts, beginning = [], "The weights of this network were trained on"
    for corpus, terms in corpora.items():
        parts += [f"{beginning}: {corpus}.", terms or _UNKNOWN]
        beginning = "The training started from weights that were trained on"
    if missing:
        parts.append(
            f"The training started from the weights of another run, {missing}; this note does not "
            "cover the data and the licence of that run, which is not there any more."
        )
    parts.append(
        "The licence of a corpus may extend to what is learnt from it, including these weights; "
        "check before you use or distribute them. This note is not legal advice."
    )
    return "\n\n".join(textwrap.fill(part, _COLUMNS) for part in parts) + "\n"


def _given(text: str) -> str:
    is_file = "\n" not in text and Path(text).suffix.lower() in _TEXTS
    with contextlib.suppress(OSError, ValueError):  # the text is not a valid path
        is_file = is_file or Path(text).is_file()
    try:
        text = Path(text).read_text(encoding="utf-8") if is_file else text
    except FileNotFoundError:
        raise UserError(
            f"--licence={text} does not exist; give an existing text file, or the text itself."
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"--licence={text} is not readable; save the file as UTF-8.") from error
    if not text.strip():
        raise UserError("--licence is empty; give a text or a text file, or omit the flag.")
    return text
