"""ser_jax.common.config: numbers outside their range, unknown keys, "~"; each is one sentence."""

import sys
from pathlib import Path

import pytest
from absl import flags
from ml_collections import config_flags

from configs import cnn2d, default, study
from data_prep.augmentation.views import Augmentation
from ser_jax.common import cli
from ser_jax.common.config import check, flatten
from ser_jax.common.errors import UserError
from ser_jax.study import runs

FILE = Path(__file__).parents[1] / "configs" / "cnn2d.py"
# Numbers that other code checks, where they are used.
ELSEWHERE = (
    *("features.", "augmentation.", "corpus.made.", "model."),
    *("split.n_folds", "optimizer.plateau_"),
)


def test_every_number_of_the_config_has_a_range():
    config = default.get_config()
    for key, value in flatten(config.to_dict()).items():
        if type(value) in (int, float) and not key.startswith(ELSEWHERE):
            changed = config.copy_and_resolve_references()
            changed.update_from_flattened_dict({key: type(value)(-1)})
            with pytest.raises(UserError, match=rf"{key}=-1(\.0)? must be "):
                check(changed)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("seed", 2**32, "seed=4294967296 must be from 0 to 4294967295"),
        ("features.top_db", -3.0, "features.top_db=-3.0 must be 0 or more"),
        ("optimizer.plateau_cooldown", -1, "plateau_cooldown=-1 must be 0 or more"),
        ("optimizer.l2", float("nan"), "optimizer.l2=nan must be 0 or more"),
        ("split.test_fraction", 1.0, "split.test_fraction=1.0 must be between 0 and 1"),
        ("train.dropout", 1.0, r"train.dropout=1.0 must be in \[0, 1\)"),
        ("replicas.seeds", 0, "replicas.seeds=0 must be 1 or more"),
        ("replicas.sweep.optimizer__l2", (0.1, -1.0), "sweep.optimizer__l2=-1.0 must be 0 or more"),
    ],
)
def test_numbers_outside_their_range(key, value, message):
    config = default.get_config()
    config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=message):
        check(config)


def test_a_study_names_the_run():
    config = study.get_config()
    config.runs.cnn2d_seen_again.train.epochs = 0
    with pytest.raises(UserError, match="runs.cnn2d_seen_again: train.epochs=0 must be 1 or more"):
        runs.expand(config, Path("study"))


def test_a_second_training_needs_a_first_one():
    config = cnn2d.get_config("librosa,retrain")
    with pytest.raises(UserError, match="cnn2d-librosa-retrain is a second training; give"):
        check(config)
    config.init_from = "runs/first"
    check(config)


def test_views_need_finite_limits():
    with pytest.raises(UserError, match=r"augmentation.snr_db must be \(lowest, highest\)"):
        Augmentation(snr_db=(float("nan"), 3.0))


def parse(monkeypatch, *arguments):
    argv = ["launch.py", f"--config={FILE}", *arguments]
    monkeypatch.setattr(sys, "argv", argv)
    values = flags.FlagValues()
    config = config_flags.DEFINE_config_file("config", flag_values=values)
    cli.parser(values, config)(argv)
    return config.value


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("foo.bar", "config.foo.bar is unknown: config has no foo; it has augmentation, corpus, "),
        (
            "optimizer.learning_rat",
            "config.optimizer has no learning_rat; did you mean optimizer.learning_rate",
        ),
        ("optimiser.l2", "config has no optimiser; did you mean optimizer.l2"),
        ("epochs", "config has no epochs; did you mean train.epochs"),
        ("report.zzz", "config.report has no zzz; it has clips_a_cell."),
        ("seed.x.y.z.zz", "config.seed has no x; it has no keys."),
    ],
)
def test_an_unknown_key_is_named_with_its_section_and_similar_ones(monkeypatch, key, message):
    with pytest.raises(SystemExit) as stopped:
        parse(monkeypatch, "--config.seed=1", f"--config.{key}=3")
    assert message in stopped.value.code


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a config as --config=configs/cnn2d.py"),
        (["--config="], "give a config as"),
        (["--config", "configs/none.py"], "there is no config configs/none.py"),
        (["--config=configs/none.py:demo"], "there is no config configs/none.py:demo"),
        (["--config", str(FILE), "--config.foo=1"], "config.foo is unknown"),
    ],
)
def test_a_missing_config_is_told(monkeypatch, arguments, message):
    argv = ["launch.py", *arguments]
    monkeypatch.setattr(sys, "argv", argv)
    values = flags.FlagValues()
    config = config_flags.DEFINE_config_file("config", flag_values=values)
    flags.mark_flag_as_required("config", flag_values=values)
    with pytest.raises(SystemExit, match=message):
        cli.parser(values, config)(argv)


def test_other_errors_of_flags_stay(monkeypatch):
    with pytest.raises(SystemExit, match="invalid literal for int"):
        parse(monkeypatch, "--config.train.epochs=many")


def test_the_home_folder_in_paths(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    config = parse(monkeypatch, "--config.corpus.root=~/data", "--config.records_dir=~/records")
    assert (config.corpus.root, config.records_dir) == ("/home/me/data", "/home/me/records")
