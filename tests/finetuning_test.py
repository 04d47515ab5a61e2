"""Fine-tuning an encoder: what trains and how fast, padding, masks, and a whole run."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from configs import whisper as whisper_config
from data_prep.prepare import prepare, recordings
from ser_jax import features
from ser_jax.audio import waveform
from ser_jax.common.errors import UserError
from ser_jax.data.online_augmentation import OnlineAugmentation, augment
from ser_jax.data.records import open_records
from ser_jax.encoders import embedding, loading, weights, whisper
from ser_jax.encoders.network import Encoder, Size
from ser_jax.evaluate import predictions_csv
from ser_jax.evaluate.test_set import evaluate
from ser_jax.export import writer
from ser_jax.models import registry
from ser_jax.predict import saliency, trained_model
from ser_jax.predict.predictor import Predictor
from ser_jax.train import workdir as train_workdir
from ser_jax.train.experiment import initial_states, make_experiment
from ser_jax.train.loop import train
from ser_jax.train.optimizer import make_optimizer
from tests.encoders_test import tensors_of

SIZE = Size(n_mels=80, width=64, n_layers=3, mlp_width=96, n_positions=1500)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    save_file(tensors_of(SIZE), folder / "model.safetensors")
    return folder


def network(encoder, **fields):
    fields = {"size": dataclasses.astuple(SIZE), "hidden": (8,), **fields}
    model = registry.build("whisper", 6, fields)
    key, x = jax.random.key(0), jnp.zeros((2, 20, SIZE.n_mels))
    variables = jax.jit(lambda key: model.init(key, x, train=False))(key)
    params = {**variables["params"], **model.pretrained(encoder)}
    return model, {**variables, "params": jax.tree.map(jnp.asarray, params)}


def planes(n_frames: int, seed: int = 0) -> np.ndarray:
    shape = n_frames, SIZE.n_mels
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def padded(clips: list[np.ndarray], n_frames: int) -> np.ndarray:
    return np.stack([np.pad(x, ((0, n_frames - len(x)), (0, 0))) for x in clips])


@pytest.mark.parametrize("n_frames", [29, 30])
def test_padding_does_not_change_the_answer(encoder, n_frames):
    model, variables = network(encoder, context=0.4)
    clip = planes(n_frames)
    logits = jax.jit(lambda x, n: model.apply(variables, x, train=False, n_frames_B=jnp.array(n)))
    alone = logits(padded([clip], n_frames), [n_frames])[0]
    beside = logits(padded([clip, planes(57, 1)], 60), [n_frames, 57])[0]
    np.testing.assert_allclose(alone, beside, atol=1e-5)
    changed = logits(padded([clip * 0.9], n_frames), [n_frames])[0]
    assert np.abs(changed - alone).max() > 1e-3


def test_the_input_is_that_of_the_encoder_as_it_was_trained(encoder):
    """Its own front end reflects the signal at its start; the middle of a clip is the same."""
    spec = whisper.front_end(SIZE.n_mels)
    wave_1xS = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 16_000)).astype(np.float32)
    n_1 = np.array([16_000])
    expected = whisper.Whisper(*weights.read(weights.file_in(encoder)))._mel(wave_1xS, n_1, 100)
    centred = dataclasses.replace(spec, centered=True)
    mean, sd = registry.MODELS["whisper"].normalisation
    ours = (features.extract(centred, wave_1xS, n_1)["log_mel"] - mean) / sd
    np.testing.assert_allclose(ours[0, 2:98], expected[0, 2:98], atol=1e-5)


def changes(model, variables, factors, weight_decay):
    """Return the largest change of each module's parameters in one step of the optimiser."""
    optimizer = make_optimizer("adam", weight_decay, 0.0, factors)
    x, params = padded([planes(30), planes(24, 1)], 30), variables["params"]

    def loss(params):
        logits, _ = model.apply(
            {**variables, "params": params},
            x,
            train=True,
            n_frames_B=jnp.array([30, 24]),
            rngs={"dropout": jax.random.key(1)},
            mutable=["batch_stats"],
        )
        return jnp.sum(jax.nn.log_softmax(logits)[:, 0])

    gradient = jax.jit(jax.grad(loss))(params)
    updates, _ = optimizer.update(gradient, optimizer.init(params), params)
    top = {**updates, **updates.pop("encoder")}
    return {
        name: max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(tree))
        for name, tree in top.items()
    }


def test_lower_layers_change_less_and_frozen_ones_not_at_all(encoder):
    model, variables = network(encoder, trained_layers=2)
    change = changes(model, variables, model.rate_factors(0.1, 0.5), weight_decay=0.0)
    assert change["probe"] == pytest.approx(1, rel=0.05)  # Adam's first step
    assert change["final_norm"] == pytest.approx(0.1, rel=0.05)
    assert change["layer2"] == pytest.approx(0.1, rel=0.05)
    assert change["layer1"] == pytest.approx(0.05, rel=0.05)
    for frozen in ("layer0", "conv1", "conv2", "positions"):
        assert change[frozen] == 0
    everything = registry.build("whisper", 6, {"size": dataclasses.astuple(SIZE)})
    factor = everything.rate_factors(0.1, 0.5)
    assert factor(("encoder", "conv1", "kernel")) == 0.1 * 0.5**3


def test_frozen_layers_do_not_decay(encoder):
    model, variables = network(encoder, trained_layers=0)
    change = changes(model, variables, model.rate_factors(0.1, 0.5), weight_decay=0.5)
    assert change["layer2"] == change["conv1"] == 0 and change["final_norm"] > 0


@pytest.mark.parametrize("n_trained", [0, 1, -1])
def test_frozen_layers_have_no_gradient(encoder, n_trained):
    _, variables = network(encoder)
    x, n_B = planes(20)[None], jnp.array([10])

    def loss(params):
        states = Encoder(SIZE, n_trained=n_trained).apply({"params": params}, x, n_B)
        return sum(jnp.sum(jnp.sin(state)) for state in states)

    gradient = jax.jit(jax.grad(loss))(variables["params"]["encoder"])
    for name, tree in gradient.items():
        moves = any(jnp.any(leaf != 0) for leaf in jax.tree.leaves(tree))
        trains = n_trained < 0 or name == "final_norm" or name == f"layer{SIZE.n_layers - 1}"
        assert moves == (trains and not (n_trained == 0 and name.startswith("layer"))), name


def test_rematerialisation_changes_no_gradient(encoder):
    gradients = []
    for rematerialise in (False, True):
        _, variables = network(encoder)
        again = Encoder(SIZE, rematerialise=rematerialise)

        def loss(params, again=again):
            return again.apply({"params": params}, planes(20)[None], jnp.array([10]))[-1].sum()

        gradients.append(jax.jit(jax.grad(loss))(variables["params"]["encoder"]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), *gradients)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": (80, 64, 3)}, "five positive integers"),
        ({"trained_layers": 4}, "from −1 .all. to 3"),
        ({"trained_layers": True}, "from −1"),
        ({"hidden": (0,)}, "model.hidden"),
        ({"input_dropout": 1.0}, "input_dropout"),
        ({"context": 31.0}, "model.context"),
    ],
)
def test_settings_are_checked(fields, message):
    with pytest.raises(UserError, match=message):
        registry.build("whisper", 6, {"size": dataclasses.astuple(SIZE), **fields})


def test_it_begins_as_the_probe_of_the_frozen_encoder(encoder):
    """Its logits are those of the probe of the encoder's statistics, as records have them."""
    model, variables = network(encoder, context=0.5)
    n_frames_B, n_context, floor = np.array([40, 31]), 25, -1.5
    clips = [planes(n) for n in n_frames_B]
    mel_BxTxM = np.full((2, 2 * (n_context + 1), SIZE.n_mels), floor, np.float32)
    for row, clip in enumerate(clips):
        mel_BxTxM[row, : len(clip)] = clip
        mel_BxTxM[row, len(clip) :] = max(clip.max() - 2, floor)
    encoder_params = variables["params"]["encoder"]
    states = Encoder(SIZE).apply({"params": encoder_params}, mel_BxTxM, np.full(2, n_context))
    states_BxNxF = embedding.statistics(states, -(-n_frames_B // 2))
    probe = registry.build("probe", 6, {"hidden": (8,)})
    source = {
        "params": probe.init(jax.random.key(3), states_BxNxF, train=False)["params"],
        "normalisation": {"mean_F": states_BxNxF.mean(0), "sd_F": states_BxNxF.std(0) + 0.01},
    }
    mean, sd = source["normalisation"].values()
    expected = probe.apply({"params": source["params"]}, (states_BxNxF - mean) / sd, train=False)
    adopted = model.adopt(variables["params"], variables["batch_stats"], source)
    started = dict(zip(("params", "batch_stats"), adopted, strict=True))
    found = model.apply(started, padded(clips, 40), train=False, n_frames_B=n_frames_B)
    np.testing.assert_allclose(found, expected, rtol=0.01, atol=0.01)  # epsilon of the batch norm


def test_a_warm_start_takes_the_probe_of_the_same_encoder(encoder):
    model, _ = network(encoder, context=0.5)
    spec = dataclasses.asdict(loading.describe(encoder, context=0.5))
    model.check_source({"features": {"encoder": spec}}, encoder)
    for key, value in {"context": 3.0, "states": [1], "sha256": "0"}.items():
        with pytest.raises(UserError, match=rf"encoder\.{key}="):
            model.check_source({"features": {"encoder": {**spec, key: value}}}, encoder)


def test_a_clip_longer_than_the_encoder_takes_is_refused():
    size = dataclasses.astuple(dataclasses.replace(SIZE, n_positions=10))
    model = registry.build("whisper", 6, {"size": size})
    with pytest.raises(UserError, match=r"input\.max_frames=20"):
        model.init(jax.random.key(0), jnp.zeros((1, 21, 80)), train=False)


MASKS = OnlineAugmentation(
    time_masks=2, time_mask_frames=5, frequency_masks=1, frequency_mask_columns=4
)


augmented = jax.jit(augment, static_argnums=0)


def test_masks_lie_within_each_clip_and_have_at_most_their_width():
    x_BxTxF, n_frames_B = np.ones((64, 30, 8), np.float32), np.full(64, 12)
    masked = np.asarray(augmented(MASKS, jax.random.key(0), x_BxTxF, n_frames_B)[0])
    hidden_BxT, hidden_BxF = (masked[:, :12] == 0).all(2), (masked[:, :12] == 0).all(1)
    assert set(np.unique(masked)) == {0, 1} and not masked[:, 12:].any()
    assert 0 < hidden_BxT.sum(1).max() <= 10 and 0 < hidden_BxF.sum(1).max() <= 4
    assert len(np.unique(hidden_BxT, axis=0)) > 32, "each clip has its own masks"
    assert hidden_BxT.any(0).all() and hidden_BxF.any(0).all(), "they may lie anywhere"
    again, _ = augmented(MASKS, jax.random.key(0), x_BxTxF, n_frames_B)
    np.testing.assert_array_equal(masked, again)


def test_short_clips_are_masked_too():
    masked, _ = augmented(MASKS, jax.random.key(1), np.ones((8, 3, 2), np.float32), np.ones(8, int))
    assert np.isfinite(masked).all()


@pytest.fixture(scope="module")
def config(tiny, encoder, tmp_path_factory):
    like, config = tiny(), whisper_config.get_config("finetune")
    config.corpus, config.split = like.corpus, like.split
    config.records_dir = str(tmp_path_factory.mktemp("records"))
    config.encoder.path = str(encoder)
    config.input.max_frames = 0
    config.model.hidden, config.model.trained_layers = (8,), 2
    config.train.update(epochs=2, batch_size=16)
    return config.lock()


@pytest.fixture(scope="module")
def workdir(config, tmp_path_factory):
    workdir, folder = tmp_path_factory.mktemp("run"), prepare(config)
    evaluate(config, folder, workdir, train(config, folder, workdir))
    return workdir


def test_prediction_and_export_equal_evaluation(config, workdir, tmp_path):
    model = trained_model.load(workdir)
    writer.write(tmp_path / "emotion.zip", writer.members(model))
    predictor, from_file = Predictor(workdir), Predictor(tmp_path / "emotion.zip")
    predictions = predictions_csv.read(workdir / "predictions.csv", model.labels)
    clips = recordings(config)
    for clip in np.unique(predictions.clip_P)[:3]:
        waveform_S = waveform.load(clips[clip].path, 16_000)
        expected_RxC = predictions.probability_PxC[predictions.clip_P == clip]
        for predict in (predictor, from_file):
            probability_RxC = predict(waveform_S, 16_000).probability_RxC
            np.testing.assert_allclose(probability_RxC, expected_RxC, atol=1e-5)


def test_the_frozen_part_is_that_of_the_file_and_the_rest_is_not(encoder, workdir):
    [trained] = trained_model.load(workdir).weights
    _, original = weights.read(weights.file_in(encoder))
    for name, tree in trained.params["encoder"].items():
        same = jax.tree.all(jax.tree.map(np.array_equal, tree, original[name]))
        assert same == (name in ("conv1", "conv2", "positions", "layer0")), name


def test_saliency_reaches_through_the_encoder(workdir):
    model = trained_model.load(workdir)
    x_BxTxF = np.full((1, model.max_frames, 80), -60, np.float32)
    values = saliency.gradient_times_input(
        saliency.make_gradient(model), model.weights[0], x_BxTxF, np.array([40]), np.array([1])
    ).values_BxTxF
    assert np.abs(values[0, :40]).max() > 0 and not values[0, 40:].any()


def test_a_run_belongs_to_its_encoder_and_knows_its_size(config, workdir, encoder, tmp_path):
    assert json.loads((workdir / "config.json").read_text())["model"]["size"] == [
        *dataclasses.astuple(SIZE)
    ]
    with config.unlocked():
        other = config.copy_and_resolve_references()
    other.model.size = ()  # as the config file has it
    records_name = prepare(config).parent.name
    train_workdir.claim(workdir, other, records_name, is_training=False)
    save_file(tensors_of(SIZE, seed=1), tmp_path / "model.safetensors")
    other.encoder.path = str(tmp_path)
    with pytest.raises(UserError, match="encoder_sha256 was"):
        train_workdir.claim(workdir, other, records_name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features.n_mels": 64}, "features.n_mels is 64, not 80"),
        ({"features.pre_emphasis": 0.97}, "features.pre_emphasis is 0.97, not 0.0"),
        ({"model.size": (80, 64, 2, 96, 1500)}, "and model.size is"),
        ({"encoder.path": "/nowhere"}, "no encoder at /nowhere"),
    ],
)
def test_what_does_not_fit_the_encoder_is_refused(config, workdir, change, message):
    with config.unlocked():
        other = config.copy_and_resolve_references()
    other.model.size = ()
    other.update_from_flattened_dict(change)
    with pytest.raises(UserError, match=message):
        initial_states(make_experiment(other, open_records(prepare(config))))


def test_masks_need_planes(tiny, config):
    other = tiny("cnn1d")
    other.online_augmentation.time_masks = 1
    with pytest.raises(UserError, match="online_augmentation does not apply"):
        make_experiment(other, open_records(prepare(other)))
