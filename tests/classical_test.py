"""The classical baseline is scikit-learn's, in the files of every run."""

import itertools
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from sklearn import svm
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from configs import svm as svm_config
from ser_jax.common.errors import UserError
from ser_jax.data.records import open_records
from ser_jax.evaluate import predictions_csv, test_set
from ser_jax.models.classical import functionals
from ser_jax.predictor import Predictor
from ser_jax.report import run_report
from ser_jax.train import loop
from ser_jax.train.experiment import make_experiment

COSTS = (0.1, 3.0)


def shrunk(tiny, **changes):
    """The shipped config on the tests' records."""
    config, own = tiny().unlock(), svm_config.get_config()
    config.model, config.replicas = own.model, own.replicas
    config.input.kind, config.input.views = own.input.kind, own.input.views
    config.train.epochs = own.train.epochs
    config.replicas.sweep.model__cost = COSTS
    config.update_from_flattened_dict(changes)
    return config.lock()


@pytest.fixture(scope="module")
def finished(tiny, tiny_records, tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("classical")
    experiment = loop.train(shrunk(tiny), tiny_records, workdir)
    test_set.evaluate(shrunk(tiny), tiny_records, workdir, experiment)
    return workdir


def by_numpy(x_TxF: np.ndarray) -> np.ndarray:
    """The functionals of a clip, by their definition."""
    x_TxF = x_TxF.astype(np.float64)
    held = np.pad(x_TxF, ((2, 2), (0, 0)), mode="edge")
    n = len(x_TxF)
    delta = sum(k * (held[2 + k : 2 + k + n] - held[2 - k : 2 - k + n]) for k in (1, 2)) / 10
    y = np.concatenate([x_TxF, delta], axis=1)
    return np.concatenate([y.mean(0), y.std(0), *np.percentile(y, (5, 25, 50, 75, 95), axis=0)])


def test_functionals_are_of_the_frames_within_a_clip():
    rng, lengths = np.random.default_rng(0), np.array([1, 2, 7, 30])
    x_BxTxF = rng.normal(5, 3, (4, 30, 3)).astype(np.float32)
    expected = [by_numpy(x[:n]) for x, n in zip(x_BxTxF, lengths, strict=True)]
    found = functionals(jnp.asarray(x_BxTxF), jnp.asarray(lengths))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(functionals(x_BxTxF, lengths), found, rtol=1e-5, atol=1e-5)
    complete = functionals(jnp.asarray(x_BxTxF))
    np.testing.assert_allclose(complete, [by_numpy(x) for x in x_BxTxF], rtol=1e-5, atol=1e-5)
    slope = jax.grad(lambda x: functionals(x, jnp.asarray(lengths)).sum())(jnp.ones((4, 30, 3)))
    assert np.isfinite(slope).all()  # for the saliency, of constant columns too


def test_every_setting_predicts_as_scikit_learn(tiny, tiny_records, finished):
    experiment = make_experiment(shrunk(tiny), open_records(tiny_records))
    examples, split = experiment.examples, experiment.splits[0]
    x = np.stack(
        [by_numpy(x[:n]) for x, n in zip(examples.x_NxTxF, examples.n_frames_N, strict=True)]
    )
    labels, results = experiment.records.labels, json.loads((finished / "results.json").read_text())
    predictions = predictions_csv.read(finished / "predictions.csv", labels)
    rows = zip(experiment.replicas, results["replicas"], strict=True)
    for number, (replica, result) in enumerate(rows):
        cost = replica.setting["model.cost"]
        model = LogisticRegression(C=cost / x.shape[1], max_iter=10_000)
        if replica.setting["model.classifier"] == "svm":
            model = svm.SVC(C=cost, decision_function_shape="ovo")
        pipeline = make_pipeline(StandardScaler(), model)
        pipeline.fit(x[split.train], examples.label_N[split.train])

        def decisions(clips, pipeline=pipeline):
            """Those of scikit-learn, for a class; of pairs the sum of their tanh."""
            found = pipeline.decision_function(x[clips])
            pairs = itertools.combinations(range(len(labels)), 2)
            sign = np.array([np.eye(len(labels))[a] - np.eye(len(labels))[b] for a, b in pairs])
            return np.tanh(found) @ sign if found.shape[1] == len(sign) else found

        right = decisions(split.val).argmax(1) == examples.label_N[split.val]
        assert result["val"] == pytest.approx(right.mean())
        probability = predictions.of_replicas([number]).probability_PxC
        decision = decisions(split.test)
        np.testing.assert_array_equal(probability.argmax(1), decision.argmax(1))
        # The probabilities are a softmax of the decisions, times one factor for all of them.
        apart = np.log(probability) - np.log(probability).mean(1, keepdims=True)
        decision -= decision.mean(1, keepdims=True)
        factor = (apart * decision).sum() / (decision**2).sum()
        assert factor > 0
        np.testing.assert_allclose(apart, factor * decision, atol=2e-3 * np.abs(apart).max())


def test_a_finished_fit_is_not_repeated(tiny, tiny_records, finished, monkeypatch):
    before = (finished / "metrics.jsonl").read_bytes()
    monkeypatch.delattr(svm, "SVC")
    loop.train(shrunk(tiny), tiny_records, finished)
    assert (finished / "metrics.jsonl").read_bytes() == before


def test_prediction_agrees_with_the_evaluation(tiny, made_corpus, finished):
    results = json.loads((finished / "results.json").read_text())
    predictions = predictions_csv.read(finished / "predictions.csv", results["labels"])
    [chosen] = [r["replica"] for r in results["replicas"] if r["chosen"]]
    predictions = predictions.of_replicas([chosen])
    clips = dict(zip(predictions.clip_P.tolist(), predictions.probability_PxC, strict=True))
    paths = [path for path in sorted(made_corpus.rglob("*.wav")) if path.stem in clips][:8]
    predict = Predictor(finished)
    for path in paths:
        waveform, rate = soundfile.read(path, dtype="float32")
        found = predict(waveform, rate).probability_C
        np.testing.assert_allclose(found, clips[path.stem], atol=1e-5)
    assert paths


def test_the_run_has_its_report(finished):
    page = run_report.write(finished)
    text = (page.parent / "report.md").read_text()
    assert "model.classifier" in text and "model.cost" in text
    text = text.replace("without epochs", "").replace("Seeds make no difference", "").lower()
    assert "epoch" not in text and "seed" not in text


def test_the_console_speaks_of_no_steps_or_seeds_and_batches_are_not_checked(
    tiny, tiny_records, tmp_path, capsys
):
    one = {"replicas.sweep.model__classifier": (), "replicas.sweep.model__cost": ()}
    loop.train(shrunk(tiny, **one, **{"train.batch_size": 10_000}), tiny_records, tmp_path)
    output = capsys.readouterr().out
    assert "fold 0: accuracy" in output and " in memory." in output
    assert not {"seed", "step", "epoch"} & set(re.findall("seed|step|epoch", output))


def test_folds_have_machines_of_their_own(tiny, tiny_records, tmp_path):
    one = {"replicas.sweep.model__classifier": (), "replicas.sweep.model__cost": ()}
    rows = {}
    for fold in ("all", "1"):
        config = shrunk(tiny, **one, **{"split.fold": fold})
        loop.train(config, tiny_records, tmp_path / fold)
        results = test_set.evaluate(config, tiny_records, tmp_path / fold)
        rows[fold] = [(r["fold"], r["val"], r["accuracy"]) for r in results["replicas"]]
    assert [fold for fold, *_ in rows["all"]] == [0, 1, 2]
    assert rows["all"][1] == rows["1"][0]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("input.memory_limit_gb", 1e-6, "model.classifier=logistic"),
        ("model.classifier", "forest", "svm, logistic"),
        ("model.cost", 0.0, "above 0"),
    ],
)
def test_what_cannot_be_fitted_is_refused(tiny, tiny_records, tmp_path, key, value, message):
    config = shrunk(tiny, **{key: value})
    with pytest.raises(UserError, match=message):
        loop.train(config, tiny_records, tmp_path)


def test_a_fit_has_no_other_run_to_start_from(tiny, tiny_records, tmp_path, finished):
    with pytest.raises(UserError, match="drop init_from"):
        loop.train(shrunk(tiny, init_from=str(finished)), tiny_records, tmp_path)
