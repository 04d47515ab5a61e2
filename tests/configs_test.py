"""Every shipped config has the keys of default.py, and its network can be built."""

import functools
import importlib
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from configs import default, variants
from configs import study as study_config
from ser_jax import features
from ser_jax.features import FeatureSpec
from ser_jax.models import registry
from ser_jax.study import runner, runs
from ser_jax.train import optimizer

SHIPPED = [
    path.stem
    for path in sorted((Path(__file__).parents[1] / "configs").glob("*.py"))
    if path.stem not in ("__init__", "default", "variants", "study")
]
NAMED = [(model, variant) for model in SHIPPED for variant in ("", *variants.VARIANTS)]
# The vector is the 1D model's; log-mel is for the others.
POSSIBLE = [pair for pair in NAMED if pair != ("cnn1d", "log_mel")]


def keys(config) -> set[str]:
    return set(config.to_dict()) | {
        f"{section}.{key}"
        for section, values in config.to_dict().items()
        if isinstance(values, dict)
        for key in values
    }


def check_that_it_initialises(config):
    assert keys(config) == keys(default.get_config())
    spec = FeatureSpec(**config.features)
    fields = {k: v for k, v in config.model.items() if k != "name"}
    network = registry.build(config.model.name, 6, fields, dtype=config.train.compute_dtype)
    optimizer.make(config.optimizer.name)
    optimizer.plateau(config.optimizer)
    n_frames = spec.n_frames(5 * spec.sampling_rate)
    width = sum(spec.width(plane) for plane in features.INPUTS[config.input.kind])
    x = features.model_input(jnp.zeros((2, n_frames, width)), config.input.kind)
    assert x.ndim == (2 if network.input_kind == "vector" else 3)
    init = functools.partial(network.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), x)
    assert shapes["params"]["Dense_1"]["kernel"].shape[-1] == 6


@pytest.mark.parametrize(("model", "variant"), POSSIBLE)
def test_config_has_the_default_keys_and_initialises(model, variant):
    config = importlib.import_module(f"configs.{model}").get_config(variant)
    assert config.name == (f"{model}-{variant}" if variant else model)
    check_that_it_initialises(config)


@pytest.mark.parametrize("variant", ["", *study_config.VARIANTS])
def test_every_run_of_the_study_has_the_default_keys_and_initialises(variant):
    config = study_config.get_config(variant).lock()
    entries = runner.expand(config, Path("study"))
    assert {entry.name for entry in entries} == set(config.runs)
    for entry in entries:
        check_that_it_initialises(entry.config)
        # The run's own page tells how to make it again by this name.
        model, *variants_of = entry.config.name.split("-")
        alone = importlib.import_module(f"configs.{model}").get_config(",".join(variants_of))
        for section in ("model", "optimizer"):
            assert entry.config[section].to_dict() == alone[section].to_dict()
        assert entry.config.input.kind == alone.input.kind
        assert entry.config.train.batch_size == alone.train.batch_size
    different = {json.dumps(runs.changes(e.config, default.get_config())) for e in entries}
    assert len(different) == len(entries)  # no run is trained twice


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
