"""The fast convolutions equal lax's, with their gradients, and are used where they are meant."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ser_jax.models import convolution

DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def lax_convolution(x, kernel):
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=DIMENSIONS)


def with_gradients(function, x, kernel, weight):
    value, backward = jax.vjp(function, x, kernel)
    return value, *backward(weight)


def random_array(*shape):
    return jnp.asarray(np.random.default_rng(sum(shape)).standard_normal(shape), jnp.float32)


@pytest.mark.parametrize(
    ("space", "sides", "n_in"),
    [
        ((20, 10), (6, 6), 3),  # one tile across, two down
        ((33, 23), (5, 5), 2),  # tiles that extend beyond the plane
        ((3, 2), (6, 6), 2),  # smaller than the kernel
        ((12, 17), (5, 6), 4),
        ((16, 11), (6, 5), 1),
    ],
)
def test_overlap_save_and_its_gradients_equal_lax(space, sides, n_in):
    x, kernel, weight = (
        random_array(*shape) for shape in ((2, *space, n_in), (*sides, n_in, 5), (2, *space, 5))
    )
    expected = with_gradients(lax_convolution, x, kernel, weight)
    actual = with_gradients(jax.jit(convolution.overlap_save), x, kernel, weight)
    for result, desired in zip(actual, expected, strict=True):
        np.testing.assert_allclose(result, desired, atol=5e-6 * np.abs(desired).max())


@pytest.mark.parametrize("n_clips", [1, 4, 7])
@pytest.mark.parametrize("space", [(9, 5), (1, 1), (2, 3)])
def test_shifted_and_its_gradients_equal_lax(n_clips, space):
    x, kernel, weight = (
        random_array(*shape) for shape in ((n_clips, *space, 8), (3, 3, 8, 4), (n_clips, *space, 4))
    )
    expected = with_gradients(lax_convolution, x, kernel, weight)
    actual = with_gradients(jax.jit(convolution.shifted), x, kernel, weight)
    for result, desired in zip(actual, expected, strict=True):
        np.testing.assert_allclose(result, desired, atol=3e-6 * np.abs(desired).max())


@pytest.mark.parametrize(("space", "sides"), [((9, 7), (6, 6)), ((4, 5), (5, 3)), ((2, 2), (4, 6))])
def test_im2col_and_its_gradients_equal_lax(space, sides):
    x, kernel, weight = (
        random_array(*shape) for shape in ((3, *space, 1), (*sides, 1, 4), (3, *space, 4))
    )
    expected = with_gradients(lax_convolution, x, kernel, weight)
    actual = with_gradients(convolution.im2col, x, kernel, weight)
    for result, desired in zip(actual, expected, strict=True):
        np.testing.assert_allclose(result, desired, atol=3e-6 * np.abs(desired).max())


@pytest.mark.parametrize(
    ("n_in", "n_out", "side", "dtype", "options", "used"),
    [
        (32, 32, 6, "float32", {}, "overlap_save"),
        (1, 128, 6, "float32", {}, "im2col"),
        (1, 8, 6, "float32", {}, ""),
        (32, 8, 6, "float32", {}, ""),
        (32, 32, 3, "float32", {}, "shifted"),
        (8, 8, 3, "float32", {"padding": [(1, 1), (1, 1)]}, "shifted"),
        (1, 8, 3, "float32", {}, ""),
        (32, 32, 6, "bfloat16", {}, ""),
        (32, 32, 6, "float32", {"rhs_dilation": (2, 2)}, ""),
        (32, 32, 6, "float32", {"padding": "VALID"}, ""),
        (32, 32, 6, "float32", {"window_strides": (2, 1)}, ""),
    ],
)
def test_each_convolution_uses_the_implementation_meant_for_its_sizes(
    n_in, n_out, side, dtype, options, used, monkeypatch
):
    calls = []
    for name in ("overlap_save", "im2col", "shifted"):
        function = getattr(convolution, name)
        monkeypatch.setattr(
            convolution, name, lambda *a, name=name, f=function: calls.append(name) or f(*a)
        )
    x, kernel = (
        random_array(*s).astype(dtype) for s in ((1, 20, 8, n_in), (side, side, n_in, n_out))
    )
    args = {"window_strides": (1, 1), "padding": "SAME", "dimension_numbers": DIMENSIONS} | options
    actual = convolution.convolve(x, kernel, **args)
    assert calls == ([used] if used else [])
    expected = lax.conv_general_dilated(x, kernel, **args)
    np.testing.assert_allclose(
        actual.astype("float32"),
        expected.astype("float32"),
        atol=1e-4 * float(jnp.abs(expected).max()),
    )
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    convolution.convolve(x, kernel, (1, 1), "SAME", dimension_numbers=DIMENSIONS)
    assert len(calls) == bool(used)  # accelerators use lax's
