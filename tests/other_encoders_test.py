"""Encoders of other libraries: an ONNX file, and folders that transformers reads."""

import json
import logging
import sys
from pathlib import Path

import numpy as np
import pytest

from ser_jax import features
from ser_jax.common.errors import UserError
from ser_jax.encoders import loading
from ser_jax.features import FeatureSpec

WIDTH, KERNEL, STRIDE = 8, 400, 320


def tiny_onnx(path: Path, *, samples="samples", rate=None, dtype="float32", flat=False) -> Path:
    """Two layers: a random convolution of the waveform, and its tanh."""
    onnx = pytest.importorskip("onnx", reason="pip install --no-deps -r requirements/onnx.txt")
    pytest.importorskip("onnxruntime", reason="pip install --no-deps -r requirements/onnx.txt")
    from onnx import helper, numpy_helper

    kernel = np.random.default_rng(0).standard_normal((WIDTH, 1, KERNEL)).astype(dtype) / 10
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
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
        [helper.make_tensor_value_info("waveform", element, ["batch", samples])],
        [helper.make_tensor_value_info(name, element, None) for name in names],
        [
            numpy_helper.from_array(kernel, "kernel"),
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
