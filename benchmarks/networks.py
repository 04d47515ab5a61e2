"""The networks of the reference report as numbers, from which PyTorch's and Keras's are built.

All numbers come from configs/, so the alternatives always equal the project's own networks.
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
      name: one of NAMES.
      space: size of the input, (values,) or (frames, columns), with one channel.
      widths: output channels of each convolution; stride 1, padded "same", then ReLU.
      kernels: side of each kernel.
      dense: width of the hidden layer.
      pool: side of the pooling window after each convolution, padded "same".
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
        """Whether BatchNorm follows each convolution."""
        n = len(self.widths)
        return (*(self.name != "paper",) * (n - 1), self.name == "cnn1d")

    @property
    def averages(self) -> tuple[bool, ...]:
        """Whether each pool takes the mean instead of the maximum."""
        return (*(self.name == "cnn2d",) * (len(self.widths) - 1), False)

    @property
    def spaces(self) -> list[tuple[int, ...]]:
        """Size of each convolution's input, and of the last pool's output."""
        sizes = [self.space]
        for _ in self.widths:
            sizes.append(tuple(-(-n // self.stride) for n in sizes[-1]))
        return sizes

    @property
    def flops(self) -> int:
        """Operations of one example's training step, in convolutions and dense layers.

        A multiplication and an addition count as two; forward, and backward for weights and inputs,
        except the network's own input.
        """
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


def batch_rows(order: Any, step: int, batch: int) -> Any:
    """Return the rows of a step from an order of all examples, which repeats at its end."""
    start = step * batch % max(len(order) - batch + 1, 1)
    return order[start : start + batch]


def make_config(
    model: str, batch: int, precision: str = "float32", variant: str = ""
) -> ConfigDict:
    """Return the model's own config with a batch size and precision."""
    config = importlib.import_module(f"configs.{model}").get_config(variant)
    config.train.batch_size, config.train.compute_dtype = batch, precision
    return config


def n_columns(config: ConfigDict) -> int:
    """Return the features per frame; a vector has zero-crossing rate and energy beside the MFCC."""
    if config.input.kind == "log_mel":
        return config.features.n_mels
    return config.features.n_mfcc + 2 * (config.input.kind == "vector")


def make_network(config: ConfigDict, n_frames: int) -> Network:
    """Return the network that a config describes, for clips of `n_frames`."""
    space = (n_frames, n_columns(config))
    space = (math.prod(space),) if config.input.kind == "vector" else space
    keys = ("name", "widths", "kernels", "dense", "pool", "stride")
    model = {key: config.model[key] for key in keys}
    return Network(space=space, optimizer=config.optimizer.name, **model)
