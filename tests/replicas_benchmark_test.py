"""What is measured is what the config says, on as many examples as are asked for."""

import jax
import numpy as np
import pytest

from benchmarks import networks, replicas


def trained(precision: str, n_steps: int) -> tuple[list[np.ndarray], int]:
    """A narrow network's weights after some steps, and its own count of them."""
    config = networks.configured("paper", 4, precision)
    config.model.update(widths=(8, 8), kernels=(3, 3), dense=8)
    run, groups = replicas.make(config, 1, "device", n_frames=12, n_examples=8)
    run(n_steps)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(groups[0].params)], int(groups[0].step[0])


def test_the_precision_is_that_of_the_config():
    full, half = (trained(precision, 2)[0] for precision in ("float32", "bfloat16"))
    apart = max(np.abs(a - b).max() for a, b in zip(full, half, strict=True))
    assert 0 < apart < 0.1


@pytest.mark.parametrize("n_steps", [1, 2, 5])  # two go through all examples
def test_a_round_has_as_many_steps_as_it_is_asked_for(n_steps):
    assert trained("float32", n_steps)[1] == n_steps
