"""The benchmark of replicas measures what its config and arguments say."""

import jax
import numpy as np
import pytest

from benchmarks import networks, replicas


def train(precision: str, n_steps: int) -> tuple[list[np.ndarray], int]:
    """Return a narrow network's weights after some steps, and its own count of them."""
    config = networks.make_config("paper", 4, precision)
    config.model.update(widths=(8, 8), kernels=(3, 3), dense=8)
    run, groups = replicas.make(config, 1, "device", n_frames=12, n_examples=8)
    run(n_steps)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(groups[0].params)], int(groups[0].step[0])


def test_the_precision_is_that_of_the_config():
    full, half = (train(precision, 2)[0] for precision in ("float32", "bfloat16"))
    largest = max(np.abs(a - b).max() for a, b in zip(full, half, strict=True))
    assert 0 < largest < 0.1


@pytest.mark.parametrize("n_steps", [1, 2, 5])  # two go through all examples
def test_a_round_has_the_requested_number_of_steps(n_steps):
    assert train("float32", n_steps)[1] == n_steps
