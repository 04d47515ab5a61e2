"""What training aims at: labels, votes or a teacher; class imbalance; the audit of a teacher."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from data_prep.prepare import recordings
from ser_jax.common.errors import UserError
from ser_jax.data import targets
from ser_jax.data.examples import shuffled_batches
from ser_jax.data.leakage import Heard, LeakageError, alias
from ser_jax.data.records import open_records
from ser_jax.data.targets import Lessons
from ser_jax.evaluate import test_set
from ser_jax.export import __main__ as export
from ser_jax.predict import rows, teaching
from ser_jax.predict.predictor import Predictor
from ser_jax.train import checkpoints, loop, objectives, sources, trainer
from ser_jax.train.experiment import initial_states, make_experiment
from ser_jax.train.state import make_hyper


def test_votes_become_shares_and_a_clip_without_votes_has_its_label():
    target_NxC, rated_N = targets.from_votes([(1, 3, 0), (), (0, 0, 0)], [0, 2, 1], 3)
    np.testing.assert_array_equal(target_NxC, [[0.25, 0.75, 0], [0, 0, 1], [0, 1, 0]])
    assert rated_N.tolist() == [True, False, False] and target_NxC.dtype == np.float32


def test_temperature():
    probability = np.array([[0.64, 0.36, 0.0], [1.0, 0.0, 0.0]])
    np.testing.assert_allclose(targets.tempered(probability, 1.0), probability, atol=1e-6)
    np.testing.assert_allclose(
        targets.tempered(probability, 2.0), [[8 / 14, 6 / 14, 0], [1, 0, 0]], atol=1e-6
    )


def test_focal_loss_equals_its_definition():
    logits, target = jnp.array([[1.0, 0.0], [0.2, 0.9]]), jnp.array([[1.0, 0.0], [0.3, 0.7]])
    hyper = make_hyper(
        learning_rate=0,
        min_learning_rate=0,
        l2=0,
        dropout=0,
        label_smoothing=0,
        class_weight_C=np.array([1.0, 2.0]),
    )
    mask = jnp.array([True, True])
    found = objectives.cross_entropy(logits, target, mask, hyper, 2.0)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    weight = (target * np.array([1.0, 2.0])).sum(1)
    assert found == pytest.approx(
        float((weight * (target * (1 - p) ** 2 * -np.log(p)).sum(1)).mean()), rel=1e-6
    )
    assert found < objectives.cross_entropy(logits, target, mask, hyper)


def test_balanced_sampling_has_as_many_of_each_class():
    label_N = np.array([0] * 40 + [1] * 5 + [2] * 13)
    example_N = 100 + np.arange(58)
    order_SxB = shuffled_batches(example_N, 16, 1, 2, label_N)
    order = order_SxB[order_SxB >= 0]
    count_C = np.bincount(label_N[order - 100])
    assert len(order) == 58 and count_C.max() - count_C.min() <= 1
    assert len(np.unique(order[label_N[order - 100] == 0])) == count_C[0]  # none twice
    rare = np.bincount(order - 100)[label_N == 1]
    assert rare.max() - rare.min() <= 1
    np.testing.assert_array_equal(order_SxB, shuffled_batches(example_N, 16, 1, 2, label_N))
    assert (order_SxB != shuffled_batches(example_N, 16, 1, 3, label_N)).any()


def test_an_imbalanced_run_draws_and_weighs_as_it_is_told(
    tiny, tiny_records, tmp_path, monkeypatch
):
    config, steps = tiny(), []
    config.train.sampling, config.train.focal_gamma = "balanced", 2.0
    make = trainer._train_step

    class Enough(Exception):  # before anything is compiled
        pass

    def stop(orders):
        raise Enough(orders)

    monkeypatch.setattr(trainer, "_train_step", lambda *a: steps.append(a) or make(*a))
    monkeypatch.setattr(loop, "stack_batches", stop)
    with pytest.raises(Enough) as stopped:
        loop.train(config, tiny_records, tmp_path / "run")
    ((order_SxB,),) = stopped.value.args
    assert steps[0][-1] == 2.0
    label_N = make_experiment(config, open_records(tiny_records)).examples.label_N
    count_C = np.bincount(label_N[order_SxB[order_SxB >= 0]])
    assert count_C.max() - count_C.min() <= 1


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"targets": "vote"}, "train.targets='vote' is unknown; use one of labels, votes, teacher"),
        ({"sampling": "even"}, "train.sampling='even' is unknown"),
        ({"targets": "teacher"}, "give both or neither"),
        ({"teacher": "runs/first"}, "give both or neither"),
        ({"teacher_temperature": 0.0}, "teacher_temperature=0.0 must be above 0"),
        ({"focal_gamma": -1.0}, "focal_gamma=-1.0 must be 0 or more"),
    ],
)
def test_an_invalid_objective_is_one_sentence(tiny, tiny_records, changes, sentence):
    config = tiny()
    config.train.update(changes)
    with pytest.raises(UserError, match=sentence):
        make_experiment(config, open_records(tiny_records))


def test_votes_are_aimed_at(tiny, tiny_records, capsys):
    config = tiny()
    config.train.targets = "votes"
    silent = make_experiment(config, open_records(tiny_records))
    with pytest.raises(UserError, match="needs listeners' votes, and synthetic voices .* has none"):
        sources.targets_of(silent, None)
    votes = ((0, 1, 3, 0, 0, 0), *[()] * (len(silent.records.clips.ids) - 1))
    voted = dataclasses.replace(silent, records=dataclasses.replace(silent.records, votes=votes))
    (state,) = initial_states(voted, sources.targets_of(voted, None))
    np.testing.assert_array_equal(state.target_NxC[0], [0, 0.25, 0.75, 0, 0, 0])
    assert "votes of 1 of 72 clips; the other 71 have their label" in capsys.readouterr().out


@pytest.fixture(scope="module")
def teacher(tiny, tiny_records, tmp_path_factory):
    """Two trained seeds."""
    config = tiny()
    config.replicas.seeds, config.train.epochs = 2, 2
    workdir = tmp_path_factory.mktemp("teacher") / "run"
    loop.train(config, tiny_records, workdir)
    return workdir


@pytest.fixture
def taught(tiny, teacher, tiny_records, tmp_path):
    """A config with this teacher, and records of its own place, of which nobody has asked."""
    config = tiny()
    config.train.targets, config.train.teacher = "teacher", str(teacher)
    config.train.epochs = 2
    own = tmp_path / "records" / "feature_records" / tiny_records.parent.name
    own.mkdir(parents=True)
    (own / tiny_records.name).symlink_to(tiny_records)
    return config, own / tiny_records.name


def test_a_teacher_is_asked_once_and_its_probabilities_are_aimed_at(
    taught, teacher, tmp_path, monkeypatch, capsys
):
    config, records = taught
    config.train.teacher_temperature, config.train.batch_size = 2.0, 20  # the last is padded
    clips = recordings(config)
    with pytest.raises(UserError, match="launch.py does it before the training"):
        loop.train(config, records, tmp_path / "student")
    path = teaching.teach(config, records, clips)
    assert "Asking the teacher about" in capsys.readouterr().out
    monkeypatch.delattr(teaching, "predict_files")
    assert teaching.teach(config, records, None) == path  # not asked again
    found = make_experiment(config, open_records(records))
    (state,) = initial_states(found, sources.targets_of(found, sources.lessons_of(found)))
    predictor, split = Predictor(teacher), found.splits[0]
    for row in split.train[:3]:
        recording = rows.waveform.decode(clips[found.records.clips.ids[row]].path)
        answer = predictor(recording.cut_out(rows.WHOLE, 16_000), 16_000)
        expected = targets.tempered(answer.probability_C, 2.0)
        np.testing.assert_allclose(state.target_NxC[row], expected, atol=1e-5)
    assert not state.target_NxC[split.test].any()  # of them nobody may learn

    workdir = tmp_path / "student"
    results = test_set.evaluate(config, records, workdir, loop.train(config, records, workdir))
    assert results["targets"] == f"{teacher.name}, at temperature 2"
    losses = [json.loads(line)["train/loss"] for line in (workdir / "metrics.jsonl").open()]
    assert np.isfinite(losses).all()
    assert json.loads((workdir / "config.json").read_text())["teacher_sha256"]
    # What the teacher has heard counts as heard by its pupil.
    heard, own = sources.heard_by(workdir), json.loads((workdir / sources.TAUGHT).read_text())
    more = json.loads((workdir / "split.json").read_text())["0"]["test"].popitem()[1]
    own["0"]["clips"].append(more)
    (workdir / sources.TAUGHT).write_text(json.dumps(own))
    assert sources.heard_by(workdir)[0].clips - heard[0].clips == {more}


def test_a_taught_run_resumes_to_the_bit(taught, tmp_path):
    config, records = taught
    teaching.teach(config, records, recordings(config))
    loop.train(config, records, tmp_path / "whole")
    config.train.epochs = 1
    loop.train(config, records, tmp_path / "parts")
    config.train.epochs = 2
    loop.train(config, records, tmp_path / "parts")
    a, b = (checkpoints.load_best(tmp_path / name)[0]["params"] for name in ("whole", "parts"))
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_an_interrupted_teacher_goes_on(taught, monkeypatch):
    config, records = taught
    asked = []

    def predict(predictor, files, windowing, whole=teaching.predict_files):
        asked.append(len(files))
        for number, part in enumerate(whole(predictor, files, windowing)):
            if number == 1 and len(asked) == 1:
                raise KeyboardInterrupt
            yield part

    monkeypatch.setattr(rows, "_SPANS_PER_CHUNK", 16)
    monkeypatch.setattr(teaching, "predict_files", predict)
    with pytest.raises(KeyboardInterrupt):
        teaching.teach(config, records, recordings(config))
    path = teaching.teach(config, records, recordings(config))
    assert 0 < asked[1] < asked[0]
    found = make_experiment(config, open_records(records))
    of_train = Lessons.load(path).probability_RxNxC[:, found.splits[0].train]
    assert np.isfinite(of_train).all()


def test_an_exported_file_teaches_the_same(taught, teacher, tmp_path, capsys):
    config, records = taught
    zipped = tmp_path / "emotion.zip"
    export.main([f"--workdir={teacher}", f"--out={zipped}"])
    of_run = Lessons.load(teaching.teach(config, records, recordings(config)))
    config.train.teacher = str(zipped)
    of_file = Lessons.load(teaching.teach(config, records, recordings(config)))
    np.testing.assert_allclose(of_file.probability_RxNxC, of_run.probability_RxNxC, atol=1e-5)
    assert of_file.heard == of_run.heard and of_file.labels == of_run.labels
    speaker = open_records(records).clips.speakers[0]
    assert speaker not in str(of_file.heard)  # no names in a file that is passed on

    config.split.fold = "1"
    with pytest.raises(LeakageError, match=r"emotion.zip, or .* was trained on .* a test clip"):
        teaching.teach(config, records, recordings(config))


def test_a_teacher_that_does_not_fit_is_refused_before_it_is_asked(
    taught, teacher, tiny, tmp_path, monkeypatch
):
    config, records = taught
    monkeypatch.delattr(teaching, "predict_files")
    config.split.fold = "1"
    with pytest.raises(LeakageError, match="a test clip of this run"):
        teaching.teach(config, records, recordings(config))
    config.split.fold = "0"
    with pytest.raises(UserError, match="the teacher has to hear .* clips; set --config.corpus.ro"):
        teaching.teach(config, records, None)
    config.train.teacher = str(tmp_path / "nothing")
    with pytest.raises(UserError, match="nothing does not exist; give the workdir"):
        teaching.teach(config, records, None)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UserError, match="train.teacher=.*nothing is no trained run"):
        teaching.teach(config, records, None)
    config.train.teacher = str(teacher)
    path = targets.lessons_file(records, checkpoints.source_sha256(teacher))
    path.parent.mkdir()
    path.write_bytes(b"PK")
    with pytest.raises(UserError, match="is damaged; delete it"):
        teaching.teach(config, records, recordings(config))


def test_each_fold_is_taught_by_its_own_replicas():
    heard = {0: Heard(frozenset({"a"})), 1: Heard(frozenset({"b"}))}
    probability_RxNxC = np.arange(3.0)[:, None, None] * np.ones((3, 2, 2))
    lessons = Lessons(("x", "y"), ("1", "2"), np.array([0, 1, 1]), probability_RxNxC, heard)
    assert lessons.of_fold(1)[0].tolist() == [False, True, True]
    assert lessons.of_fold(1)[1].clips == {"b"} and (lessons.target(1) == 1.5).all()
    with pytest.raises(UserError, match="has the folds 0, 1, and none to teach fold 2"):
        lessons.of_fold(2)
    single = dataclasses.replace(lessons, fold_R=np.zeros(3, int))
    assert single.of_fold(2)[0].all()  # and the audit decides


def test_lessons_are_read_as_they_were_written(tmp_path):
    heard = {3: Heard(frozenset({"a"}), frozenset({alias("voices", "1001")}), frozenset())}
    lessons = Lessons(("x",), ("1", "é"), np.array([3]), np.full((1, 2, 1), np.nan), heard)
    lessons.save(tmp_path / "new" / "lessons.npz")
    found = Lessons.load(tmp_path / "new" / "lessons.npz")
    assert (found.labels, found.ids, found.heard) == (lessons.labels, lessons.ids, heard)
    np.testing.assert_array_equal(found.probability_RxNxC, lessons.probability_RxNxC)


def test_the_baseline_has_no_objective_to_change(tiny, tiny_records):
    from configs import svm

    config = svm.get_config("demo")
    config.train.focal_gamma = 2.0
    with pytest.raises(UserError, match="do not apply to a model that is fitted in one go"):
        make_experiment(config, open_records(tiny_records))
