"""The report's networks as numbers: what the alternatives build theirs from, and what they cost.

The numbers are those of configs/, so the alternatives cannot drift away from what they are beside.
"""

import dataclasses
import importlib
import math
from typing import Any

from ml_collections import ConfigDict

N_CLASSES, N_EXAMPLES = 6, 512
L2, DROPOUT, LEARNING_RATE = 1e-4, 0.2, 1e-3
NAMES = ("cnn2d", "cnn1d", "paper")


@dataclasses.dataclass(frozen=True)
class Network:
    """A network and its input.

    Attributes:
      name: of NAMES.
      space: size of the input, (values,) or (frames, columns); one channel.
      widths: of the convolutions, each with stride 1, its size kept, then ReLU.
      kernels: their sides.
      dense: width of the hidden layer.
      pool: side of a pool after each convolution, padded "same".
      stride: of the pools.
      optimizer: adam or rmsprop.
    """

    name: str
    space: tuple[int, ...]
    widths: tuple[int, ...]
    kernels: tuple[int, ...]
    dense: int
    pool: int
    stride: int
    optimizer: str

    @property
    def batch_norm(self) -> tuple[bool, ...]:
        """Which convolutions BatchNorm follows."""
        n = len(self.widths)
        return {"cnn2d": (*(True,) * (n - 1), False), "cnn1d": (True,) * n}.get(
            self.name, (False,) * n
        )

    @property
    def averages(self) -> tuple[bool, ...]:
        """Which pools take the mean; the others take the maximum."""
        n = len(self.widths)
        return (*(self.name == "cnn2d",) * (n - 1), False)

    @property
    def spaces(self) -> list[tuple[int, ...]]:
        """Size of each convolution's input, and of the last pool's output."""
        sizes = [self.space]
        for _ in self.widths:
            sizes.append(tuple(-(-n // self.stride) for n in sizes[-1]))
        return sizes

    @property
    def flops(self) -> int:
        """Of one example's training step: a multiplication and an addition each, of convolutions
        and dense layers, forward and for both gradients; none for the input's gradient."""
        channels = (1, *self.widths)
        layers = [
            math.prod(space) * side ** len(space) * n_in * n_out
            for space, side, n_in, n_out in zip(
                self.spaces, self.kernels, channels, self.widths, strict=False
            )
        ]
        flat = math.prod(self.spaces[-1]) * self.widths[-1]
        layers += [flat * self.dense, self.dense * N_CLASSES]
        return 2 * (3 * sum(layers) - layers[0])


def batch_of(order: Any, step: int, batch: int) -> Any:
    """The rows of a step, of an order of all examples, which begins again where it ends."""
    start = step * batch % max(len(order) - batch + 1, 1)
    return order[start : start + batch]


def configured(model: str, batch: int, precision: str) -> ConfigDict:
    """The model's own config."""
    config = importlib.import_module(f"configs.{model}").get_config()
    config.train.batch_size, config.train.compute_dtype = batch, precision
    return config


def network(config: ConfigDict, n_frames: int) -> Network:
    """The network that a config describes, on clips of so many frames."""
    model, n_columns = config.model, config.features.n_mfcc
    vector = config.input.kind == "vector"  # zero crossings and energy stand beside the MFCC
    return Network(
        model.name,
        (n_frames * (n_columns + 2),) if vector else (n_frames, n_columns),
        tuple(model.widths),
        tuple(model.kernels),
        model.dense,
        model.pool,
        model.stride,
        config.optimizer.name,
    )
