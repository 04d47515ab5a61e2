"""A run on a pretrained encoder's embeddings, from audio to the exported file."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from configs import whisper
from data_prep.prepare import prepare, recordings
from ser_jax.audio import waveform
from ser_jax.common.errors import UserError
from ser_jax.data import records
from ser_jax.data.examples import Examples
from ser_jax.encoders import loading
from ser_jax.evaluate import predictions_csv
from ser_jax.evaluate.test_set import evaluate
from ser_jax.export import writer
from ser_jax.models import registry
from ser_jax.predict import trained_model
from ser_jax.predict.predictor import Predictor
from ser_jax.report import run_report
from ser_jax.train.loop import train
from tests.encoders_test import SIZE, tensors_of


@pytest.fixture(scope="module")
def config(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("transfer")
    save_file(tensors_of(SIZE), folder / "model.safetensors")
    like = tiny()
    config = whisper.get_config()
    config.corpus = like.corpus
    config.split = like.split
    config.records_dir = str(folder / "records")
    config.encoder.path = str(folder)
    config.augmentation.views = ("noise",)
    config.model.hidden = (16,)
    config.train.update(epochs=4, batch_size=16)
    config.optimizer.learning_rate = 1e-2
    config.replicas.seeds = 2
    return config.lock()


@pytest.fixture(scope="module")
def workdir(config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    folder = prepare(config)
    train(config, folder, workdir)
    evaluate(config, folder, workdir)
    return workdir


def test_records_hold_the_statistics_of_every_hidden_state(config, workdir):
    opened = records.open_records(prepare(config))
    assert opened.spec.encoder.n_states == SIZE.n_layers + 2
    assert opened.views == ("original", "noise")
    settings = json.loads((opened.folder / "metadata.json").read_text())["settings"]
    assert settings["features"]["encoder"]["sha256"] == opened.spec.encoder.sha256


def test_normalisation_is_per_hidden_state(workdir):
    normalisation = trained_model.load(workdir).weights[0].normalisation
    assert normalisation.mean_F.shape == (SIZE.n_layers + 2, 2 * SIZE.width)


@pytest.fixture(scope="module")
def exported(workdir, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "emotion.zip"
    writer.write(path, writer.members(trained_model.load(workdir)))
    return path


def test_prediction_and_export_equal_evaluation(config, workdir, exported):
    predictor, from_file = Predictor(workdir), Predictor(exported)
    predictions = predictions_csv.read(workdir / "predictions.csv", predictor.labels)
    clips = recordings(config)
    for clip in np.unique(predictions.clip_P)[:4]:
        waveform_S = waveform.load(clips[clip].path, 16_000)
        expected_RxC = predictions.probability_PxC[predictions.clip_P == clip]
        by_run = predictor(waveform_S, 16_000).probability_RxC
        by_file = from_file(waveform_S, 16_000).probability_RxC
        np.testing.assert_allclose(by_run, expected_RxC, atol=1e-5)
        # A random encoder's states hardly vary, so that normalisation enlarges their rounding.
        np.testing.assert_allclose(by_file, expected_RxC, atol=5e-3)


def test_a_clip_longer_than_the_encoder_takes_is_noted(workdir):
    clip = np.random.default_rng(0).uniform(-0.1, 0.1, 31 * 16_000).astype(np.float32)
    assert "longer than the model's input" in Predictor(workdir)(clip, 16_000).notes[0]
    assert not Predictor(workdir)(clip[:16_000], 16_000).notes


def test_the_report_says_why_there_is_no_saliency(config, workdir):
    page = run_report.write(workdir, recordings(config), 1, "python launch.py")
    text = page.read_text(encoding="utf-8")
    assert "no axis of time or frequency" in text and "<img" in text


def test_an_encoder_that_was_replaced_is_refused(config, workdir):
    path = Path(config.encoder.path) / "model.safetensors"
    original = path.read_bytes()
    try:
        save_file(tensors_of(SIZE, seed=1), path)
        loading._sha256_of.cache_clear()
        with pytest.raises(UserError, match="another encoder"):
            Predictor(workdir)
    finally:
        path.write_bytes(original)
        loading._sha256_of.cache_clear()


def test_the_schedule_fixes_the_number_of_epochs(config, workdir):
    with config.unlocked():
        longer = config.copy_and_resolve_references()
    longer.train.epochs = 5
    with pytest.raises(UserError, match=r"train\.epochs was 4 and is 5"):
        train(longer, prepare(config), workdir)


@pytest.mark.parametrize("pooling", ["weights", "attention"])
def test_a_probe_ignores_what_lies_past_the_end_of_a_clip(pooling):
    network = registry.build("probe", 3, {"pooling": pooling, "hidden": (4,)})
    x_BxTxF = jax.random.normal(jax.random.key(0), (2, 5, 6))
    params = network.init(jax.random.key(1), x_BxTxF, train=False)
    n_frames_B = jnp.array([5, 3])
    inside = jnp.arange(5)[None, :, None] < n_frames_B[:, None, None]
    logits = network.apply(params, x_BxTxF * inside, train=False, n_frames_B=n_frames_B)
    assert logits.shape == (2, 3)
    if pooling == "attention":
        cut = network.apply(params, x_BxTxF[1:, :3], train=False)
        np.testing.assert_allclose(logits[1:], cut, atol=1e-6)
        changed = network.apply(params, x_BxTxF, train=False, n_frames_B=n_frames_B)
        np.testing.assert_allclose(changed, logits, atol=1e-6)


def test_a_linear_probe_is_linear():
    network = registry.build("probe", 3, {"hidden": ()})
    x_BxTxF = jax.random.normal(jax.random.key(0), (4, 5, 6))
    params = network.init(jax.random.key(1), x_BxTxF, train=False)
    weights = np.ones(5) / 5  # all hidden states count alike at first
    by_hand = np.einsum("btf,t->bf", x_BxTxF, weights) @ params["params"]["Dense_0"]["kernel"]
    np.testing.assert_allclose(network.apply(params, x_BxTxF, train=False), by_hand, atol=1e-5)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"pooling": "max"}, "model.pooling='max'"),
        ({"hidden": (0,)}, "model.hidden"),
        ({"input_dropout": 1.0}, "model.input_dropout=1.0"),
    ],
)
def test_settings_of_a_probe_are_checked(fields, message):
    with pytest.raises(UserError, match=message):
        registry.build("probe", 3, fields)


def test_embeddings_are_those_of_the_records(config, workdir, tmp_path, capsys):
    from ser_jax.predict.__main__ import main

    clips = recordings(config)
    [clip, other] = sorted(clips)[:2]
    files = [str(clips[name].path) for name in (clip, other)]
    flags = [f"--workdir={workdir}", f"--embeddings={tmp_path / 'out.npz'}"]
    assert main([*flags, "--format=csv", *files]) == 0
    opened = records.open_records(prepare(config))
    examples = Examples(opened, kind="embedding")
    with np.load(tmp_path / "out.npz") as saved:
        assert saved["path"].tolist() == files
        for row, name in enumerate((clip, other)):
            expected_TxF = examples.x_NxTxF[opened.clips.ids.index(name)]
            np.testing.assert_allclose(saved["embedding"][row], expected_TxF, atol=1e-4)


def test_an_exported_file_has_no_embeddings(exported):
    with pytest.raises(UserError, match="gives probabilities alone"):
        Predictor(exported, keep_features=True)
