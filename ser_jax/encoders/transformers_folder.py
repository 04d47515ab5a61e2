"""An encoder in Hugging Face's layout, by transformers and PyTorch; see
requirements/transformers.txt.

wav2vec2, HuBERT, WavLM, Whisper and what shares their input, classifiers of emotion included: the
body is used, and its head left out. Nothing is downloaded, no code of a folder is run, and weights
are read from safetensors alone.

Axes: S samples, P positions, D width.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ser_jax.common import files
from ser_jax.common.errors import UserError
from ser_jax.encoders import weights
from ser_jax.encoders.clipwise import ClipwiseEncoder

CONFIG = "config.json"
_SETTINGS = {
    CONFIG: "what encoder it is",
    "preprocessor_config.json": "how its waveforms are scaled",
}
_INPUTS = {"Wav2Vec2FeatureExtractor": "input_values", "WhisperFeatureExtractor": "input_features"}
_UNUSED = {"masked_spec_embed"}  # for training alone; many files lack it


def model_type(folder: Path) -> str:
    """Return what config.json names, such as wav2vec2, or "" if there is none.

    Raises:
      UserError: config.json cannot be read.
    """
    if not (folder / CONFIG).is_file():
        return ""
    config = files.read_json(folder / CONFIG, remedy="get the folder again")
    return str(config.get("model_type", "")) if isinstance(config, dict) else ""


def sha256_of(folder: Path) -> str:
    """Return the SHA-256 of names and checksums of weights and settings.

    Raises:
      UserError: a file is missing.
    """
    for name, meaning in _SETTINGS.items():
        if not (folder / name).is_file():
            raise UserError(f"{folder} has no {name}, which says {meaning}; get that file too.")
    parts = sorted(folder.glob("*.safetensors"))
    if not parts:
        weights.file_in(folder)  # says what is there instead
    parts += sorted(folder.glob("*config.json"))
    lines = [f"{files.sha256_of(part)}  {part.name}\n" for part in parts]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


class TransformersEncoder(ClipwiseEncoder):
    """An encoder that PyTorch runs, on the CPU."""

    def __init__(self, path: Path, sampling_rate: int):
        super().__init__(path, sampling_rate)
        try:
            import torch
            import transformers
        except ImportError as error:
            raise UserError(
                f"{path} needs transformers and PyTorch; pip install -r "
                "requirements/transformers.txt."
            ) from error
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        own = {"local_files_only": True, "trust_remote_code": False}
        try:
            extractor = transformers.AutoFeatureExtractor.from_pretrained(path, **own)
            model, loaded = transformers.AutoModel.from_pretrained(
                path, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **own
            )
        except Exception as error:  # of any of three libraries
            reason = " ".join(str(error).split())
            raise UserError(
                f"{path} cannot be opened by transformers ({reason[:200]}); it must be a complete "
                "folder of an encoder."
            ) from error
        self._input = _INPUTS.get(type(extractor).__name__)
        if not self._input:
            raise UserError(
                f"{path} takes its input from {type(extractor).__name__}; only encoders with "
                f"{' or '.join(_INPUTS)} can be used."
            )
        if extractor.sampling_rate != sampling_rate:
            raise UserError(
                f"{path} takes waveforms at {extractor.sampling_rate} Hz, and "
                f"features.sampling_rate is {sampling_rate}; set "
                f"--config.features.sampling_rate={extractor.sampling_rate}."
            )
        has_decoder = model.config.is_encoder_decoder
        missing = {*loaded["missing_keys"], *(key for key, *_ in loaded["mismatched_keys"])}
        missing = {n for n in missing - _UNUSED if not has_decoder or n.startswith("encoder.")}
        if missing:  # they would be random
            raise UserError(
                f"{path} lacks the tensor {min(missing)}, or has it in another shape; get it again."
            )
        if self._input == "input_features":
            self.fixed = extractor.n_samples
        torch.set_num_threads(1)  # callers are threads
        self._no_gradient = torch.inference_mode
        self._extractor = extractor
        self._model = (model.get_encoder() if has_decoder else model).eval()
        self.measure()

    def run(self, waveform_1xS: np.ndarray) -> Sequence[np.ndarray]:
        """Return all hidden states of a clip, 1xPxD each."""
        inputs = self._extractor(
            waveform_1xS[0], sampling_rate=self.sampling_rate, return_tensors="pt"
        )
        with self._no_gradient():
            outputs = self._model(inputs[self._input], output_hidden_states=True)
        return [x.numpy() for x in outputs.hidden_states or [outputs.last_hidden_state]]
