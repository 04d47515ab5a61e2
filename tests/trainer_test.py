"""Replicas trained together, in any layout, equal replicas trained alone."""

import functools
import json
import shutil
import signal
import types
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from train_test import assert_same_run, best, history, signal_at_step

from ser_jax.common import files
from ser_jax.common.errors import Interrupted, UserError
from ser_jax.compare.comparison import compare
from ser_jax.data.leakage import LeakageError
from ser_jax.evaluate import finished_run, test_set
from ser_jax.parallel import mesh
from ser_jax.predict import __main__ as predict
from ser_jax.predict import trained_model
from ser_jax.report import run_report
from ser_jax.train import checkpoints, loop, trainer
from ser_jax.train.replicas import expand
from ser_jax.train.state import Best, Normalisation

# Six steps change a weight by a few thousandths; another order, seed or rate, the loss by 0.01.
TOLERANCE = 5e-4
SWEEP = {"optimizer__learning_rate": (3e-4, 1e-3), "train__dropout": (0.0, 0.5)}


def small(tiny, model="cnn1d", **sections):
    """A tiny config for two epochs; further values are given as section={key: value}."""
    config = tiny(model)
    config.train.epochs = 2
    for section, values in sections.items():
        for key, value in values.items():
            config[section][key] = value
    return config


@pytest.fixture(scope="module")
def six(tiny):
    """Two seeds of each of three folds."""

    def get_config(**sections):
        sections = {"replicas": {"seeds": 2}, "split": {"fold": "all"}} | sections
        return small(tiny, **sections)

    return get_config


@pytest.fixture(scope="module")
def finished(six, tiny_records, tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("runs") / "six"
    loop.train(six(), tiny_records, workdir)
    return workdir


def assert_close_rows(first: list[dict], second: list[dict]) -> None:
    assert len(first) == len(second) > 0
    for a, b in zip(first, second, strict=True):
        assert a == pytest.approx(b, rel=TOLERANCE, abs=TOLERANCE)


def assert_close_runs(first: Path, second: Path) -> None:
    assert_close_rows(history(first), history(second))
    for a, b in zip(best(first), best(second), strict=True):
        np.testing.assert_allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE)


def of_replica(number: int, rows: list[dict]) -> list[dict]:
    return [row | {"replica": 0} for row in rows if row["replica"] == number]


@pytest.fixture(scope="module")
def alone(tiny, tiny_records, tmp_path_factory) -> Callable[[dict], Path]:
    """Train one replica by itself; return its workdir."""

    @functools.cache
    def run(seed: int, learning_rate: float, dropout: float) -> Path:
        config = small(tiny, optimizer={"learning_rate": learning_rate})
        config.seed, config.train.dropout = seed, dropout
        workdir = tmp_path_factory.mktemp("runs") / "alone"
        loop.train(config, tiny_records, workdir)
        return workdir

    return lambda replica: run(
        replica["seed"],
        replica["setting"]["optimizer.learning_rate"],
        replica["setting"]["train.dropout"],
    )


@pytest.mark.parametrize("strategy", mesh.STRATEGIES)
def test_replica_among_others_equals_replica_alone(tiny, tiny_records, tmp_path, alone, strategy):
    together = small(tiny, replicas={"seeds": 2, "strategy": strategy})
    together.replicas.sweep.update(SWEEP)
    loop.train(together, tiny_records, tmp_path / "together")
    rows, weights = history(tmp_path / "together"), checkpoints.load_best(tmp_path / "together")[0]
    replicas = checkpoints.load_best(tmp_path / "together")[1]["replicas"]
    assert len(replicas) == 8
    assert len({row["train/loss"] for row in rows}) == len(rows)  # all replicas differ
    for number in (0, 7):
        workdir = alone(replicas[number])
        assert_close_rows(history(workdir), of_replica(number, rows))
        own = checkpoints.load_best(workdir)[0]["params"]
        for a, b in zip(*map(jax.tree.leaves, (own, weights["params"])), strict=True):
            np.testing.assert_allclose(a[0], b[number], rtol=TOLERANCE, atol=TOLERANCE)


# The mesh's axes, replica and data, and the strategy.
LAYOUTS = [(2, 1, "vmap"), (1, 8, "device"), (3, 2, "map"), (6, 1, "device")]


@pytest.mark.parametrize(("replica", "data", "strategy"), LAYOUTS)
def test_any_layout_equals_one_device(
    six, tiny_records, tmp_path, finished, replica, data, strategy
):
    config = six(devices={"replica": replica, "data": data})
    config.replicas.strategy = strategy
    loop.train(config, tiny_records, tmp_path / "run")
    assert_close_runs(tmp_path / "run", finished)


@pytest.fixture(scope="module")
def three_on_one(tiny, tiny_records, tmp_path_factory) -> Path:
    """Three seeds on one device, evaluated."""
    workdir, config = tmp_path_factory.mktemp("runs") / "three", small(tiny, replicas={"seeds": 3})
    loop.train(config, tiny_records, workdir)
    test_set.evaluate(config, tiny_records, workdir)
    return workdir


# As two and four GPUs are used, and with two replicas at once on each of two.
@pytest.mark.parametrize(("replica", "strategy"), [(2, "device"), (3, "device"), (2, "vmap")])
def test_three_seeds_on_several_devices_equal_one_device(
    tiny, tiny_records, tmp_path, three_on_one, replica, strategy
):
    config = small(tiny, devices={"replica": replica})
    config.replicas.update(seeds=3, strategy=strategy)
    config.train.epochs = 1
    loop.train(config, tiny_records, tmp_path / "run")
    config.train.epochs = 2  # resumes
    loop.train(config, tiny_records, tmp_path / "run")
    assert_close_runs(tmp_path / "run", three_on_one)
    test_set.evaluate(config, tiny_records, tmp_path / "run")
    probabilities = [
        finished_run.load(run).predictions.probability_PxC
        for run in (tmp_path / "run", three_on_one)
    ]
    np.testing.assert_allclose(*probabilities, atol=TOLERANCE)


def test_each_fold_has_its_own_number_of_steps(tiny, tiny_records, tmp_path):
    """With four folds of six speakers, two of the replicas have fewer batches than the others."""
    together = small(tiny, split={"n_folds": 4, "fold": "all"})
    loop.train(together, tiny_records, tmp_path / "together")
    parts = files.read_json(tmp_path / "together" / "split.json")
    assert len({len(fold["train"]) for fold in parts.values()}) > 1
    for fold in (0, 3):
        alone = small(tiny, split={"n_folds": 4, "fold": str(fold)})
        loop.train(alone, tiny_records, tmp_path / f"{fold}")
        rows = of_replica(fold, history(tmp_path / "together"))
        assert_close_rows(history(tmp_path / f"{fold}"), rows)


def test_interrupted_replicas_resume_bit_for_bit(six, tiny_records, tmp_path, monkeypatch):
    config = six(devices={"replica": 2, "data": 2})
    loop.train(config, tiny_records, tmp_path / "uninterrupted")
    monkeypatch.setattr(trainer, "SECONDS_PER_CALL", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(loop.TrainingLoop, "_check", signal_at_step(5, signal.SIGTERM))
        with pytest.raises(Interrupted, match="after step 5; everything is saved"):
            loop.train(config, tiny_records, tmp_path / "stopped")
    assert len(history(tmp_path / "stopped")) == 6
    loop.train(config, tiny_records, tmp_path / "stopped")
    assert_same_run(tmp_path / "stopped", tmp_path / "uninterrupted")


def test_run_resumes_with_another_layout(six, tiny_records, tmp_path, finished):
    config = six(devices={"replica": 3})
    config.train.epochs = 1
    loop.train(config, tiny_records, tmp_path / "run")
    config = six(replicas={"seeds": 2, "strategy": "vmap", "at_once": 2})
    loop.train(config, tiny_records, tmp_path / "run")
    assert_close_runs(tmp_path / "run", finished)


def test_streamed_replicas_equal_resident(six, tiny_records, tmp_path, finished):
    config = six(devices={"replica": 2, "data": 2}, input={"memory_limit_gb": 0.0})
    loop.train(config, tiny_records, tmp_path / "streamed")
    assert_close_runs(tmp_path / "streamed", finished)


def test_stopped_replica_is_frozen(tiny, tiny_records, tmp_path, capsys, monkeypatch):
    save, steps = checkpoints.Writer.save, []

    def recording_save(self, step, state):
        steps.append(state.step.tolist())
        save(self, step, state)

    monkeypatch.setattr(checkpoints.Writer, "save", recording_save)
    sections = {"train": {"epochs": 6, "stopping_patience": 1, "monitor": "loss"}}
    config = small(tiny, "paper", **sections)  # without BatchNorm, nothing changes at rate 0
    config.replicas.sweep.optimizer__learning_rate = (0.0, 3e-3)
    loop.train(config, tiny_records, tmp_path / "run")
    frozen, moving = (
        [row for row in history(tmp_path / "run") if row["replica"] == number] for number in (0, 1)
    )
    assert [row["epoch"] for row in frozen] == [1, 2] and len(moving) > 2
    assert "1 of 2" in capsys.readouterr().out
    # Three steps per epoch; the first replica stops after two epochs.
    assert steps[-1] == [2 * 3, len(moving) * 3]
    assert checkpoints.load_best(tmp_path / "run")[0]["epoch"].tolist()[0] == 1
    alone = small(tiny, "paper", **sections)
    alone.optimizer.learning_rate = 3e-3
    loop.train(alone, tiny_records, tmp_path / "alone")
    assert_close_rows(history(tmp_path / "alone"), [row | {"replica": 0} for row in moving])


def test_failed_replica_stops_and_the_others_continue(tiny, tiny_records, tmp_path, capsys):
    config = small(tiny)
    config.replicas.sweep.optimizer__l2 = (1e38, 0.01)
    loop.train(config, tiny_records, tmp_path / "run")
    assert [(row["epoch"], row["replica"]) for row in history(tmp_path / "run")] == [
        (1, 0),
        (1, 1),
        (2, 1),
    ]
    assert "Replica 0 (seed 0, fold 0, optimizer.l2=1e+38) is stopped" in capsys.readouterr().out
    results = test_set.evaluate(config, tiny_records, tmp_path / "run")
    assert [r["chosen"] for r in results["replicas"]] == [False, True]
    assert results["replicas"][0]["val"] is None and results["replicas"][0]["uar"] is None
    assert trained_model.load(tmp_path / "run").numbers == (1,)
    assert finished_run.load(tmp_path / "run").results["n_test"] == results["n_test"]
    rows = (tmp_path / "run" / "predictions.csv").read_text().splitlines()[1:]
    assert {row.split(",")[0] for row in rows} == {"1"}
    failures = "1 of 2 trainings failed (seed 0, fold 0, optimizer.l2=1e+38)"
    assert f"{failures} and are left out" in capsys.readouterr().out
    run_report.write(tmp_path / "run")
    page = (tmp_path / "run" / "report" / "report.md").read_text()
    assert f"{failures}: a loss or a weight was not finite" in page
    text = (tmp_path / "run" / "results.json").read_text()
    assert json.loads(text)["settings"][0]["val"]["mean"] is None


def test_run_fails_once_the_last_replica_fails_in_a_later_epoch(tiny):
    running = loop.TrainingLoop.__new__(loop.TrainingLoop)
    running._replicas = expand(small(tiny, replicas={"seeds": 2}))
    running._failed_R = np.array([True, False])
    running._trainer = running._writer = mock.Mock()
    rates, failed_R = np.full(2, 1e-3), np.array([False, True])
    with pytest.raises(UserError, match="not finite in epoch 3, on validation; lower"):
        running._report_failures(failed_R, np.array([-1, -1]), rates, 3)
    running._writer.save_best.assert_called_once()  # of the epochs before


def test_replica_with_non_finite_weights_is_left_out_everywhere(
    six, tiny_records, tmp_path, finished, made_corpus, capsys
):
    """A checkpoint of an earlier version, in which NaN weights could be the best."""
    run = shutil.copytree(finished, tmp_path / "run")
    weights, metadata = checkpoints.load_best(run)
    poisoned = jax.tree.map(lambda leaf: leaf.at[1].set(jnp.nan), weights["params"])
    best = Best(poisoned, weights["batch_stats"], weights["value"], weights["epoch"])
    normalisation = Normalisation(**weights["normalisation"])
    with checkpoints.Writer(run, metadata) as writer:
        writer.save_best(types.SimpleNamespace(best=best, normalisation=normalisation))
    results = test_set.evaluate(six(), tiny_records, run)
    assert [r["chosen"] for r in results["replicas"]] == [True, False, *[True] * 4]
    assert finished_run.failures(results) == "1 of 6 trainings failed (seed 1, fold 0)"
    others = [r["accuracy"] for r in results["replicas"] if r["replica"] != 1]
    assert results["accuracy"] == pytest.approx(np.mean(others))
    assert trained_model.load(run).numbers == (0, 2, 3, 4, 5)
    predict.main([str(next(made_corpus.rglob("*.wav"))), f"--workdir={run}"])
    assert "left out, since its training failed: seed 1, fold 0" in capsys.readouterr().err
    comparison = compare([finished_run.load(run)])
    assert comparison["runs"][0]["n_replicas"] == 5
    config = six()
    config.init_from = str(run)
    with pytest.raises(UserError, match="no finite weights of seed 1, fold 0, whose training"):
        loop.train(config, tiny_records, tmp_path / "second")


def test_run_fails_if_all_replicas_fail(tiny, tiny_records, tmp_path):
    config = small(tiny, replicas={"seeds": 2}, optimizer={"l2": 1e38})
    with pytest.raises(UserError, match="not finite in epoch 1, step 1; lower optimizer.learning"):
        loop.train(config, tiny_records, tmp_path / "run")


def test_replicas_at_once_are_limited_by_memory(six, tiny_records, tmp_path, monkeypatch, capsys):
    calls = []

    def with_little_memory(layout, bytes_per_replica, free_bytes):
        calls.append((bytes_per_replica, free_bytes))
        return replicas_that_fit(layout, bytes_per_replica, 2.6 * bytes_per_replica)

    replicas_that_fit = mesh.replicas_that_fit
    monkeypatch.setattr(mesh, "replicas_that_fit", with_little_memory)
    config = six(replicas={"seeds": 2, "strategy": "vmap"})
    config.train.epochs = 1
    loop.train(config, tiny_records, tmp_path / "run")
    ((bytes_per_replica, free_bytes),) = calls
    assert 0 < bytes_per_replica < free_bytes
    assert "6 replicas, 2 at once (strategy vmap)" in capsys.readouterr().out


def test_result_is_of_the_setting_that_is_best_on_validation(tiny, tiny_records, tmp_path):
    config = small(tiny, replicas={"seeds": 2}, train={"monitor": "loss"})
    config.replicas.sweep.optimizer__learning_rate = (0.0, 1e-2)
    loop.train(config, tiny_records, tmp_path / "run")
    results = test_set.evaluate(config, tiny_records, tmp_path / "run")
    by_setting = [entry["val"]["mean"] for entry in results["settings"]]
    best_setting = results["settings"][int(np.argmin(by_setting))]
    assert best_setting["chosen"] and sum(e["chosen"] for e in results["settings"]) == 1
    chosen = [r for r in results["replicas"] if r["chosen"]]
    assert [r["setting"] for r in chosen] == [best_setting["setting"]] * 2
    assert results["accuracy"] == pytest.approx(np.mean([r["accuracy"] for r in chosen]))
    assert results["best_epoch"] == chosen[0]["best_epoch"]


def test_warm_start_uses_the_same_seed_and_fold(six, tiny_records, tmp_path, finished):
    config = six(optimizer={"learning_rate": 0.0})
    config.init_from = str(finished)
    config.train.epochs = 1
    loop.train(config, tiny_records, tmp_path / "second")
    params = [checkpoints.load_best(w)[0]["params"] for w in (finished, tmp_path / "second")]
    for a, b in zip(*map(jax.tree.leaves, params), strict=True):
        np.testing.assert_array_equal(a, b)
    config.replicas.seeds = 3
    with pytest.raises(UserError, match="has no replicas of seed 2, fold 0"):
        loop.train(config, tiny_records, tmp_path / "third")


def test_warm_start_of_all_folds_from_one_is_a_leak(six, tiny, tiny_records, tmp_path):
    first = small(tiny)
    first.train.epochs = 1
    loop.train(first, tiny_records, tmp_path / "first")
    config = six()
    config.init_from = str(tmp_path / "first")
    with pytest.raises(LeakageError, match="a test clip of this run"):
        loop.train(config, tiny_records, tmp_path / "second")
