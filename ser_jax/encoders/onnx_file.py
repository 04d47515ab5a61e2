"""An encoder in an ONNX file, by onnxruntime; see requirements/onnx.txt.

The file takes one input, a waveform [batch, samples] of float32, and returns its layers, each
[batch, positions, width]. The weights are in the file itself. Its metadata property
`sampling_rate`, if there is one, must be that of the features.

Axes: S samples, P positions, D width.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ser_jax.common.errors import UserError
from ser_jax.encoders.clipwise import ClipwiseEncoder

SUFFIX = ".onnx"
RATE = "sampling_rate"  # the metadata property, in Hz


class OnnxEncoder(ClipwiseEncoder):
    """An encoder that onnxruntime runs, on the CPU."""

    def __init__(self, path: Path, sampling_rate: int):
        super().__init__(path, sampling_rate)
        try:
            import onnxruntime
        except ImportError as error:
            raise UserError(
                f"{path} needs onnxruntime; pip install --no-deps -r requirements/onnx.txt."
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # callers are threads
        options.log_severity_level = 4  # what it logs it also raises
        try:
            # From bytes, so that it can read no other file.
            self._session = onnxruntime.InferenceSession(
                path.read_bytes(), options, providers=["CPUExecutionProvider"]
            )
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror or error}).") from error
        except Exception as error:  # onnxruntime's have no class in common
            reason = " ".join(str(error).split())
            raise UserError(
                f"{path} cannot be opened by onnxruntime ({reason[:200]}); it must be a complete "
                "ONNX model with its weights in the same file."
            ) from error
        self._check_rate(self._session.get_modelmeta().custom_metadata_map.get(RATE))
        self._check_input()
        self.measure()

    def run(self, waveform_1xS: np.ndarray) -> Sequence[np.ndarray]:
        """Return all hidden states of a clip, 1xPxD each."""
        return self._session.run(None, {self._session.get_inputs()[0].name: waveform_1xS})

    def _check_rate(self, stated: str | None) -> None:
        if stated not in (None, str(self.sampling_rate)):
            raise UserError(
                f"{self.path} takes waveforms at {stated} Hz, and features.sampling_rate is "
                f"{self.sampling_rate}; set --config.features.sampling_rate={stated}."
            )

    def _check_input(self) -> None:
        inputs = self._session.get_inputs()
        described = ", ".join(f"{i.name} {i.shape} of {i.type}" for i in inputs)
        [*shape] = inputs[0].shape if inputs else ()
        if (
            len(inputs) != 1
            or len(shape) != 2
            or inputs[0].type != "tensor(float)"
            or (isinstance(shape[0], int) and shape[0] != 1)
        ):
            raise UserError(
                f"{self.path} takes {described or 'no input'}; an encoder takes a waveform alone, "
                "[batch, samples] of float32, for one clip or any number."
            )
        self.fixed = shape[1] if isinstance(shape[1], int) else 0
