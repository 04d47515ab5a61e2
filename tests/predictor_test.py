"""Predictions equal those of evaluation, for every form of waveform, and carry notes."""

import csv
import dataclasses
import json
import subprocess
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_prep.corpora import CORPORA
from data_prep.prepare import prepare
from ser_jax.audio.waveform import load, resample
from ser_jax.common.errors import UserError
from ser_jax.data.records import open_records
from ser_jax.evaluate import test_set
from ser_jax.predict import backends, trained_model
from ser_jax.predict.predictor import Prediction, Predictor
from ser_jax.predict.trained_model import TrainedBackend
from ser_jax.train import checkpoints
from ser_jax.train.experiment import initial_states, make_experiment
from ser_jax.train.workdir import claim

ROOT = Path(__file__).parents[1]


def evaluated(workdir: Path) -> dict[str, np.ndarray]:
    """Return {clip: mean over the replicas of its probabilities in predictions.csv}."""
    probabilities: dict[str, list] = {}
    with (workdir / "predictions.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            probabilities.setdefault(row["id"], []).append(
                [float(p) for p in list(row.values())[5:]]
            )
    return {clip: np.mean(values, axis=0) for clip, values in probabilities.items()}


def make_run(config, records: Path, workdir: Path) -> Path:
    """Make an evaluated run with drawn weights, which takes a second; return its workdir."""
    experiment = make_experiment(config, open_records(records))
    bests = []
    for state in initial_states(experiment):
        params = state.best.params
        (last,) = [
            layer for layer in params if params[layer].get("bias", np.zeros(0)).shape == (6,)
        ]
        # Larger logits, because all probabilities would be near one sixth; but about ten at most,
        # because 1e-5 in a probability has to cover the float32 rounding of a logit.
        params[last]["kernel"] = 30 * params[last]["kernel"]
        best = state.best.replace(params=params, value=jnp.zeros(()))
        bests.append((best, state.normalisation))
    best, normalisation = jax.tree.map(lambda *leaves: jnp.stack(leaves), *bests)
    claim(workdir, config, records.parent.name)
    with checkpoints.Writer(workdir, experiment.metadata()) as writer:
        writer.save_best(types.SimpleNamespace(best=best, normalisation=normalisation))
    test_set.evaluate(config, records, workdir)
    return workdir


@pytest.fixture(scope="module")
def run(tiny, tiny_records, tmp_path_factory) -> Path:
    """An evaluated run of two replicas."""
    config = tiny()
    config.replicas.seeds = 2
    return make_run(config, tiny_records, tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def half_run(tiny, tmp_path_factory) -> Path:
    """A run with records in half precision and an input shorter than the longest clip."""
    config = tiny("cnn1d")
    config.records_dtype = "float16"
    config.input.max_frames = 40
    return make_run(config, prepare(config), tmp_path_factory.mktemp("runs") / "half")


@pytest.fixture(scope="module")
def opened(run) -> Predictor:
    return Predictor(run)


@pytest.fixture(scope="module")
def clips(made_corpus) -> dict[str, np.ndarray]:
    return {path.stem: load(path, 16_000) for path in sorted(made_corpus.rglob("*.wav"))}


@pytest.mark.parametrize("which", ["run", "half_run"])
def test_probabilities_are_those_of_evaluation(which, clips, request):
    workdir = request.getfixturevalue(which)
    expected, predict = evaluated(workdir), Predictor(workdir)
    predictions = list(predict.many((clips[name], 16_000) for name in expected))
    assert len(predictions) == len(expected) > 10
    assert (
        np.std([p.probability_C for p in predictions], axis=0).max() > 0.1
    )  # else the comparison is weak
    for prediction, probability_C in zip(predictions, expected.values(), strict=True):
        np.testing.assert_allclose(prediction.probability_C, probability_C, rtol=0, atol=1e-5)
    longer = [p.notes != () and "longer" in p.notes[0] for p in predictions]
    n_frames = [predict.backend.spec.n_frames(len(clips[name])) for name in expected]
    assert longer == [n > predict.backend.max_frames for n in n_frames]
    assert any(longer) == (which == "half_run")


def test_licence_of_the_corpus_reaches_the_trained_model(run):
    assert trained_model.load(run).licence == CORPORA["synthetic"].licence


def test_the_command_equals_evaluation(run, made_corpus, tmp_path):
    expected, out = evaluated(run), tmp_path / "rows.jsonl"
    paths = "".join(f"{next(made_corpus.rglob(f'{name}.wav'))}\n" for name in expected)
    command = [sys.executable, "-m", "ser_jax.predict", f"--workdir={run}", "-"]
    done = subprocess.run(
        [*command, "--format=jsonl", f"--out={out}"],
        cwd=ROOT,
        input=paths.encode(),
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr.decode()
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [Path(row["path"]).stem for row in rows] == list(expected)
    for row, probability_C in zip(rows, expected.values(), strict=True):
        assert list(row["probabilities"]) == sorted(row["probabilities"])
        np.testing.assert_allclose(list(row["probabilities"].values()), probability_C, atol=1e-5)


def test_predictions_are_independent_of_the_batch(opened, clips):
    waveforms = list(clips.values())[:11]
    waveforms[3] = np.tile(waveforms[3], 5)
    for waveform_S, prediction in zip(waveforms, opened.batch(waveforms), strict=True):
        alone = opened(waveform_S, 16_000)
        np.testing.assert_allclose(alone.probability_RxC, prediction.probability_RxC, atol=1e-5)
        assert alone.notes == prediction.notes


def test_channels_rates_and_integers_are_the_same_sound(opened, clips):
    waveform_S = next(iter(clips.values()))
    reference = opened(waveform_S, 16_000).probability_C
    as_integers = np.round(waveform_S * 32_768).astype(np.int16)
    np.testing.assert_allclose(opened(as_integers, 16_000).probability_C, reference, atol=1e-3)
    stereo_SxK = np.stack([1.5 * waveform_S, 0.5 * waveform_S], axis=1)
    np.testing.assert_allclose(opened(stereo_SxK, 16_000).probability_C, reference, atol=1e-4)
    at_48k = resample(waveform_S, 16_000, 48_000)
    np.testing.assert_allclose(opened(at_48k, 48_000).probability_C, reference, atol=0.05)
    slow = opened(at_48k, 16_000)  # three times as long
    assert np.abs(slow.probability_C - reference).max() > 0.01


WRONG = {
    "empty": (np.zeros(0), 16_000, "holds no samples"),
    "no sound": (np.array([0.0, 1e20]), 16_000, "samples of 1e.20 times full scale"),
    "infinite rate": (np.zeros(900), float("inf"), "rates from 1,000 to 1,000,000 Hz"),
    "not finite": (np.array([0.0, np.nan]), 16_000, "NaN or infinite"),
    "transposed": (np.zeros((2, 900)), 16_000, r"transpose it to \[samples, channels\]"),
    "a stack": (np.zeros((9, 2, 2)), 16_000, r"\(9, 2, 2\)"),
    "words": (np.array(["a"]), 16_000, "cannot be used"),
    "no rate": (np.zeros(900), 0, "sampling_rate=0 cannot be used"),
    "too little": (np.zeros(1), 96_000, "shorter than one sample"),
}


@pytest.mark.parametrize("name", WRONG)
def test_invalid_waveforms_are_refused(opened, name):
    waveform, rate, sentence = WRONG[name]
    with pytest.raises(UserError, match=sentence):
        opened(waveform, rate)


def test_notes(opened, clips):
    waveform_S = next(iter(clips.values()))
    assert opened(waveform_S, 16_000).notes == ()
    assert "silent" in opened(np.full(40_000, 0.3), 16_000).notes[0]  # only a DC offset
    (note,) = opened(np.tile(waveform_S, 9), 16_000).notes
    assert f"only its first {opened.seconds:.1f} s are used; --window" in note
    assert opened(waveform_S[:3000], 16_000).notes == ("shorter than any training clip",)
    late_S = np.concatenate([np.zeros(16_000 * 10, np.float32), waveform_S])
    assert "silent" in opened(late_S, 16_000).notes[0]  # within the model's input
    (note,) = opened(32_768 * waveform_S, 16_000).notes  # 16-bit integers cast to float
    assert "times full scale, in training 1" in note


class Recorder:
    """A Backend that records the shapes of its inputs and returns the sum of each clip."""

    corpus, labels, min_frames, max_frames = "", ("a", "b"), 2, 200

    def __init__(self, spec):
        self.spec, self.shapes = spec, []

    def __call__(self, waveform_BxS, n_samples_B):
        self.shapes.append(waveform_BxS.shape)
        sum_B = waveform_BxS.sum(axis=1)
        return np.stack([sum_B, n_samples_B - 1e9], axis=-1)[None]


def test_shapes_are_few_and_batches_bounded(opened, monkeypatch):
    recorder = Recorder(opened.backend.spec)
    monkeypatch.setattr(backends, "load", lambda source: recorder)
    predict = Predictor("anything")
    random = np.random.default_rng(0)
    n_samples = [*random.integers(1, 130 * 16_000, 40), *random.integers(1, 100_000, 200)]
    for n in (1, 5, 9, 240):
        predictions = predict.batch([np.ones(k, np.float32) for k in n_samples[:n]])
        used = [np.float32(min(k, 60 * 16_000)) for k in n_samples[:n]]
        assert [p.probability_C[0] for p in predictions] == used
    predict.batch([np.ones(50 * 16_000, np.float32)] * 40)
    shapes = set(recorder.shapes)
    assert {rows for rows, _ in shapes} <= {1, 8, 64}
    assert len({length for _, length in shapes}) <= 5
    assert max(rows * length for rows, length in shapes) <= 600 * 16_000


def test_only_the_first_minute_of_a_long_recording_is_used(opened):
    random = np.random.default_rng(0)
    minute_S = random.standard_normal(60 * 16_000).astype(np.float32) / 10
    more_S = np.concatenate([minute_S, np.ones(50_000, np.float32)])
    first, second = opened.batch([minute_S, more_S])
    np.testing.assert_array_equal(first.probability_C, second.probability_C)
    assert opened.batch([more_S[: opened.longest]])[0].notes == second.notes != ()


def test_several_devices_give_the_same_predictions(run, clips):
    model = trained_model.load(run)
    waveform_BxS = np.zeros((8, 48_000), np.float32)
    n_samples_B = np.array([min(len(clip), 48_000) for clip in list(clips.values())[:8]], np.int32)
    for row, clip in enumerate(list(clips.values())[:8]):
        waveform_BxS[row, : n_samples_B[row]] = clip[:48_000]
    expected = TrainedBackend(model)(waveform_BxS, n_samples_B)
    assert expected.shape == (2, 8, 6)
    on_four = TrainedBackend(model, jax.devices()[:4])
    np.testing.assert_allclose(on_four(waveform_BxS, n_samples_B), expected, atol=1e-6)
    single = on_four(waveform_BxS[:1], n_samples_B[:1])  # not divisible by four
    np.testing.assert_allclose(single, expected[:, :1], atol=1e-5)


def test_replicas_are_averaged_and_may_disagree():
    probability_RxC = np.array([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.2, 0.1, 0.7]])
    prediction = Prediction(("a", "b", "c"), probability_RxC)
    assert prediction.emotion == "a" and prediction.disagreement == pytest.approx(2 / 3)
    assert prediction.confidence == pytest.approx(1.3 / 3)
    assert dataclasses.is_dataclass(prediction)


def test_a_missing_model_is_reported(tmp_path):
    with pytest.raises(UserError, match="does not exist; give the --workdir"):
        Predictor(tmp_path / "nothing")
    with pytest.raises(UserError, match="holds no trained model"):
        Predictor(tmp_path)
