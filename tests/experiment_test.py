"""What the table shows to be wrong is refused before its audio is read; one long clip is noted."""

import dataclasses
import importlib

import numpy as np
import pytest
import soundfile

import launch
from data_prep.prepare import prepare, read_corpus
from ser_jax.common.errors import UserError
from ser_jax.data.records import open_records
from ser_jax.evaluate import test_set
from ser_jax.train import loop
from ser_jax.train.experiment import check_corpus, describe, initial_states, make_experiment

RATE = 16_000


@pytest.fixture
def config(tiny, tmp_path):
    """A config of a table of six speakers, whose files do not exist."""
    rows = [
        f"{s}{e}.wav,{e},s{s},{'train dev test'.split()[s // 2]}" for s in range(6) for e in "ab"
    ]
    (tmp_path / "corpus.csv").write_text("\n".join(["path,emotion,speaker,split", *rows]))
    config = tiny()
    config.corpus.update(name="csv", root=str(tmp_path))
    config.records_dir = str(tmp_path / "records")
    config.train.batch_size = 2
    return config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split.name": "tfds"}, "split.name=tfds is defined for CREMA-D's actors"),
        ({"split.fold": "7"}, "split.fold=7 must lie between 0 and 2"),
        ({"split.n_folds": 9}, "between 3 and the number of speakers, 6"),
        ({"split.name": "column", "split.column": "part"}, "needs a column 'part'"),
        ({"split.name": "speaker_sentence"}, "needs the sentence of each clip"),
        ({"train.batch_size": 9}, "train.batch_size=9 is larger than the training set of 8 "),
        ({"train.batch_size": 0}, "train.batch_size=0 must be 1 or more"),
        ({"corpus.emotions": ("a",)}, "the corpus has a single class"),
        ({"split.name": "random_file", "train.batch_size": 99}, "train.batch_size=99 is larger"),
        ({"split.name": "random_file", "split.test_fraction": 0.999}, "without a single clip"),
        ({"split.name": "random_file", "train.monitor": "f1"}, "train.monitor='f1' is unknown"),
        ({"replicas.sweep.train__class_weights": ("none", "equal")}, "class_weights='equal' is"),
    ],
)
def test_what_the_table_shows_is_refused_before_preparation(config, tmp_path, changes, message):
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=message):
        prepare(config, check=lambda corpus: check_corpus(config, corpus))
    assert not (tmp_path / "records").exists()


def test_swept_fields_of_a_network_are_checked_before_preparation(config):
    svm = importlib.import_module("configs.svm").get_config()
    svm.corpus, svm.split, svm.train.batch_size = config.corpus, config.split, 2
    svm.replicas.sweep.model__cost = (1.0, -1.0)
    with pytest.raises(UserError, match=r"model\.cost=-1\.0 must be above 0"):
        check_corpus(svm, read_corpus(config))


@pytest.mark.parametrize("protocol", ["speaker_kfold", "column", "random_file"])
def test_a_sound_table_passes(config, protocol):
    config.split.name = protocol
    for config.split.seed in range(20):  # some shuffles leave a set without a class
        check_corpus(config, read_corpus(config))


def test_column_split_trains_and_one_long_clip_is_noted(config, tmp_path):
    for number, utterance in enumerate(read_corpus(config).utterances):
        seconds = 6 if utterance.id == "3a" else 0.3
        samples = 0.1 * np.random.default_rng(number).standard_normal(int(RATE * seconds))
        soundfile.write(utterance.path, samples, RATE)
    config.split.name = "column"
    experiment = make_experiment(config, open_records(prepare(config)))
    (split,) = experiment.splits.values()
    assert split.unseen_speakers and [len(rows) for rows in split.parts().values()] == [4, 4, 4]
    text = describe(experiment, initial_states(experiment)[0])
    assert "NOTE: 3a has" in text and "--config.input.max_frames" in text
    config.input.max_frames = 100
    experiment = make_experiment(config, experiment.records)
    assert "NOTE" not in describe(experiment, initial_states(experiment)[0])


def test_training_and_evaluation_open_the_records_once(tiny, tiny_records, tmp_path, monkeypatch):
    config, opened = tiny(), []
    config.train.epochs = 1
    monkeypatch.setattr(launch, "prepare", lambda config: tiny_records)
    for module in (loop, test_set):
        monkeypatch.setattr(module, "open_records", lambda f: opened.append(f) or open_records(f))
    launch.run(config, tmp_path / "run", "all", is_first=False)
    assert (tmp_path / "run" / "results.json").exists() and len(opened) == 1
    launch.run(config, tmp_path / "run", "evaluate", is_first=False)
    assert len(opened) == 2


def test_clips_that_the_records_lack_are_told_before_training(tiny_experiment):
    left_out = {"a": "a.wav is silent.", "b": "b.wav is empty."}
    records = dataclasses.replace(tiny_experiment.records, left_out=left_out)
    experiment = dataclasses.replace(tiny_experiment, records=records)
    text = describe(experiment, initial_states(experiment)[0])
    assert "NOTE: 2 clips of the corpus could not be used" in text and "a.wav is silent." in text
