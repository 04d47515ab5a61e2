"""Every shipped config has the keys of default.py, and its network initialises."""

import functools
import importlib
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from configs import default, variants
from configs import search as search_config
from configs import study as study_config
from ser_jax import features
from ser_jax.features import FeatureSpec
from ser_jax.features.spec import EncoderSpec
from ser_jax.models import registry
from ser_jax.study import runs
from ser_jax.train import optimizer

CNNS = ("cnn1d", "cnn2d", "paper")
NAMED = [(model, variant) for model in CNNS for variant in ("", *variants.VARIANTS)]
# The 1D model takes a vector only; log-mel is for the others.
POSSIBLE = [pair for pair in NAMED if pair not in (("cnn1d", "log_mel"), ("cnn1d", "modern"))]
POSSIBLE += [("crnn", variant) for variant in ("", "conv", "transformer", "librosa", "demo")]
POSSIBLE += [("whisper", variant) for variant in ("", "linear", "attention", "finetune", "demo")]
POSSIBLE += [("svm", variant) for variant in ("", "librosa", "demo")]
ENCODER = EncoderSpec(sha256="0" * 64, width=64, n_states=3, hop_length=320)


def keys(config) -> set[str]:
    """The key tree, apart from the model's section: each model has its own."""
    sections = config.to_dict()
    del sections["model"]
    return set(sections) | {
        f"{section}.{key}"
        for section, values in sections.items()
        if isinstance(values, dict)
        for key in values
    }


def check_that_it_initialises(config):
    assert keys(config) == keys(default.get_config())
    embeds = config.input.kind == "embedding"
    if config.model.get("size") == ():  # which the encoder's file would tell
        config.model.size = (config.features.n_mels, 64, 2, 128, 1500)
    spec = FeatureSpec(**config.features, encoder=ENCODER if embeds else None)
    assert set(config.model) == {"name", *registry.field_names(config.model.name)}
    network = build(config)
    optimizer.make_optimizer(config.optimizer.name)
    optimizer.make_plateau(config.optimizer)
    n_frames = spec.n_frames(5 * spec.sampling_rate)
    width = sum(spec.width(plane) for plane in features.INPUTS[config.input.kind])
    x = features.model_input(jnp.zeros((2, n_frames, width)), config.input.kind)
    assert x.ndim == (2 if network.input_kind == "vector" else 3)
    init = functools.partial(network.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), x)
    logits = jax.eval_shape(functools.partial(network.apply, train=False), shapes, x)
    assert logits.shape == (2, 6)


def build(config):
    return registry.from_config(config, 6)


@pytest.mark.parametrize("model", CNNS)
def test_model_section_states_the_network_s_defaults(model):
    config = importlib.import_module(f"configs.{model}").get_config()
    # Resumed runs are compared with earlier ones key by key.
    assert " ".join(sorted(config.model)) == (
        "batch_norm_momentum dense kernels name padding pool stride widths"
    )
    assert build(config) == registry.build(config.model.name, 6)


@pytest.mark.parametrize(("model", "variant"), POSSIBLE)
def test_config_has_the_default_keys_and_initialises(model, variant):
    config = importlib.import_module(f"configs.{model}").get_config(variant)
    assert config.name == (f"{model}-{variant}" if variant else model)
    check_that_it_initialises(config)


@pytest.mark.parametrize("variant", ["crnn", "cnn2d", "whisper,linear", "cnn2d,demo"])
def test_search_tries_settings_without_the_test_clips(variant):
    config = search_config.get_config(variant)
    names = [*config.runs]
    assert len(names) == search_config.N_SETTINGS
    own = [json.dumps(config.runs[name].to_dict(), sort_keys=True) for name in names]
    assert config.runs.as_it_is.to_dict() == {} and len(set(own)) == len(own)
    assert ("online_augmentation" in " ".join(own)) == (variant == "crnn")
    expanded = runs.expand(config.lock(), Path("search"))
    assert {run.name for run in expanded} == set(names)
    assert all(run.config.split.inside and run.config.split.fold == "all" for run in expanded)
    assert search_config.get_config(variant).to_dict() == config.to_dict()


@pytest.mark.parametrize("variant", ["", *study_config.VARIANTS])
def test_every_run_of_the_study_has_the_default_keys_and_initialises(variant):
    config = study_config.get_config(variant).lock()
    study_runs = runs.expand(config, Path("study"))
    assert {run.name for run in study_runs} == set(config.runs)
    for run in study_runs:
        check_that_it_initialises(run.config)
        # The run report gives the command that repeats the run by this name.
        model, *variants_of_run = run.config.name.split("-")
        alone = importlib.import_module(f"configs.{model}").get_config(",".join(variants_of_run))
        for section in ("model", "optimizer"):
            assert run.config[section].to_dict() == alone[section].to_dict()
        assert run.config.input.kind == alone.input.kind
        assert run.config.train.batch_size == alone.train.batch_size
    different = {json.dumps(runs.changes(run.config, default.get_config())) for run in study_runs}
    assert len(different) == len(study_runs)  # no run is trained twice


def test_flags_of_the_model_section_reach_every_run_or_the_run_they_name():
    study = study_config.get_config()
    study.model.padding = "valid"
    study.runs.cnn2d_seen.model.dense = 64
    models = {run.name: run.config.model for run in runs.expand(study.lock(), Path("study"))}
    assert {model.padding for model in models.values()} == {"valid"}
    assert [name for name, model in models.items() if model.dense == 64] == ["cnn2d_seen"]


def test_a_run_with_another_model_replaces_the_whole_model_section():
    section = {"name": "mean_frame", "units": 8}
    study = study_config.get_config("demo")
    study.runs.mine = {"model": section, "train": {"batch_size": 8}}
    config = {run.name: run.config for run in runs.expand(study, Path("study"))}["mine"]
    assert config.model.to_dict() == section and config.train.batch_size == 8
    assert config.is_locked


def test_the_study_refuses_a_variant_that_is_one_of_its_runs():
    with pytest.raises(ValueError, match="no variant 'log_mel'; use librosa or demo"):
        study_config.get_config("log_mel")


def test_variants_are_joined_by_commas():
    config = importlib.import_module("configs.cnn2d").get_config("librosa,log_mel")
    assert (config.features.hop_length, config.input.kind) == (512, "log_mel")
    assert config.name == "cnn2d-librosa-log_mel"
    with pytest.raises(ValueError, match="'dmeo' is unknown"):
        importlib.import_module("configs.cnn2d").get_config("dmeo")


def test_librosa_variant_is_librosas_defaults_and_a_third_of_the_frames():
    spec = FeatureSpec(**importlib.import_module("configs.cnn2d").get_config("librosa").features)
    longest = 80_080  # samples of CREMA-D's longest clip, 5.005 s
    assert spec.n_frames(longest) == 157
    assert FeatureSpec(**default.get_config().features).n_frames(longest) == 501
