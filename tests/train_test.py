"""Training learns, resumes bit for bit, and refuses invalid input."""

import asyncio
import dataclasses
import json
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest
import tensorstore
from absl import logging as absl_logging

from ser_jax.common import files
from ser_jax.common.errors import Interrupted, UserError
from ser_jax.data.leakage import Heard, LeakageError, alias, audit_source
from ser_jax.data.records import open_records
from ser_jax.evaluate import test_set
from ser_jax.train import checkpoints, loop, trainer
from ser_jax.train.experiment import make_experiment

CLOCK = ("seconds", "examples_per_second")


def history(workdir: Path) -> list[dict]:
    """metrics.jsonl without the timings."""
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in CLOCK} for row in rows]


def best(workdir: Path) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(checkpoints.load_best(workdir)[0])]


def assert_same_run(first: Path, second: Path) -> None:
    """Compare the whole history and the best weights bit for bit."""
    assert history(first) == history(second)
    for a, b in zip(best(first), best(second), strict=True):
        np.testing.assert_array_equal(a, b)


def signal_at_step(step: int, number: signal.Signals):
    """Return TrainingLoop._check, preceded by a signal after step `step`."""
    check = loop.TrainingLoop._check

    def signal_and_check(self, epoch):
        if self._done == step:
            os.kill(os.getpid(), number)
        check(self, epoch)

    return signal_and_check


@pytest.fixture
def step_by_step(monkeypatch):
    """Make the host check after every step, so that a signal arrives within an epoch."""
    monkeypatch.setattr(trainer, "SECONDS_PER_CALL", 0.0)
    monkeypatch.setattr(trainer, "STEPS_PER_CHECK", 1)


@pytest.fixture(scope="module")
def finished(tiny, tiny_records, tmp_path_factory) -> Path:
    workdir = tmp_path_factory.mktemp("runs") / "finished"
    loop.train(tiny(), tiny_records, workdir)
    return workdir


@pytest.fixture
def uninterrupted(finished, tmp_path) -> Path:
    """A copy of the finished run that a test may change."""
    return shutil.copytree(finished, tmp_path / "uninterrupted")


def test_history_and_console(tiny, tiny_records, tmp_path, capsys):
    loop.train(tiny(), tiny_records, tmp_path / "run")
    rows = history(tmp_path / "run")
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert rows[-1]["train/loss"] < rows[0]["train/loss"]
    assert all(row["train/l2"] > 0 for row in rows)
    console = capsys.readouterr().out
    assert "3/3" in console and "total" in console and "speaker_kfold" in console


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_resume_equals_uninterrupted(
    tiny, tiny_records, tmp_path, uninterrupted, step_by_step, monkeypatch, number
):
    workdir = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patch.setattr(loop.TrainingLoop, "_check", signal_at_step(5, number))
        with pytest.raises(Interrupted, match="after step 5; everything is saved"):
            loop.train(tiny(), tiny_records, workdir)
    assert len(history(workdir)) == 1  # interrupted in the second epoch
    loop.train(tiny(), tiny_records, workdir)
    assert_same_run(workdir, uninterrupted)


def test_signal_in_the_last_steps_finishes_the_training_only(
    tiny, tiny_records, tmp_path, uninterrupted, monkeypatch
):
    def signal_at_the_end(self, epoch):
        if self._done == self._config.train.epochs * self._n_steps:
            os.kill(os.getpid(), signal.SIGTERM)

    workdir = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patch.setattr(loop.TrainingLoop, "_check", signal_at_the_end)
        with pytest.raises(Interrupted, match="the training is finished and saved"):
            loop.train(tiny(), tiny_records, workdir)
    assert_same_run(workdir, uninterrupted)


@pytest.mark.parametrize("key", ["dropout", "label_smoothing"])
@pytest.mark.parametrize("value", [1.0, 20.0, -0.5, float("nan")])
def test_dropout_and_smoothing_must_be_fractions(tiny, tiny_records, tmp_path, key, value):
    config = tiny()
    config.train[key] = value
    with pytest.raises(UserError, match=rf"train\.{key}={value} must be in \[0, 1\)"):
        loop.train(config, tiny_records, tmp_path / "run")


def test_out_of_memory_names_the_settings_to_lower(tiny, tiny_records, tmp_path, monkeypatch):
    def out_of_memory(self, order_RxSxB, first):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to …")

    monkeypatch.setattr(trainer.Trainer, "advance", out_of_memory)
    with pytest.raises(UserError, match="out of memory; lower replicas.at_once or train.batch_"):
        loop.train(tiny(), tiny_records, tmp_path / "run")


def test_out_of_memory_in_evaluation(tiny, tiny_records, finished, monkeypatch):
    def out_of_memory(self, groups, rows):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to …")

    monkeypatch.setattr(test_set.Evaluator, "__call__", out_of_memory)
    with pytest.raises(UserError, match="out of memory; lower evaluate.batch_size, or input.mem"):
        test_set.evaluate(tiny(), tiny_records, finished)


def test_killed_run_resumes_bit_for_bit(tiny, tiny_records, tmp_path, uninterrupted):
    workdir, config = tmp_path / "killed", tiny()
    config.train.checkpoint_seconds = 0.0
    (tmp_path / "config.json").write_text(config.to_json())
    program = f"""
import json, os, signal, sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
import conftest, train_test
from ml_collections import ConfigDict
from ser_jax.train import loop, trainer
trainer.SECONDS_PER_CALL = 0.0
loop.TrainingLoop._check = train_test.signal_at_step(5, signal.SIGKILL)
config = ConfigDict(json.loads(Path({str(tmp_path / "config.json")!r}).read_text()))
loop.train(config, Path({str(tiny_records)!r}), Path({str(workdir)!r}))
"""
    root = Path(__file__).parents[1]
    killed = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert len(history(workdir)) == 1
    assert list((workdir / "checkpoints" / "last").glob("[34]"))  # it may have cut the fourth short
    loop.train(config, tiny_records, workdir)
    assert_same_run(workdir, uninterrupted)


@pytest.mark.parametrize("behind", ["last", "best"])
def test_kill_between_the_two_saves_is_mended(tiny, tiny_records, tmp_path, uninterrupted, behind):
    workdir, config = tmp_path / "killed", tiny()
    config.train.epochs = 1
    loop.train(config, tiny_records, workdir)
    earlier = (workdir / "checkpoints").rename(tmp_path / "earlier")
    shutil.copytree(uninterrupted, workdir, dirs_exist_ok=True)
    shutil.rmtree(workdir / "checkpoints" / behind)
    shutil.copytree(earlier / behind, workdir / "checkpoints" / behind)
    loop.train(tiny(), tiny_records, workdir)
    assert_same_run(workdir, uninterrupted)
    assert len(list((workdir / "checkpoints" / "best").iterdir())) == 1


def test_unfinished_save_is_left_to_the_next_training(tiny, tiny_records, uninterrupted):
    unfinished = uninterrupted / "checkpoints" / "best" / "9.orbax-checkpoint-tmp"
    unfinished.mkdir()
    before = best(uninterrupted)  # a reader, as beside a training
    assert unfinished.is_dir()
    loop.train(tiny(), tiny_records, uninterrupted)
    assert not unfinished.is_dir()
    for a, b in zip(best(uninterrupted), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("seconds", "saved"),
    [(0.0, range(1, 10)), (20.0, (2, 4, 6, 8, 9)), (1e6, (9,))],
)
def test_checkpoints_are_saved_by_elapsed_time(
    tiny, tiny_records, tmp_path, uninterrupted, step_by_step, monkeypatch, seconds, saved
):
    config, steps, clock = tiny(), [], [0.0]
    config.train.checkpoint_seconds = seconds
    advance, begin = trainer.Trainer.advance, checkpoints.Writer._begin

    def ten_seconds_a_step(self, order_RxSxB, first):
        for n in advance(self, order_RxSxB, first):
            clock[0] += 10.0 * n
            yield n

    def recorded(self, checkpointer, number, *arguments, **more):
        if checkpointer is self._last:
            steps.append(number)
        begin(self, checkpointer, number, *arguments, **more)

    time = types.SimpleNamespace(monotonic=lambda: clock[0], perf_counter=lambda: clock[0])
    monkeypatch.setattr(loop, "time", time)
    monkeypatch.setattr(trainer.Trainer, "advance", ten_seconds_a_step)
    monkeypatch.setattr(checkpoints.Writer, "_begin", recorded)
    loop.train(config, tiny_records, tmp_path / "run")
    assert steps == [*saved]
    assert_same_run(tmp_path / "run", uninterrupted)


def test_line_cut_short_by_a_kill_is_dropped_from_the_log(tiny, tiny_records, uninterrupted):
    before = history(uninterrupted)
    with (uninterrupted / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4')
    loop.train(tiny(), tiny_records, uninterrupted)
    assert history(uninterrupted) == before


def test_streamed_equals_resident(tiny, tiny_records, tmp_path, uninterrupted):
    config = tiny()
    config.input.memory_limit_gb = 0.0
    loop.train(config, tiny_records, tmp_path / "streamed")
    for a, b in zip(history(tmp_path / "streamed"), history(uninterrupted), strict=True):
        assert a == pytest.approx(b, rel=1e-4)


def test_early_stopping_ends_the_run_for_good(tiny, tiny_records, tmp_path, capsys):
    config = tiny()
    config.train.epochs = 9
    config.train.stopping_patience = 1
    config.optimizer.learning_rate = 0.0  # no epoch improves on the first
    loop.train(config, tiny_records, tmp_path / "run")
    assert len(history(tmp_path / "run")) == 2
    loop.train(config, tiny_records, tmp_path / "run")
    assert len(history(tmp_path / "run")) == 2
    assert "early stopping" in capsys.readouterr().out


def test_other_config_is_refused_naming_the_differing_keys(tiny, tiny_records, uninterrupted):
    config, before = tiny(), history(uninterrupted)
    config.optimizer.l2 = 0.5
    with pytest.raises(UserError, match=r"optimizer\.l2 was 0\.01 and is 0\.5"):
        loop.train(config, tiny_records, uninterrupted)
    assert history(uninterrupted) == before


def test_run_can_be_extended(tiny, tiny_records, tmp_path, uninterrupted):
    config = tiny()
    config.train.epochs = 2
    loop.train(config, tiny_records, tmp_path / "longer")
    config.train.epochs = 3
    loop.train(config, tiny_records, tmp_path / "longer")
    assert_same_run(tmp_path / "longer", uninterrupted)
    assert files.read_json(tmp_path / "longer" / "config.json")["train"]["epochs"] == 3


def test_fewer_epochs_than_trained_are_refused(tiny, tiny_records, uninterrupted):
    config, before = tiny(), (uninterrupted / "config.json").read_bytes()
    config.train.epochs = 2
    for run in (loop.train, test_set.evaluate):
        with pytest.raises(UserError, match="has trained 3 epochs, and train.epochs=2 is less"):
            run(config, tiny_records, uninterrupted)
    config.train.epochs = 9
    test_set.evaluate(config, tiny_records, uninterrupted)
    assert (uninterrupted / "config.json").read_bytes() == before  # evaluation trains no epoch


def test_other_initial_weights_are_refused(tiny, tiny_records, tmp_path, uninterrupted):
    config = tiny()
    config.init_from = str(uninterrupted)
    with pytest.raises(UserError, match="init_from was '' and is"):
        loop.train(config, tiny_records, uninterrupted)
    loop.train(config, tiny_records, tmp_path / "second")
    moved = shutil.copytree(uninterrupted, tmp_path / "moved")
    config.init_from = str(moved)
    loop.train(config, tiny_records, tmp_path / "second")  # the same weights elsewhere
    config.init_from = str(tmp_path / "second")
    before = (tmp_path / "second" / "config.json").read_bytes()
    for run in (loop.train, test_set.evaluate):
        with pytest.raises(UserError, match="init_from_sha256 was"):
            run(config, tiny_records, tmp_path / "second")
    config.init_from = ""
    with pytest.raises(UserError, match="init_from_sha256 was '.*' and is None"):
        loop.train(config, tiny_records, tmp_path / "second")
    assert (tmp_path / "second" / "config.json").read_bytes() == before


def test_title_is_the_config_s_own(tiny_experiment):
    config = tiny_experiment.config.copy_and_resolve_references()
    assert tiny_experiment.corpus == tiny_experiment.records.corpus
    for root, title in (("clips/mine.csv", "mine"), ("clips", "corpus")):
        config.corpus.update(name="csv", root=root)
        assert dataclasses.replace(tiny_experiment, config=config).corpus == title
    config.corpus.title = "My clips"
    assert dataclasses.replace(tiny_experiment, config=config).corpus == "My clips"


def test_non_finite_loss_is_an_error_with_advice(tiny, tiny_records, tmp_path):
    config = tiny()
    config.optimizer.l2 = 1e38
    with pytest.raises(UserError, match="not finite in epoch 1, step 1; lower optimizer.learning"):
        loop.train(config, tiny_records, tmp_path / "run")


def test_batch_larger_than_training_set_is_refused(tiny, tiny_records, tmp_path):
    config = tiny()
    config.train.batch_size = 10_000
    with pytest.raises(UserError, match="batch_size=10000 is larger than the training set of"):
        loop.train(config, tiny_records, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_second_training_in_a_workdir_is_refused(tiny, tiny_records, tmp_path, monkeypatch):
    def train_again(self):
        with pytest.raises(UserError, match=f"another training runs in {tmp_path / 'run'}; "):
            loop.train(tiny(), tiny_records, tmp_path / "run")
        raise Interrupted("done")

    monkeypatch.setattr(loop.TrainingLoop, "run", train_again)
    with pytest.raises(Interrupted, match="done"):
        loop.train(tiny(), tiny_records, tmp_path / "run")


@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_full_disk_names_the_checkpoint(
    tiny, tiny_records, tmp_path, step_by_step, monkeypatch, capfd, seconds
):
    """The save fails in the background: files are limited to a kilobyte once it has begun."""
    save = checkpoints.ocp.training.Checkpointer.save_async
    before, config = resource.getrlimit(resource.RLIMIT_FSIZE), tiny()
    config.train.checkpoint_seconds = seconds

    def save_on_a_full_disk(self, *arguments, **more):
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
        return save(self, *arguments, **more)

    monkeypatch.setattr(checkpoints.ocp.training.Checkpointer, "save_async", save_on_a_full_disk)
    try:
        with pytest.raises(
            UserError, match=r"cannot write .*/checkpoints/\w+ \(File too large\); "
        ):
            loop.train(config, tiny_records, tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "Traceback" not in capfd.readouterr().err


def test_threads_of_orbax_that_fail_after_the_block_say_nothing(tmp_path, caplog):
    with checkpoints.Writer(tmp_path, {}):
        pass
    logger = absl_logging.get_absl_logger()
    for path in (checkpoints.ocp.__file__, "/somewhere/else.py"):
        logger.handle(logger.makeRecord("absl", logging.ERROR, path, 1, path, (), None))
    assert caplog.messages == ["/somewhere/else.py"]


def test_writes_that_end_after_a_failed_save_say_nothing(tmp_path, monkeypatch):
    """Orbax closes its event loop at the first failure, before TensorStore's other writes end."""
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: told.append(unraisable.exc_value))
    with checkpoints.Writer(tmp_path, {}):
        pass
    late, loop = tensorstore.Promise.new(), asyncio.new_event_loop()

    async def wait():
        await late[1]

    task = loop.create_task(wait())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    late[0].set_result(None)
    assert not told
    sys.unraisablehook(types.SimpleNamespace(object=None, exc_value=RuntimeError("another")))
    assert [str(error) for error in told] == ["another"]
    task._log_destroy_pending = False


def test_best_weights_before_a_failure_are_saved(tiny, tiny_records, tmp_path, monkeypatch):
    run_steps = loop.TrainingLoop._run_steps

    def run_steps_to_nan(self, epoch):
        run_steps(self, epoch)
        if epoch == 2:
            (group,) = self._trainer._groups
            nan = jax.tree.map(lambda leaf: leaf * np.nan, group.params)
            self._trainer._groups = [group.replace(params=nan)]

    monkeypatch.setattr(loop.TrainingLoop, "_run_steps", run_steps_to_nan)
    for _ in range(2):  # a second start fails in the same way
        with pytest.raises(UserError, match="not finite in epoch 2, on validation"):
            loop.train(tiny(), tiny_records, tmp_path / "run")
        assert checkpoints.load_best(tmp_path / "run")[0]["epoch"].tolist() == [1]


def test_unwritable_workdir_is_refused(tiny, tiny_records, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot write"):
        loop.train(tiny(), tiny_records, tmp_path / "file" / "run")


@pytest.mark.parametrize("which", ["last", "best"])
def test_damaged_checkpoint_is_named(tiny, tiny_records, uninterrupted, which):
    for path in (uninterrupted / "checkpoints" / which).rglob("*"):
        if path.is_file() and ("/d/" in str(path) or path.name == "manifest.ocdbt"):
            path.write_bytes(path.read_bytes()[:7])
    with pytest.raises(UserError, match=f"checkpoints/{which}/.* is damaged"):
        if which == "last":
            loop.train(tiny(), tiny_records, uninterrupted)
        else:
            test_set.evaluate(tiny(), tiny_records, uninterrupted)


def test_damaged_record_is_named(tiny, tiny_records, tmp_path):
    folder = tmp_path / "feature_records" / tiny_records.parent.name / tiny_records.name
    shutil.copytree(tiny_records, folder)
    for path in folder.glob("*-noise.array_record*"):
        content = bytearray(path.read_bytes())
        content[len(content) // 2 :][:64] = bytes(64)
        path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="damaged record|no readable records"):
        loop.train(tiny(), folder, tmp_path / "run")


def test_warm_start_uses_the_best_weights(tiny, tiny_records, tmp_path, uninterrupted):
    config = tiny()
    config.init_from = str(uninterrupted)
    config.train.epochs = 1
    config.optimizer.learning_rate = 0.0
    loop.train(config, tiny_records, tmp_path / "second")
    params = [checkpoints.load_best(w)[0]["params"] for w in (uninterrupted, tmp_path / "second")]
    for a, b in zip(*map(jax.tree.leaves, params), strict=True):
        np.testing.assert_array_equal(a, b)


def test_warm_start_on_another_split_is_a_leak(tiny, tiny_records, tmp_path, uninterrupted):
    config = tiny()
    config.init_from = str(uninterrupted)
    config.split.fold = "1"
    with pytest.raises(LeakageError, match="a test clip of this run"):
        loop.train(config, tiny_records, tmp_path / "second")


def test_warm_start_is_audited_against_the_source_s_own_source(
    tiny, tiny_records, tmp_path, uninterrupted, capsys
):
    config = tiny()
    config.init_from, config.train.epochs = str(uninterrupted), 1
    loop.train(config, tiny_records, tmp_path / "second")
    split = files.read_json(uninterrupted / "split.json")
    split["0"]["train"] |= dict([split["0"]["test"].popitem()])  # the first run had another split
    files.write_json(uninterrupted / "split.json", split)
    config.init_from = str(tmp_path / "second")
    with pytest.raises(
        LeakageError, match="second, or what it learnt from, was trained on .* test clip"
    ):
        loop.train(config, tiny_records, tmp_path / "third")
    shutil.rmtree(uninterrupted)
    loop.train(config, tiny_records, tmp_path / "third")
    assert f"started from {uninterrupted}, which is not there" in capsys.readouterr().out


@pytest.mark.parametrize("is_recorded", [True, False])
def test_warm_start_that_has_heard_a_test_speaker_is_a_leak(tiny, tiny_records, is_recorded):
    """The source shares no test clip, but other clips of a test speaker, or only their names."""
    experiment = make_experiment(tiny(), open_records(tiny_records))
    (split,), clips = experiment.splits.values(), experiment.records.clips
    speaker = clips.speakers[split.test[0]]
    of_speaker = [row for row in split.test if clips.speakers[row] == speaker]
    less = dataclasses.replace(split, test=np.setdiff1d(split.test, of_speaker[:1]))
    corpus, shared = experiment.corpus, {clips.sha256[of_speaker[0]]}

    def heard(**names) -> Heard:
        aliases = {noun: {alias(corpus, name)} for noun, name in names.items()}
        return Heard.from_json(aliases if is_recorded else {"clips": shared})

    def audit(split, heard, title=corpus):
        audit_source(split, clips, title, heard, "source")

    with pytest.raises(LeakageError, match=f"trained on the speaker {speaker}, which"):
        audit(less, heard(speakers=speaker))
    audit(less, Heard())
    if is_recorded:  # of another corpus equal names mean nothing
        audit(less, heard(speakers=speaker), "other voices")
    seen = dataclasses.replace(less, unseen_speakers=False)
    audit(seen, heard(speakers=speaker))
    sentence = clips.sentences[less.test[0]]
    by_sentence = dataclasses.replace(seen, unseen_sentences=True)
    with pytest.raises(LeakageError, match="trained on the sentence"):
        audit(by_sentence, heard(sentences=sentence))


def test_evaluation_requires_a_trained_model(tiny, tiny_records, tmp_path):
    with pytest.raises(UserError, match="no trained model; run with --mode=train"):
        test_set.evaluate(tiny(), tiny_records, tmp_path / "nothing")


def test_damaged_json_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="config.json cannot be read"):
        files.read_json(tmp_path / "config.json")
