"""The alternative to ser_jax.predict: librosa and PyTorch, one file after another.

    python -m benchmarks.prediction_loop network.pt < paths > probabilities.jsonl

`save` converts the replicas of a trained run, so that both predict with the same weights; the
probabilities agree to about 1e-4.

Axes: T frames, F coefficients, C classes; H height, W width, I input and O output channels.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import librosa
import numpy as np

from benchmarks import harness, networks


def save(workdir: Path, path: Path) -> None:
    """Write the weights of a run of a 2D CNN on MFCC, and beside them a description as JSON."""
    import torch
    from ml_collections import ConfigDict

    from ser_jax.predict import trained_model

    trained = trained_model.load(workdir)
    network = networks.make_network(ConfigDict(trained.config), trained.max_frames)
    if len(network.space) != 2 or trained.kind != "mfcc":
        sys.exit(f"error: {workdir} is not a run of a 2D network on MFCC; choose another.")
    state = _build(network, len(trained.labels)).state_dict()
    names = [name for name in state if not name.endswith("num_batches_tracked")]
    states = []
    for weights in trained.weights:
        arrays = zip(names, _in_torch_order(network, weights), strict=True)
        converted = {
            name: torch.from_numpy(array.reshape(state[name].shape).copy())
            for name, array in arrays
        }
        states.append(state | converted)
    normalisation = trained.weights[0].normalisation
    description = {
        "spec": dataclasses.asdict(trained.spec),
        "network": dataclasses.asdict(network),
        "labels": trained.labels,
        "mean_F": np.asarray(normalisation.mean_F).tolist(),
        "sd_F": np.asarray(normalisation.sd_F).tolist(),
    }
    path.with_suffix(".json").write_text(json.dumps(description))
    torch.save(states, path)


def _in_torch_order(network: networks.Network, weights: Any) -> list[np.ndarray]:
    """Return kernel and bias of each layer, and BatchNorm's four arrays, in PyTorch's layout."""
    params, norms = weights.params, 0
    arrays = []
    for i in range(len(network.widths)):
        kernel_HxWxIxO = np.asarray(params[f"Conv_{i}"]["kernel"])
        arrays += [kernel_HxWxIxO.transpose(3, 2, 0, 1), params[f"Conv_{i}"]["bias"]]
        if network.batch_norm[i]:
            name, norms = f"BatchNorm_{norms}", norms + 1
            norm = {**params[name], **weights.batch_stats[name]}
            arrays += [norm[key] for key in ("scale", "bias", "mean", "var")]
    hidden, output = params["Dense_0"], params["Dense_1"]
    # Flax flattens [height, width, channels], PyTorch [channels, height, width].
    kernel = np.asarray(hidden["kernel"]).reshape(*network.spaces[-1], network.widths[-1], -1)
    arrays += [kernel.transpose(3, 2, 0, 1), hidden["bias"]]
    return [np.asarray(array) for array in (*arrays, output["kernel"].T, output["bias"])]


def _build(network: networks.Network, n_classes: int) -> Any:
    """Return the benchmarks' network, in inference mode, with `n_classes` outputs."""
    from torch import nn

    from benchmarks import peer_torch

    model = peer_torch.build(network)
    model[-1] = nn.Linear(model[-1].in_features, n_classes)
    return model.eval()


def mfcc(path: str, spec: dict[str, Any]) -> np.ndarray:
    """Return mfcc_FxT of a file."""
    waveform, _ = librosa.load(path, sr=spec["sampling_rate"])
    if spec["pre_emphasis"]:
        waveform = librosa.effects.preemphasis(waveform, coef=spec["pre_emphasis"], zi=[0])
    arguments = harness.mel_arguments(spec)
    return librosa.feature.mfcc(y=waveform, n_mfcc=spec["n_mfcc"], **arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", help="the file that `save` wrote")
    parser.add_argument("--features", action="store_true", help="compute only the features")
    options = parser.parse_args()
    paths = sys.stdin.read().splitlines()
    description = json.loads(Path(options.network).with_suffix(".json").read_text())
    spec, labels = description["spec"], description["labels"]
    if options.features:
        for path in paths:
            print(json.dumps({"path": path, "shape": mfcc(path, spec).shape}), flush=True)
        return
    import torch

    network = networks.Network(**description["network"])
    models = []
    for state in torch.load(options.network):
        models.append(_build(network, len(labels)))
        models[-1].load_state_dict(state)
    mean_F, sd_F = (torch.tensor(description[key]) for key in ("mean_F", "sd_F"))
    n_frames = network.space[0]
    with torch.no_grad():
        for path in paths:
            x_TxF = torch.from_numpy(mfcc(path, spec).T[:n_frames].copy())
            x_TxF = (x_TxF - mean_F) / sd_F
            x_TxF = torch.nn.functional.pad(x_TxF, (0, 0, 0, n_frames - len(x_TxF)))
            outputs = [model(x_TxF[None, None]).softmax(dim=1)[0] for model in models]
            probability_C = torch.stack(outputs).mean(dim=0).tolist()
            probabilities = dict(zip(labels, probability_C, strict=True))
            print(json.dumps({"path": path, "probabilities": probabilities}), flush=True)


if __name__ == "__main__":
    main()
