"""What one would write instead of ser_jax.predict: librosa and PyTorch, one file after another.

    python -m benchmarks.prediction_loop network.pt < paths > probabilities.jsonl

`save` writes a trained run's replicas for it, so that both predict the same; its answers are those
of ser_jax.predict to about 1e-4. Without a file it computes the features alone.

Axes: R replicas, T frames, F coefficients, C classes; I input and O output channels of a kernel.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import librosa
import numpy as np


def save(workdir: Path, path: Path) -> None:
    """The spec, the normalisation and a state_dict a replica, of a run of a 2D CNN on MFCC."""
    import torch
    from ml_collections import ConfigDict

    from benchmarks import networks, peer_torch
    from ser_jax.predict import trained_model

    this = trained_model.load(workdir)
    network = networks.network(ConfigDict(this.config), this.max_frames)
    if len(network.space) != 2 or this.kind != "mfcc":
        sys.exit(f"error: {workdir} is no run of a 2D network on MFCC; choose another.")
    states = []
    for weights in this.weights:
        model = _network(peer_torch.build(network), len(this.labels))
        state = model.state_dict()
        ours = iter(_in_order(network, weights))
        for name, there in state.items():
            if not name.endswith("num_batches_tracked"):
                state[name] = torch.from_numpy(next(ours).reshape(there.shape).copy())
        states.append(state)
    scale = this.weights[0].normalisation
    path.with_suffix(".json").write_text(json.dumps(dataclasses.asdict(this.spec)))
    torch.save(
        {
            "network": dataclasses.asdict(network),
            "labels": list(this.labels),
            "features": dataclasses.asdict(this.spec),
            "normalisation": [torch.tensor(np.asarray(x)) for x in (scale.mean_F, scale.sd_F)],
            "states": states,
        },
        path,
    )


def _in_order(network: Any, weights: Any) -> list[np.ndarray]:
    """Kernel and bias of each layer, and BatchNorm's four, in the order and layout of PyTorch."""
    params, statistics = weights.params, weights.batch_stats
    found, norm = [], 0
    for i in range(len(network.widths)):
        kernel_HxWxIxO = np.asarray(params[f"Conv_{i}"]["kernel"])
        found += [kernel_HxWxIxO.transpose(3, 2, 0, 1), np.asarray(params[f"Conv_{i}"]["bias"])]
        if network.batch_norm[i]:
            of_all = {**params[f"BatchNorm_{norm}"], **statistics[f"BatchNorm_{norm}"]}
            found += [np.asarray(of_all[key]) for key in ("scale", "bias", "mean", "var")]
            norm += 1
    first, second = params["Dense_0"], params["Dense_1"]
    # Flattened it is [height, width, channels] there and [channels, height, width] here.
    kernel = np.asarray(first["kernel"]).reshape(*network.spaces[-1], network.widths[-1], -1)
    found += [kernel.transpose(3, 2, 0, 1), np.asarray(first["bias"])]
    return [*found, np.asarray(second["kernel"]).T, np.asarray(second["bias"])]


def _network(model: Any, n_classes: int) -> Any:
    """The network with an output a class: the benchmarks' own have those of CREMA-D."""
    from torch import nn

    model[-1] = nn.Linear(model[-1].in_features, n_classes)
    return model.eval()


def mfcc(path: str, spec: dict[str, Any]) -> np.ndarray:
    """mfcc_FxT of a file."""
    rate = spec["sampling_rate"]
    waveform, _ = librosa.load(path, sr=rate)
    if spec["pre_emphasis"]:
        waveform = librosa.effects.preemphasis(waveform, coef=spec["pre_emphasis"], zi=[0])
    return librosa.feature.mfcc(
        y=waveform,
        sr=rate,
        n_mfcc=spec["n_mfcc"],
        n_fft=spec["n_fft"],
        win_length=spec["frame_length"],
        hop_length=spec["hop_length"],
        window=spec["window"],
        center=spec["centered"],
        n_mels=spec["n_mels"],
        fmin=spec["f_min"],
        fmax=spec["f_max"] or rate / 2,
        htk=spec["mel_scale"] == "htk",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", help="that `save` wrote")
    parser.add_argument("--features", action="store_true", help="compute the features alone")
    options = parser.parse_args()
    paths = sys.stdin.read().splitlines()
    if options.features:
        spec = json.loads(Path(options.network).with_suffix(".json").read_text())
        for path in paths:
            print(json.dumps({"path": path, "shape": mfcc(path, spec).shape}), flush=True)
        return
    import torch

    from benchmarks import peer_torch
    from benchmarks.networks import Network

    saved = torch.load(options.network)
    network = Network(**saved["network"])
    models = []
    for state in saved["states"]:
        models.append(_network(peer_torch.build(network), len(saved["labels"])))
        models[-1].load_state_dict(state)
    mean_F, sd_F = saved["normalisation"]
    n_frames = network.space[0]
    with torch.no_grad():
        for path in paths:
            x_TxF = torch.from_numpy(mfcc(path, saved["features"]).T[:n_frames].copy())
            x_TxF = (x_TxF - mean_F) / sd_F
            x_TxF = torch.nn.functional.pad(x_TxF, (0, 0, 0, n_frames - len(x_TxF)))
            of_each = [model(x_TxF[None, None]).softmax(dim=1)[0] for model in models]
            probability_C = torch.stack(of_each).mean(dim=0).tolist()
            answer = dict(zip(saved["labels"], probability_C, strict=True))
            print(json.dumps({"path": path, "probabilities": answer}), flush=True)


if __name__ == "__main__":
    main()
