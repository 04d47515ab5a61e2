"""The networks as one would write them in PyTorch.

On a GPU: bfloat16 by autocast, channels last, torch.compile, all examples in its memory, and no
transfer to the host within a round.
"""

import functools
import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 — its usual name

from benchmarks.harness import Facts, Work
from benchmarks.networks import DROPOUT, L2, LEARNING_RATE, N_CLASSES, Network, batch_rows


class Pool(nn.Module):
    """A pool with Keras's "same" padding, which counts neither in means nor in maxima."""

    def __init__(self, network: Network, space: tuple[int, ...], average: bool):
        super().__init__()
        k, s = network.pool, network.stride
        total = [max((-(-n // s) - 1) * s + k - n, 0) for n in reversed(space)]
        self.window, self.pads = (k, s), [n for t in total for n in (t // 2, t - t // 2)]
        self.pool = getattr(F, f"{'avg' if average else 'max'}_pool{len(space)}d")
        self.average = average
        if average:
            inside = F.pad(torch.ones(1, 1, *space), self.pads)
            self.register_buffer("scale", 1 / self.pool(inside, k, s), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if any(self.pads):
            x = F.pad(x, self.pads, value=0.0 if self.average else -math.inf)
        x = self.pool(x, *self.window)
        return x * self.scale if self.average else x


def build(network: Network) -> nn.Module:
    """Return the network, with Glorot-uniform weights and Keras's BatchNorm constants."""
    flat = len(network.space) == 1
    convolution, norm = (nn.Conv1d, nn.BatchNorm1d) if flat else (nn.Conv2d, nn.BatchNorm2d)
    layers: list[nn.Module] = []
    n_in, last = 1, len(network.widths) - 1
    for i, (n_out, side) in enumerate(zip(network.widths, network.kernels, strict=True)):
        if i == last:
            layers.append(nn.Dropout(DROPOUT))
        layers += [convolution(n_in, n_out, side, padding="same"), nn.ReLU()]
        if network.batch_norm[i]:
            layers.append(norm(n_out, eps=1e-3, momentum=0.01))
        layers.append(Pool(network, network.spaces[i], network.averages[i]))
        n_in = n_out
    layers += [
        nn.Flatten(),
        nn.Linear(math.prod(network.spaces[-1]) * n_in, network.dense),
        nn.ReLU(),
    ]
    if network.name == "cnn1d":
        layers.append(nn.BatchNorm1d(network.dense, eps=1e-3, momentum=0.01))
    if network.name == "paper":
        layers.append(nn.Dropout(DROPOUT))
    layers.append(nn.Linear(network.dense, N_CLASSES))
    model = nn.Sequential(*layers)
    for layer in model:
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return model


def make(network: Network, batch: int, precision: str, n_examples: int) -> tuple[Facts, Work]:
    """Return facts about the contestant, and a function that trains for some steps and waits."""
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high" if on_gpu else "highest")
    torch.backends.cudnn.benchmark = True  # as XLA, it tries several convolution algorithms
    channels_last = on_gpu and len(network.space) == 2
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = build(network).to(device, memory_format=layout)
    kernels = [p for p in model.parameters() if p.dim() > 1]
    optimizers = {
        "adam": torch.optim.Adam,
        "rmsprop": functools.partial(torch.optim.RMSprop, alpha=0.9),
    }
    optimizer = optimizers[network.optimizer](model.parameters(), lr=LEARNING_RATE, eps=1e-7)
    random = np.random.default_rng(0)
    x = torch.from_numpy(random.standard_normal((n_examples, 1, *network.space), np.float32))
    x = x.to(device).contiguous(memory_format=layout)
    label = torch.from_numpy(random.integers(0, N_CLASSES, n_examples)).to(device)

    def loss_fn(x: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            logits = model(x)
        entropy = F.cross_entropy(logits.float(), label)
        penalty = sum(w.square().sum() for w in kernels)
        return entropy + L2 * penalty, entropy, (logits.argmax(1) == label).sum()

    compiled = torch.compile(loss_fn) if on_gpu else loss_fn
    total = torch.zeros(2, device=device)

    def run(n_steps: int) -> float:
        model.train()
        order = torch.randperm(n_examples, device=device)
        for step in range(n_steps):
            rows = batch_rows(order, step, batch)
            optimizer.zero_grad(set_to_none=True)
            loss, entropy, correct = compiled(x[rows], label[rows])
            loss.backward()
            optimizer.step()
            total.add_(torch.stack([entropy.detach() * len(rows), correct.float()]))
        if on_gpu:
            torch.cuda.synchronize()
        return float(total[0])

    return {
        "library": f"PyTorch {torch.__version__}",
        "parameters": sum(p.numel() for p in model.parameters()),
        "device": "gpu" if on_gpu else "cpu",
    }, run
