"""Whisper's encoder: its values, its files, and the embedding of clips."""

import dataclasses
import json
import shutil
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from ser_jax import features
from ser_jax.audio import waveform
from ser_jax.common.errors import UserError
from ser_jax.encoders import loading, network, weights
from ser_jax.features import FeatureSpec

DATA = Path(__file__).parents[2] / "shared" / "data"
SIZE = network.Size(n_mels=80, width=64, n_layers=2, mlp_width=128, n_positions=100)


def tensors_of(size: network.Size, seed: int = 0) -> dict[str, np.ndarray]:
    """A random encoder in the file's layout."""
    random = np.random.default_rng(seed)
    return {
        f"model.encoder.{name}": (random.standard_normal(shape) * 0.1).astype(np.float16)
        for name, shape in weights._expected_shapes(size).items()
    }


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    save_file(tensors_of(SIZE), folder / "model.safetensors")
    return folder


def opened(folder: Path, **settings):
    described = loading.describe(folder, **settings)
    return FeatureSpec(planes=("embedding",), encoder=described), loading.load(folder, described)


def noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(1).uniform(-0.5, 0.5, round(16_000 * seconds)).astype(np.float32)


@pytest.mark.skipif(not (DATA / "whisper").is_dir(), reason="needs ../shared/data/whisper")
@pytest.mark.parametrize("name", ["base", "tiny.en"])
def test_hidden_states_are_those_of_an_independent_implementation(name):
    expected = np.load(DATA / "whisper/expected.npz")
    spec, encoder = opened(DATA / "whisper" / name, context=30.0)
    clip = "1036_ITH_NEU_XX"
    waveform_S = waveform.load(DATA / f"crema_d/AudioWAV/{clip}.wav", 16_000)
    one = waveform_S[None], np.array([len(waveform_S)], np.int32)
    n_states = spec.encoder.n_states
    states = [np.asarray(s)[0] for s in encoder.states(*one, 1500, range(n_states))]
    mean_TxD = expected[f"{name}/{clip}/hidden_mean"]
    np.testing.assert_allclose(
        [state_PxD.mean(axis=0) for state_PxD in states],
        mean_TxD,
        atol=1e-4 * np.abs(mean_TxD).max(),
    )
    last_PxD = expected[f"{name}/{clip}/last_hidden_first_valid"]
    np.testing.assert_allclose(states[-1], last_PxD, atol=1e-4 * np.abs(last_PxD).max())
    embedding_TxF = features.extract_clip(spec, waveform_S, encoder)["embedding"]
    np.testing.assert_allclose(embedding_TxF[:, : spec.encoder.width], mean_TxD, atol=1e-3)


@pytest.mark.parametrize("pooling", ["statistics", "positions"])
@pytest.mark.parametrize("context", [0.0, 1.0])
def test_embedding_does_not_depend_on_padding_or_batch(encoder_folder, pooling, context):
    spec, encoder = opened(encoder_folder, pooling=pooling, context=context)
    clips = [noise(seconds) for seconds in (0.41, 1.3, 0.02)]
    alone = [features.extract_clip(spec, clip, encoder)["embedding"] for clip in clips]
    padded_BxS = np.full((3, 24_000), 0.3, np.float32)  # whatever follows a clip is ignored
    for row, clip in enumerate(clips):
        padded_BxS[row, : len(clip)] = clip
    n_samples_B = np.array([len(clip) for clip in clips], np.int32)

    def extract(waveform_BxS, n_samples_B):
        return features.extract(spec, waveform_BxS, n_samples_B, encoder)["embedding"]

    together = extract(padded_BxS, n_samples_B)
    compiled = np.asarray(jax.jit(extract)(padded_BxS, n_samples_B))
    for row, x_TxF in enumerate(alone):
        assert len(x_TxF) == spec.n_frames(len(clips[row]))
        assert x_TxF.shape[1] == spec.width("embedding")
        np.testing.assert_array_equal(together[row, : len(x_TxF)], x_TxF)
        np.testing.assert_allclose(compiled[row, : len(x_TxF)], x_TxF, atol=2e-4)
        assert not together[row, len(x_TxF) :].any() and not compiled[row, len(x_TxF) :].any()


def test_statistics_are_those_of_the_positions_and_a_long_clip_is_taken_in_windows(encoder_folder):
    by_positions, encoder = opened(encoder_folder, pooling="positions", states=(1, 3))
    by_statistics, _ = opened(encoder_folder, states=(1, 3))
    clip = noise(4.9)  # 2 s at most are taken at once
    x_PxF = features.extract_clip(by_positions, clip, encoder)["embedding"]
    x_TxF = features.extract_clip(by_statistics, clip, encoder)["embedding"]
    assert len(x_PxF) == 245
    # Windows count by their samples; the last position of the last one is half empty.
    mean_TxD = x_PxF.mean(axis=0).reshape(2, -1)
    sd_TxD = x_PxF.std(axis=0).reshape(2, -1)
    np.testing.assert_allclose(x_TxF, np.concatenate([mean_TxD, sd_TxD], axis=1), atol=1e-3)


def test_a_layer_without_its_norm_is_noticed(encoder_folder, monkeypatch):
    spec, encoder = opened(encoder_folder)
    before = features.extract_clip(spec, noise(0.5), encoder)["embedding"]
    monkeypatch.setattr(network, "norm", lambda dtype, name: lambda x: x)
    size, params = weights.read(encoder_folder / "model.safetensors")
    after = type(encoder)(size, params)
    assert np.abs(features.extract_clip(spec, noise(0.5), after)["embedding"] - before).max() > 0.1


def test_types_and_prefix_of_a_file_do_not_matter(tmp_path):
    import ml_dtypes

    tensors = {k: v.astype(ml_dtypes.bfloat16) for k, v in tensors_of(SIZE).items()}
    save_file(tensors, tmp_path / "bfloat16.safetensors")
    exact = {k.removeprefix("model."): v.astype(np.float32) for k, v in tensors.items()}
    save_file({**exact, "decoder.x": np.ones(2)}, tmp_path / "float32.safetensors")
    (size, a), (_, b) = (
        weights.read(tmp_path / f"{t}.safetensors") for t in ("bfloat16", "float32")
    )
    assert size == SIZE
    jax.tree.map(np.testing.assert_array_equal, a, b)


def without(name):
    return lambda tensors: tensors.pop(f"model.encoder.{name}")


def replaced(name, value):
    return lambda tensors: tensors.update({f"model.encoder.{name}": value})


@pytest.mark.parametrize(
    "change, message",
    [
        (without("layers.1.fc2.bias"), "lacks the tensor model.encoder.layers.1.fc2.bias"),
        (without("embed_positions.weight"), "embed_positions.weight"),
        (replaced("layer_norm.bias", np.ones(3, np.float16)), r"is \(3,\), not \(64,\)"),
        (replaced("layer_norm.bias", np.ones(64, np.int8)), "of type I8"),
        (replaced("layer_norm.bias", np.full(64, np.nan, np.float32)), "not finite"),
        (lambda t: [t.pop(k) for k in list(t)] and t.update({"a": np.ones(1)}), "not Whisper's"),
        (
            lambda t: [t.pop(k) for k in list(t)] and t.update({"model.decoder.x": np.ones(1)}),
            "a decoder alone",
        ),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, change, message):
    tensors = tensors_of(SIZE)
    change(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=message):
        weights.read(tmp_path / "model.safetensors")


@pytest.mark.parametrize("keep", [0, 7, 1000, -1])
def test_half_a_file_is_refused(encoder_folder, tmp_path, keep):
    content = (encoder_folder / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(content[:keep])
    with pytest.raises(UserError, match="not a complete safetensors file"):
        loading.describe(tmp_path)


def test_a_header_that_lies_is_refused(encoder_folder, tmp_path):
    content = (encoder_folder / "model.safetensors").read_bytes()
    (n,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + n])
    header["model.encoder.conv1.bias"]["shape"] = [10**9]
    text = json.dumps(header).encode()
    changed = struct.pack("<Q", len(text)) + text + content[8 + n :]
    (tmp_path / "model.safetensors").write_bytes(changed)
    with pytest.raises(UserError):
        loading.describe(tmp_path)


@pytest.mark.parametrize(
    "files, message",
    [
        ([], "has no model.safetensors"),
        (["pytorch_model.bin"], "pickled weights"),
        (["model-00001-of-00002.safetensors"], "several files"),
    ],
)
def test_a_folder_without_weights_is_refused(tmp_path, files, message):
    for name in files:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match=message):
        loading.describe(tmp_path)
    with pytest.raises(UserError, match="there is no encoder at"):
        loading.describe(tmp_path / "missing")


def test_another_encoder_than_that_of_the_features_is_refused(encoder_folder, tmp_path):
    described = loading.describe(encoder_folder)
    save_file(tensors_of(SIZE, seed=1), tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="another encoder"):
        loading.load(tmp_path, described)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"pooling": "max"}, "pooling must be"),
        ({"states": (4,)}, "from 0 to 3"),
        ({"states": (1, 1)}, "must not repeat"),
        ({"context": 31.0}, "between 0 and 30"),
    ],
)
def test_settings_that_do_not_fit_are_refused(encoder_folder, settings, message):
    with pytest.raises(UserError, match=message):
        loading.describe(encoder_folder, **settings)


def test_a_spec_goes_through_json(encoder_folder):
    spec, _ = opened(encoder_folder, states=(0, 2))
    assert FeatureSpec(**json.loads(json.dumps(dataclasses.asdict(spec)))) == spec
    with pytest.raises(UserError, match="stands alone"):
        FeatureSpec(planes=("embedding", "mfcc"), encoder=spec.encoder)
    with pytest.raises(UserError, match=r"needs encoder\.path"):
        FeatureSpec(planes=("embedding",))


def test_threads_that_start_together_load_the_weights_once(encoder_folder, tmp_path, monkeypatch):
    shutil.copy(encoder_folder / "model.safetensors", tmp_path)
    described, read, n_reads = loading.describe(tmp_path), weights.read, []

    def slow(path):
        n_reads.append(path)
        time.sleep(0.05)
        return read(path)

    monkeypatch.setattr(weights, "read", slow)
    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(lambda _: loading.load(tmp_path, described), range(4)))
    assert len(n_reads) == 1 and len({*map(id, loaded)}) == 1
