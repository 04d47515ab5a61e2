"""Encoders of other libraries: an ONNX file, and folders that transformers reads."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from configs import whisper
from data_prep.prepare import prepare, recordings
from ser_jax import features
from ser_jax.audio import waveform
from ser_jax.common.errors import UserError
from ser_jax.encoders import loading
from ser_jax.evaluate import predictions_csv
from ser_jax.evaluate.test_set import evaluate
from ser_jax.export import writer
from ser_jax.features import FeatureSpec
from ser_jax.predict import trained_model
from ser_jax.predict.predictor import Predictor
from ser_jax.train.loop import train

WIDTH, KERNEL, STRIDE = 8, 400, 320
SETTINGS = {"config.json": '{"model_type": "hubert"}', "preprocessor_config.json": "{}"}


def tiny_onnx(path: Path, *, batch="batch", samples="samples", rate=None, flat=False) -> Path:
    """Two layers: a random convolution of the waveform, and its tanh."""
    onnx = pytest.importorskip("onnx", reason="pip install --no-deps -r requirements/onnx.txt")
    pytest.importorskip("onnxruntime", reason="pip install --no-deps -r requirements/onnx.txt")
    from onnx import helper, numpy_helper

    kernel = np.random.default_rng(0).standard_normal((WIDTH, 1, KERNEL)) / 10
    real = helper.np_dtype_to_tensor_dtype(np.dtype("float32"))
    nodes = [
        helper.make_node("Unsqueeze", ["waveform", "axis"], ["x"]),
        helper.make_node("Conv", ["x", "kernel"], ["y"], strides=[STRIDE]),
        helper.make_node("Transpose", ["y"], ["first"], perm=[0, 2, 1]),
        helper.make_node("Tanh", ["first"], ["second"]),
    ]
    if flat:
        nodes.append(helper.make_node("ReduceMean", ["second"], ["third"], axes=[1], keepdims=0))
    names = ["first", "second", *["third"] * flat]
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info("waveform", real, [batch, samples])],
        [helper.make_tensor_value_info(name, real, None) for name in names],
        [
            numpy_helper.from_array(kernel.astype(np.float32), "kernel"),
            numpy_helper.from_array(np.array([1]), "axis"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    if rate:
        helper.set_model_props(model, {"sampling_rate": str(rate)})
    onnx.save(model, path)
    return path


def tiny_wav2vec2(folder: Path, model_type: str = "wav2vec2", **fields) -> Path:
    """A random wav2vec2, HuBERT or WavLM of two layers in Hugging Face's layout."""
    pytest.importorskip("torch", reason="pip install -r requirements/transformers.txt")
    transformers = pytest.importorskip(
        "transformers", reason="pip install -r requirements/transformers.txt"
    )
    import torch

    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(
        model_type,
        **{"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
        **{"intermediate_size": 32, "conv_dim": (8, 8), "conv_kernel": (10, 3)},
        **{"conv_stride": (20, 16), "num_conv_pos_embeddings": 4, "num_feat_extract_layers": 2},
        **{"num_conv_pos_embedding_groups": 2, "num_buckets": 8, **fields},
    )
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder


def tiny_whisper(folder: Path) -> Path:
    """A random Whisper with a decoder, in Hugging Face's layout."""
    pytest.importorskip("torch", reason="pip install -r requirements/transformers.txt")
    transformers = pytest.importorskip(
        "transformers", reason="pip install -r requirements/transformers.txt"
    )
    import torch

    torch.manual_seed(0)
    config = transformers.WhisperConfig(
        **{"d_model": 128, "encoder_layers": 2, "encoder_attention_heads": 2, "vocab_size": 30},
        **{"encoder_ffn_dim": 64, "decoder_layers": 1, "decoder_attention_heads": 2},
        **{"decoder_ffn_dim": 8, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
        **{"decoder_start_token_id": 1, "suppress_tokens": None, "begin_suppress_tokens": None},
    )
    transformers.WhisperModel(config).save_pretrained(folder)
    transformers.WhisperFeatureExtractor().save_pretrained(folder)
    return folder


def opened(path, **settings):
    described = loading.describe(Path(path), **settings)
    return FeatureSpec(planes=("embedding",), encoder=described), loading.load(
        Path(path), described
    )


def noise(n: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(-0.5, 0.5, n).astype(np.float32)


MAKERS = {"onnx": lambda folder: tiny_onnx(folder / "e.onnx"), "transformers": tiny_wav2vec2}


@pytest.fixture(scope="module", params=MAKERS)
def encoder_path(request, tmp_path_factory) -> Path:
    return MAKERS[request.param](tmp_path_factory.mktemp("encoder"))


def test_sizes_are_measured(encoder_path):
    spec, encoder = opened(encoder_path, pooling="positions")
    for n_samples in (100, 400, 719, 720, 12_345):
        states = encoder._states_of(noise(max(n_samples, encoder.least)))
        assert len(states) == spec.encoder.n_states
        assert states[0].shape == (spec.n_frames(n_samples), spec.encoder.width)
    assert spec.n_frames(spec.n_samples(7)) == 7 == spec.n_frames(spec.n_samples(7) + 1) - 1


@pytest.mark.parametrize("pooling", ["statistics", "positions"])
@pytest.mark.parametrize("context", [0.0, 1.0])
def test_embedding_does_not_depend_on_padding_or_batch(encoder_path, pooling, context):
    spec, encoder = opened(encoder_path, pooling=pooling, context=context)
    clips = [noise(n) for n in (6560, 20_800, 320)]
    padded_BxS = np.full((3, 24_000), 0.3, np.float32)  # whatever follows a clip is ignored
    for row, clip in enumerate(clips):
        padded_BxS[row, : len(clip)] = clip
    n_samples_B = np.array([len(clip) for clip in clips], np.int32)
    together = features.extract(spec, padded_BxS, n_samples_B, encoder)["embedding"]
    for row, clip in enumerate(clips):
        x_TxF = features.extract_clip(spec, clip, encoder)["embedding"]
        assert x_TxF.shape == (spec.n_frames(len(clip)), spec.width("embedding"))
        np.testing.assert_array_equal(together[row, : len(x_TxF)], x_TxF)
        assert not together[row, len(x_TxF) :].any()
        if not context:
            states = encoder._states_of(np.pad(clip, (0, max(0, encoder.least - len(clip)))))
            mean_TxD = [state_PxD.mean(axis=0) for state_PxD in states]
            if pooling == "statistics":
                np.testing.assert_allclose(x_TxF[:, : len(mean_TxD[0])], mean_TxD, atol=1e-5)
            else:
                np.testing.assert_array_equal(x_TxF, np.concatenate(states, axis=1))


def test_a_clip_longer_than_the_encoder_takes_is_taken_in_windows(encoder_path, monkeypatch):
    spec, encoder = opened(encoder_path, pooling="positions", states=(0,))
    monkeypatch.setattr(encoder, "longest", 50)
    for n_samples in (20_000, 50 * encoder.hop_length, 50 * encoder.hop_length + encoder.least):
        x_TxF = features.extract_clip(spec, noise(n_samples), encoder)["embedding"]
        assert x_TxF.shape == (spec.n_frames(n_samples), spec.encoder.width)
        assert x_TxF.any(axis=1).all()


def test_a_path_decides_who_reads_it(tmp_path):
    folder = tiny_whisper(tmp_path)
    settings = {"context": 30.0, "pooling": "positions"}
    spec, own = opened(folder, **settings)
    by_transformers, other = opened(f"transformers:{folder}", **settings)
    assert type(own).__name__ == "Whisper" and type(other).__name__ == "TransformersEncoder"
    assert spec.encoder.n_states == by_transformers.encoder.n_states + 1
    clip = noise(16_000)
    x_PxF = features.extract_clip(spec, clip, own)["embedding"]
    # transformers has no state between the last layer and the final norm.
    own_PxLxD = np.delete(x_PxF.reshape(50, 4, 128), 2, axis=1)
    other_PxF = features.extract_clip(by_transformers, clip, other)["embedding"]
    np.testing.assert_allclose(other_PxF.reshape(50, 3, 128), own_PxLxD, atol=1e-4)


@pytest.mark.parametrize("model_type", ["hubert", "wavlm"])
def test_normalisation_is_that_of_the_feature_extractor(tmp_path, model_type):
    spec, encoder = opened(tiny_wav2vec2(tmp_path, model_type))
    loud, soft = noise(8000), 0.01 * noise(8000)
    by_loudness = [features.extract_clip(spec, x, encoder)["embedding"] for x in (loud, soft)]
    np.testing.assert_allclose(*by_loudness, atol=1e-3)
    settings = json.loads((tmp_path / "preprocessor_config.json").read_text())
    settings["do_normalize"] = False
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    for cache in (loading._load, loading._sha256_of):
        cache.cache_clear()
    changed, encoder = opened(tmp_path)
    assert changed.encoder.sha256 != spec.encoder.sha256
    as_they_are = [features.extract_clip(spec, x, encoder)["embedding"] for x in (loud, soft)]
    assert np.abs(as_they_are[0] - as_they_are[1]).max() > 0.05


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"rate": 8000}, "takes waveforms at 8000 Hz, .* is 16000; set"),
        ({"batch": 4}, r"takes waveform \[4, 'samples'\] of tensor\(float\); an encoder takes"),
        ({"flat": True}, r"arrays of shape \(1, 24, 8\), \(1, 24, 8\), \(1, 8\) for one clip"),
    ],
)
def test_an_onnx_file_of_something_else_is_refused(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        loading.describe(tiny_onnx(tmp_path / "e.onnx", **changes))


def test_an_onnx_file_may_take_one_length_alone(tmp_path):
    path = tiny_onnx(tmp_path / "e.onnx", samples=32_080, rate=16_000)
    spec, encoder = opened(path, pooling="positions")
    assert (encoder.longest, encoder.hop_length) == (100, 320)
    clip = noise(40_000)
    x_TxF = features.extract_clip(spec, clip, encoder)["embedding"]
    assert len(x_TxF) == spec.n_frames(40_000) == 125
    padded = np.pad(clip[:32_000], (0, 80))
    np.testing.assert_array_equal(x_TxF[:100, :WIDTH], encoder._states_of(padded)[0])


def test_files_that_cannot_be_read_are_told(tmp_path):
    pytest.importorskip("onnxruntime", reason="pip install --no-deps -r requirements/onnx.txt")
    with pytest.raises(UserError, match="there is no encoder at .*e.onnx"):
        loading.describe(tmp_path / "e.onnx")
    (tmp_path / "e.onnx").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="cannot be opened by onnxruntime"):
        loading.describe(tmp_path / "e.onnx")


def test_weights_outside_an_onnx_file_are_refused(tmp_path):
    path = tiny_onnx(tmp_path / "e.onnx")
    import onnx

    onnx.save(onnx.load(path), path, save_as_external_data=True, size_threshold=0)
    with pytest.raises(UserError, match="with its weights in the same file"):
        loading.describe(path)


@pytest.mark.parametrize(
    "files, message",
    [
        ({"config.json": "{"}, "config.json .* get the folder again"),
        (SETTINGS, "has no model.safetensors"),
        ({**SETTINGS, "pytorch_model.bin": ""}, "pickled weights"),
    ],
)
def test_a_folder_without_an_encoder_is_refused(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        loading.describe(tmp_path)


def test_a_folder_that_lacks_something_is_refused(tmp_path):
    from safetensors.numpy import load_file, save_file

    folder = tiny_wav2vec2(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    [name] = [name for name in tensors if "layers.1.final_layer_norm.weight" in name]
    del tensors[name], tensors["masked_spec_embed"]  # the latter is for training
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=f"lacks the tensor {name}"):
        loading.describe(folder)
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:500])
    with pytest.raises(UserError, match="cannot be opened by transformers"):
        loading.describe(folder)
    (folder / "preprocessor_config.json").unlink()
    loading._sha256_of.cache_clear()
    with pytest.raises(UserError, match="has no preprocessor_config.json"):
        loading.describe(folder)
    with pytest.raises(UserError, match="there is no encoder at .*nowhere"):
        loading.describe(Path(f"transformers:{tmp_path}/nowhere"))


def test_what_is_not_installed_is_told(tmp_path, monkeypatch):
    (tmp_path / "e.onnx").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match="pip install --no-deps -r requirements/onnx.txt"):
        loading.describe(tmp_path / "e.onnx")
    monkeypatch.setitem(sys.modules, "transformers", None)
    for name, text in {**SETTINGS, "model.safetensors": ""}.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match="pip install -r requirements/transformers.txt"):
        loading.describe(tmp_path)


def test_values_that_are_not_finite_are_refused(encoder_path):
    _, encoder = opened(encoder_path)
    with pytest.raises(UserError, match="not finite"):
        encoder._states_of(np.full(8000, np.nan, np.float32))


@pytest.fixture(scope="module")
def workdir(encoder_path, tiny, tmp_path_factory):
    """A probe of the encoder, trained and evaluated."""
    folder = tmp_path_factory.mktemp("other")
    like, config = tiny(), whisper.get_config()
    config.corpus, config.split = like.corpus, like.split
    config.records_dir, config.encoder.path = str(folder / "records"), str(encoder_path)
    config.model.hidden = (8,)
    config.train.update(epochs=2, batch_size=16)
    records_folder = prepare(config)
    train(config, records_folder, folder / "run")
    evaluate(config, records_folder, folder / "run")
    return folder / "run"


def test_a_probe_predicts_what_was_evaluated_and_is_not_exported(workdir, tiny, tmp_path):
    predictor = Predictor(workdir, keep_features=True)
    predictions = predictions_csv.read(workdir / "predictions.csv", predictor.labels)
    clips = recordings(tiny())
    for clip in np.unique(predictions.clip_P)[:3]:
        prediction = predictor(waveform.load(clips[clip].path, 16_000), 16_000)
        expected_RxC = predictions.probability_PxC[predictions.clip_P == clip]
        np.testing.assert_allclose(prediction.probability_RxC, expected_RxC, atol=1e-5)
        assert prediction.features_TxF.shape[1] == predictor.backend.spec.width("embedding")
    with pytest.raises(UserError, match="cannot be part of an exported file"):
        writer.members(trained_model.load(workdir))
