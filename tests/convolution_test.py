import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ser_jax.models import convolution

NUMBERS = ("NHWC", "HWIO", "NHWC")


def library(x, kernel):
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=NUMBERS)


def with_gradients(function, x, kernel, weight):
    value, back = jax.vjp(function, x, kernel)
    return value, *back(weight)


def some(*shape):
    return jnp.asarray(np.random.default_rng(sum(shape)).standard_normal(shape), jnp.float32)


@pytest.mark.parametrize(
    ("space", "sides", "n_in"),
    [
        ((20, 10), (6, 6), 3),  # one tile across, two down
        ((33, 23), (5, 5), 2),  # tiles that reach beyond the plane
        ((3, 2), (6, 6), 2),  # smaller than the kernel
        ((12, 17), (5, 6), 4),
        ((16, 11), (6, 5), 1),
    ],
)
def test_by_frequency_is_the_library_s_convolution_and_so_are_its_gradients(space, sides, n_in):
    x, kernel, weight = some(2, *space, n_in), some(*sides, n_in, 5), some(2, *space, 5)
    expected = with_gradients(library, x, kernel, weight)
    found = with_gradients(jax.jit(convolution.by_frequency), x, kernel, weight)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=5e-6 * np.abs(theirs).max())


@pytest.mark.parametrize(("space", "sides"), [((9, 7), (6, 6)), ((4, 5), (5, 3)), ((2, 2), (4, 6))])
def test_of_one_channel_is_the_library_s_convolution_and_so_are_its_gradients(space, sides):
    x, kernel, weight = some(3, *space, 1), some(*sides, 1, 4), some(3, *space, 4)
    expected = with_gradients(library, x, kernel, weight)
    found = with_gradients(convolution.of_one_channel, x, kernel, weight)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=3e-6 * np.abs(theirs).max())


@pytest.mark.parametrize(
    ("n_in", "n_out", "side", "dtype", "options", "taken"),
    [
        (32, 32, 6, "float32", {}, "by_frequency"),
        (1, 128, 6, "float32", {}, "of_one_channel"),
        (1, 8, 6, "float32", {}, ""),
        (32, 8, 6, "float32", {}, ""),
        (32, 32, 3, "float32", {}, ""),
        (32, 32, 6, "bfloat16", {}, ""),
        (32, 32, 6, "float32", {"rhs_dilation": (2, 2)}, ""),
        (32, 32, 6, "float32", {"padding": "VALID"}, ""),
        (32, 32, 6, "float32", {"window_strides": (2, 1)}, ""),
    ],
)
def test_each_convolution_takes_the_way_that_is_meant_for_it(
    n_in, n_out, side, dtype, options, taken, monkeypatch
):
    ways = []
    for name in ("by_frequency", "of_one_channel"):
        function = getattr(convolution, name)
        monkeypatch.setattr(
            convolution, name, lambda *a, name=name, way=function: ways.append(name) or way(*a)
        )
    x, kernel = (some(*s).astype(dtype) for s in ((1, 20, 8, n_in), (side, side, n_in, n_out)))
    call = {"window_strides": (1, 1), "padding": "SAME", "dimension_numbers": NUMBERS} | options
    found = convolution.convolve(x, kernel, call.pop("window_strides"), call.pop("padding"), **call)
    assert ways == ([taken] if taken else [])
    call = {"window_strides": (1, 1), "padding": "SAME", "dimension_numbers": NUMBERS} | options
    expected = lax.conv_general_dilated(x, kernel, **call)
    np.testing.assert_allclose(
        found.astype("float32"),
        expected.astype("float32"),
        atol=1e-4 * float(jnp.abs(expected).max()),
    )
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    convolution.convolve(x, kernel, (1, 1), "SAME", dimension_numbers=NUMBERS)
    assert len(ways) == bool(taken)  # an accelerator has the library's
