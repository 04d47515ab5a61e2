"""The small networks of configs/crnn.py as one would write them in PyTorch, for complete clips."""

import math

import numpy as np
import torch
from ml_collections import ConfigDict
from torch import nn
from torch.nn import functional as F  # noqa: N812 — its usual name

from benchmarks.harness import Contest
from benchmarks.networks import DROPOUT, L2, LEARNING_RATE, N_CLASSES, N_EXAMPLES, batch_rows


class Hybrid(nn.Module):
    """Convolutions, a layer along time, attentive statistics."""

    def __init__(self, model: ConfigDict, n_columns: int):
        super().__init__()
        blocks: list[nn.Module] = []
        n_in, columns, last = 1, n_columns, len(model.widths) - 1
        for number, n_out in enumerate(model.widths):
            side, stride = (5, 2) if number == 0 else (3, 1)
            blocks += [nn.Conv2d(n_in, n_out, side, stride, side // 2, bias=False)]
            blocks += [nn.BatchNorm2d(n_out, eps=1e-5), nn.ReLU()]
            columns = -(-columns // stride)
            if number:
                pool = (1, 2) if number == last else (2, 2)
                blocks.append(nn.MaxPool2d(pool, ceil_mode=True))
                columns = -(-columns // 2)
            n_in = n_out
        self.convolutions, width = nn.Sequential(*blocks), n_in * columns
        self.input_dropout, self.sequence = nn.Dropout(model.input_dropout), model.sequence
        if model.sequence == "gru":
            self.gru = nn.GRU(width, model.width, batch_first=True, bidirectional=True)
            # The input's biases of the reset and update gates make the others of PyTorch idle.
            for bias in (self.gru.bias_hh_l0, self.gru.bias_hh_l0_reverse):
                nn.init.zeros_(bias)
            width = 2 * model.width
        elif model.sequence == "transformer":
            self.projection = nn.Linear(width, 2 * model.width)
            width = 2 * model.width
            layer = nn.TransformerEncoderLayer(
                width, width // 64, 4 * model.width, 0.0, "gelu", batch_first=True, norm_first=True
            )
            self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.attention, self.score = nn.Linear(width, 128), nn.Linear(128, model.heads)
        self.dropout = nn.Dropout(DROPOUT)
        self.logits = nn.Linear(2 * model.heads * width, N_CLASSES)

    def forward(self, x_BxTxF: torch.Tensor) -> torch.Tensor:
        x_BxCxTxF = self.convolutions(x_BxTxF[:, None])
        x = self.input_dropout(x_BxCxTxF.permute(0, 2, 3, 1).flatten(2))
        if self.sequence == "gru":
            x, _ = self.gru(x)
        elif self.sequence == "transformer":
            x = self.projection(x)
            x = self.layers(x + sinusoids(*x.shape[1:]))
        weight_BxTxH = self.score(torch.tanh(self.attention(x))).softmax(1)
        mean_BxHxF = torch.einsum("btf,bth->bhf", x, weight_BxTxH)
        squares = (x[:, :, None] - mean_BxHxF[:, None]).square()
        variance_BxHxF = torch.einsum("bthf,bth->bhf", squares, weight_BxTxH)
        pooled = torch.cat([mean_BxHxF, (variance_BxHxF + 1e-6).sqrt()], -1)
        return self.logits(self.dropout(pooled.flatten(1)))


def sinusoids(n_frames: int, width: int) -> torch.Tensor:
    rate = torch.exp(-math.log(10_000) * torch.arange(width // 2) / (width // 2))
    angle = torch.arange(n_frames)[:, None] * rate
    return torch.cat([angle.sin(), angle.cos()], 1)


def train(config: ConfigDict, frames: int) -> Contest:
    """Return facts about the contestant, and a function that trains for some steps and waits."""
    model = make(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, eps=1e-7)
    kernels = [p for p in model.parameters() if p.dim() > 1]
    random, columns = np.random.default_rng(0), config.features.n_mels
    x = torch.from_numpy(random.standard_normal((N_EXAMPLES, frames, columns), np.float32))
    label = torch.from_numpy(random.integers(0, N_CLASSES, N_EXAMPLES))

    def run(n_steps: int) -> None:
        model.train()
        order = torch.randperm(N_EXAMPLES)
        for step in range(n_steps):
            rows = batch_rows(order, step, config.train.batch_size)
            optimizer.zero_grad(set_to_none=True)
            loss = F.cross_entropy(model(x[rows]), label[rows])
            (loss + L2 * sum(w.square().sum() for w in kernels)).backward()
            optimizer.step()

    return facts(model), run


def predict(config: ConfigDict, frames: int) -> Contest:
    """Return the same, of a function that predicts one clip again and again."""
    model = make(config).eval()
    x = torch.zeros(1, frames, config.features.n_mels)

    def run(n: int) -> None:
        with torch.inference_mode():
            for _ in range(n):
                model(x)

    return facts(model), run


def make(config: ConfigDict) -> Hybrid:
    torch.manual_seed(0)
    return Hybrid(config.model, config.features.n_mels)


def facts(model: Hybrid) -> dict[str, str | int]:
    n = sum(p.numel() for p in model.parameters())
    if model.sequence == "gru":  # of each direction's second biases ser_jax has the candidate's
        n -= 2 * 2 * model.gru.hidden_size
    elif model.sequence == "transformer":  # and of each layer's keys it has no bias
        n -= sum(layer.norm1.normalized_shape[0] for layer in model.layers.layers)
    return {"library": f"PyTorch {torch.__version__}", "parameters": n}
