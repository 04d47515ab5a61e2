"""The exported function as an ONNX model, by jax2onnx; see requirements/onnx.txt.

Operations that jax2onnx 0.17 lacks or converts wrongly are replaced first: the FFT (it takes |z| of
a complex z as that of a real number), and padding and remainders with a symbolic number of clips.
It cannot leave the number of samples symbolic, so that is fixed.

Axes: B batch, S samples, L samples per frame, K FFT bins, C classes.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export, lax
from jax.extend import core

from ser_jax.common.errors import UserError

TOLERANCE = 1e-4  # of a probability, between ONNX Runtime and JAX
_OPSET = 23
# Primitives that call another program, whose operations are evaluated in turn.
_CALLS = ("jit", "pjit", "custom_jvp_call", "custom_vjp_call")


def convert(function: Callable[..., tuple[jax.Array, jax.Array]], n_samples: int) -> bytes:
    """Return an ONNX model of waveform, n_samples → mean probability, for any number of clips.

    The model is verified against JAX before it is returned.

    Args:
      function: from writer.probabilities.
      n_samples: the length that all waveforms are padded or cut to.

    Raises:
      UserError: jax2onnx or onnxruntime is missing, the network cannot be converted, or the
        probabilities differ from those of JAX.
    """
    # They warn of unused values without a type and of requirements of their examples.
    for name in ("jax2onnx", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        import onnxruntime
        from jax2onnx import to_onnx
    except ImportError as error:
        raise UserError(
            f"--onnx needs {error.name}; pip install --no-deps -r requirements/onnx.txt."
        ) from error
    [b] = export.symbolic_shape("B")
    inputs = [
        jax.ShapeDtypeStruct((b, n_samples), jnp.float32),
        jax.ShapeDtypeStruct((b,), jnp.int32),
    ]
    closed = jax.make_jaxpr(lambda *clips: function(*clips)[0])(*inputs)
    try:
        model = to_onnx(
            lambda *clips: _evaluate(closed, clips)[0],
            inputs,
            model_name="emotion",
            opset=_OPSET,
            input_names=["waveform", "n_samples"],
            output_names=["probability"],
        )
    except Exception as error:  # a converter may raise any
        raise UserError(
            f"jax2onnx cannot convert this network ({str(error).splitlines()[0]}); export it "
            "without --onnx."
        ) from error
    serialised = model.SerializeToString(deterministic=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(serialised, options, providers=["CPUExecutionProvider"])
    waveform_BxS, n_samples_B = _test_clips(n_samples)
    by_onnx = session.run(None, {"waveform": waveform_BxS, "n_samples": n_samples_B})[0]
    # At the default precision, TF32 on a GPU, JAX alone would differ by more than the tolerance.
    with jax.default_matmul_precision("highest"):
        by_jax, _ = function(waveform_BxS, n_samples_B)
    difference = float(np.abs(by_onnx - np.asarray(by_jax)).max())
    if not difference <= TOLERANCE:
        raise UserError(
            f"the probabilities of ONNX Runtime and JAX differ by {difference:.1g}; export this "
            "network without --onnx."
        )
    return serialised


def _test_clips(n_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Return three clips of noise of different length: loud, soft and rising."""
    random = np.random.default_rng(0)
    gain_BxS = np.linspace([0.3, 0.003, 0], [0.3, 0.003, 1], n_samples, axis=1)
    waveform_BxS = (gain_BxS * random.uniform(-1, 1, gain_BxS.shape)).astype(np.float32)
    return waveform_BxS, np.array([n_samples, n_samples // 2, n_samples // 3 + 1], np.int32)


def _evaluate(closed: core.ClosedJaxpr, inputs: Sequence[Any]) -> list[Any]:
    """Run a program operation by operation, with the _REPLACEMENTS."""
    jaxpr, values = closed.jaxpr, {}
    values.update(zip(jaxpr.constvars, closed.consts, strict=True))
    values.update(zip(jaxpr.invars, inputs, strict=True))

    def value(atom: Any) -> Any:
        return atom.val if isinstance(atom, core.Literal) else values[atom]

    for equation in jaxpr.eqns:
        operands = [value(atom) for atom in equation.invars]
        inner = equation.params.get("jaxpr") or equation.params.get("call_jaxpr")
        if equation.primitive.name in _CALLS:
            results = _evaluate(inner, operands)
        elif equation.primitive.name in _REPLACEMENTS:
            results = [_REPLACEMENTS[equation.primitive.name](*operands, **equation.params)]
        else:
            results = equation.primitive.bind(*operands, **equation.params)
            results = results if equation.primitive.multiple_results else [results]
        values.update(zip(equation.outvars, results, strict=True))
    return [value(atom) for atom in jaxpr.outvars]


def _rfft(frames: Any, *, fft_type: Any, fft_lengths: Sequence[int]) -> tuple[Any, Any]:
    """Return real and imaginary part of the Fourier transform by two matrix products."""
    if fft_type.name != "RFFT" or len(fft_lengths) != 1:
        raise NotImplementedError(f"{fft_type} of {fft_lengths}")
    [n] = fft_lengths
    turns_LxK = np.outer(np.arange(n), np.arange(n // 2 + 1)) % n / n
    contract = (((frames.ndim - 1,), (0,)), ((), ()))
    return tuple(
        lax.dot_general(frames, matrix.astype(np.float32), contract, precision="highest")
        for matrix in (np.cos(2 * np.pi * turns_LxK), -np.sin(2 * np.pi * turns_LxK))
    )


def _abs(x: Any) -> Any:
    return lax.sqrt(x[0] * x[0] + x[1] * x[1]) if isinstance(x, tuple) else lax.abs(x)


def _pad(x: Any, value: Any, *, padding_config: Sequence[tuple[int, int, int]]) -> Any:
    """Pad by concatenation, and cut by slices where the padding is negative."""
    for axis, (low, high, interior) in enumerate(padding_config):
        if interior:
            raise NotImplementedError("padding between elements")

        def block(n: int, axis: int = axis) -> list[Any]:
            shape = (*x.shape[:axis], n, *x.shape[axis + 1 :])  # noqa: B023 — called at once
            return [lax.broadcast_in_dim(value, shape, ())] if n > 0 else []

        parts = [*block(low), x, *block(high)]
        x = lax.concatenate(parts, axis) if len(parts) > 1 else x
        if low < 0 or high < 0:
            x = lax.slice_in_dim(x, max(-low, 0), x.shape[axis] - max(-high, 0), axis=axis)
    return x


# Primitive → a function of its operands and parameters that returns its only result.
_REPLACEMENTS = {
    "fft": _rfft,
    "abs": _abs,
    "pad": _pad,
    "rem": lambda x, y: x - y * lax.div(x, y),
}
