"""The small networks beyond the reference report, and the training that goes with them."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from train_test import history
from trainer_test import of_replica

from configs import crnn as crnn_config
from data_prep.prepare import recordings
from ser_jax.audio import waveform
from ser_jax.common.errors import UserError
from ser_jax.data.online_augmentation import OnlineAugmentation, augment, mix
from ser_jax.data.records import open_records
from ser_jax.evaluate import predictions_csv
from ser_jax.evaluate.test_set import evaluate
from ser_jax.export import writer
from ser_jax.models import registry
from ser_jax.models.crnn import SEQUENCES
from ser_jax.models.recurrent import BidirectionalGRU
from ser_jax.predict import trained_model
from ser_jax.predict.predictor import Predictor
from ser_jax.train.experiment import initial_states, make_experiment
from ser_jax.train.loop import train
from ser_jax.train.step import running_mean

SMALL = {"widths": (4, 8), "width": 32, "heads": 2}
KEY = jax.random.key(0)
each_sequence = pytest.mark.parametrize("sequence", SEQUENCES)


@functools.cache
def small(sequence, dtype="float32"):
    model = registry.build("crnn", 3, {**SMALL, "sequence": sequence}, dtype=dtype)
    x = jnp.zeros((2, 21, 16))
    return model, jax.jit(lambda key: model.init(key, x, train=False))(KEY)


def clip(n_frames, seed=0):
    return np.random.default_rng(seed).normal(size=(n_frames, 16)).astype(np.float32)


def padded(clips, n_frames):
    return np.stack([np.pad(x, ((0, n_frames - len(x)), (0, 0))) for x in clips])


@each_sequence
@pytest.mark.parametrize("n_frames", [21, 22, 23, 24])
def test_padding_changes_no_answer(sequence, n_frames):
    model, variables = small(sequence)
    logits = jax.jit(lambda x, n: model.apply(variables, x, train=False, n_frames_B=n))
    x = clip(n_frames)
    alone = logits(padded([x], n_frames), jnp.array([n_frames]))[0]
    beside = logits(padded([x, clip(39, 1)], 40), jnp.array([n_frames, 39]))[0]
    np.testing.assert_allclose(alone, beside, atol=2e-6)
    assert (
        np.abs(logits(padded([x[::-1]], n_frames), jnp.array([n_frames]))[0] - alone).max() > 1e-4
    )


@each_sequence
def test_batch_statistics_count_neither_padding_nor_rows_that_pad_the_batch(sequence):
    model, variables = small(sequence)

    @jax.jit
    def updated(x, n, mask):
        return model.apply(
            variables,
            x,
            train=True,
            mask_B=mask,
            n_frames_B=n,
            rngs={"dropout": KEY},
            mutable=["batch_stats"],
        )[1]["batch_stats"]

    x = clip(20)
    alone = updated(padded([x], 20), jnp.array([20]), jnp.array([True]))
    among = updated(padded([x, 9 + clip(30)], 30), jnp.array([20, 30]), jnp.array([True, False]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), alone, among)


@each_sequence
def test_bfloat16_gives_nearly_the_same(sequence):
    (full, variables), (half, _) = small(sequence), small(sequence, "bfloat16")
    x, n = padded([clip(30)], 30), jnp.array([30])
    logits = [
        jax.jit(lambda m=m: m.apply(variables, x, train=False, n_frames_B=n))()
        for m in (full, half)
    ]
    assert logits[1].dtype == jnp.float32 and not np.array_equal(*logits)
    np.testing.assert_allclose(*logits, atol=0.05)


def test_its_size_is_what_can_be_shipped():
    shapes = jax.eval_shape(
        lambda: registry.build("crnn", 6).init(KEY, jnp.zeros((1, 301, 64)), train=False)
    )
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == 635_898


def test_gru_equals_its_definition():
    layer = BidirectionalGRU(3)
    x_BxTxF = np.random.default_rng(0).normal(size=(2, 5, 4)).astype(np.float32)
    inside_BxT = np.arange(5) < np.array([[3], [5]])
    params = layer.init(KEY, x_BxTxF, inside_BxT)["params"]
    params["candidate_bias"] = params["candidate_bias"] + 0.3
    found = layer.apply({"params": params}, x_BxTxF, inside_BxT)

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    for row, n_frames in enumerate((3, 5)):
        for direction in (0, 1):
            gates = x_BxTxF[row] @ params["input"]["kernel"] + params["input"]["bias"]
            reset, update, candidate = np.split(gates.reshape(5, 2, 9)[:, direction], 3, axis=1)
            of_reset, of_update, of_candidate = np.split(params["kernel"][direction], 3, axis=1)
            h, frames = np.zeros(3), range(n_frames)
            for t in reversed(frames) if direction else frames:
                r, z = sigmoid(reset[t] + h @ of_reset), sigmoid(update[t] + h @ of_update)
                new = np.tanh(candidate[t] + r * (h @ of_candidate + 0.3))
                h = (1 - z) * new + z * h
                own = slice(3 * direction, 3 * direction + 3)
                np.testing.assert_allclose(found[row, t, own], h, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"widths": ()}, "model.widths"),
        ({"sequence": "lstm"}, "one of gru, transformer, none"),
        ({"sequence": "transformer", "width": 48}, "multiple of 32"),
        ({"input_dropout": 1.0}, "input_dropout"),
    ],
)
def test_invalid_fields_are_named(fields, message):
    with pytest.raises(UserError, match=message):
        registry.build("crnn", 3, fields)


augmented = jax.jit(augment, static_argnums=0)
mixed = jax.jit(mix, static_argnums=0)


def test_shifts_move_a_clip_and_leave_the_padding_alone():
    x_BxTxF = np.zeros((64, 12, 9), np.float32)
    x_BxTxF[:, :8] = 1 + np.arange(8)[:, None] + 10 * np.arange(9)
    n_frames_B = np.full(64, 8)
    settings = OnlineAugmentation(frequency_shift=2)
    moved, n = augmented(settings, KEY, x_BxTxF, n_frames_B)
    first = np.asarray(moved)[:, 0]  # 1, 11, 21 … moved by −2 … 2 columns
    assert {tuple(row) for row in first} == {
        tuple(np.where((k >= 0) & (k < 9), 1 + 10.0 * k, 0))
        for k in (np.arange(9) - by for by in range(-2, 3))
    }
    assert (n == 8).all() and not np.asarray(moved)[:, 8:].any()
    moved, n = map(
        np.asarray, augmented(OnlineAugmentation(time_shift=100), KEY, x_BxTxF, n_frames_B)
    )
    assert set(n) == {4, 5, 6, 7, 8}, "no more than half of a clip is cut off"
    for row in range(64):
        np.testing.assert_array_equal(moved[row, : n[row]], x_BxTxF[row, 8 - n[row] : 8])
        assert not moved[row, n[row] :].any()


def test_level_is_one_number_a_clip_and_noise_one_a_value():
    x_BxTxF, n_frames_B = np.zeros((200, 6, 4), np.float32), np.full(200, 5)
    level = np.asarray(augmented(OnlineAugmentation(level_sd=0.3), KEY, x_BxTxF, n_frames_B)[0])
    assert (level[:, :5] == level[:, :1, :1]).all() and not level[:, 5:].any()
    assert level[:, 0, 0].std() == pytest.approx(0.3, rel=0.2)
    noise = np.asarray(augmented(OnlineAugmentation(noise_sd=0.5), KEY, x_BxTxF, n_frames_B)[0])
    assert noise[:, :5].std() == pytest.approx(0.5, rel=0.1) and not noise[:, 5:].any()
    assert len(np.unique(noise[0, :5])) == 20


def test_mixup_mixes_features_and_targets_by_the_same_share():
    n_B, mask_B = np.array([3, 5, 4, 1]), np.array([True, True, True, False])
    x_BxTxF = np.ones((4, 5, 2), np.float32) * np.array([1.0, 10, 100, 7])[:, None, None]
    target_BxC = np.eye(4, dtype=np.float32)
    x, n, target = map(np.asarray, mixed(0.3, KEY, x_BxTxF, n_B, target_BxC, mask_B))
    np.testing.assert_allclose(target.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(x[:, 0, 0], target @ [1, 10, 100, 7], rtol=1e-5)
    assert 0 < target[0, 0] < 1 and list(n[:2]) == [5, 5]
    assert target[2, 2] == target[3, 3] == 1, "nothing is mixed with a row that pads the batch"


@pytest.fixture(scope="module")
def config(tiny):
    like, config = tiny(), crnn_config.get_config()
    config.corpus, config.split, config.features = like.corpus, like.split, like.features
    config.records_dir, config.augmentation = like.records_dir, like.augmentation
    config.input.views = ()
    config.model.update(widths=(4, 8), width=16, heads=1)
    config.train.update(epochs=3, batch_size=16)
    config.online_augmentation.update(time_shift=5, noise_sd=0.1, mixup=0.3)  # and what is on
    return config.lock()


@pytest.fixture(scope="module")
def finished(config, tiny_records, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("crnn")
    evaluate(config, tiny_records, workdir, train(config, tiny_records, workdir))
    return workdir


def test_a_run_interrupted_and_resumed_is_the_same_to_the_bit(
    config, tiny_records, finished, tmp_path, monkeypatch
):
    from ser_jax.train.trainer import Trainer

    end_epoch = Trainer.end_epoch

    def stop(self, val_sums, epoch):
        end_epoch(self, val_sums, epoch)
        if epoch == 2:
            raise OSError("killed")

    monkeypatch.setattr(Trainer, "end_epoch", stop)
    with config.unlocked():
        saving = config.copy_and_resolve_references()
    saving.train.checkpoint_seconds = 0.0
    with pytest.raises(OSError, match="killed"):
        train(saving, tiny_records, tmp_path)
    monkeypatch.undo()
    train(saving, tiny_records, tmp_path)
    rows = [
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (finished, tmp_path)
    ]
    for a, b in zip(*rows, strict=True):
        times = {"seconds", "examples_per_second"}
        assert {k: v for k, v in a.items() if k not in times} == {
            k: v for k, v in b.items() if k not in times
        }


def test_seeds_on_several_devices_are_each_what_they_are_alone(
    config, tiny_records, finished, tmp_path
):
    with config.unlocked():
        together = config.copy_and_resolve_references()
    together.replicas.seeds = 2
    together.devices.update(replica=2, data=2)
    train(together, tiny_records, tmp_path)
    # Not what is counted: so little trained, some clips' classes are all but equally probable.
    losses = [
        [(row["train/loss"], row["val/loss"]) for row in rows]
        for rows in (history(finished), *(of_replica(r, history(tmp_path)) for r in (0, 1)))
    ]
    np.testing.assert_allclose(losses[1], losses[0], rtol=5e-4)
    assert np.abs(np.subtract(losses[2], losses[0])).max() > 5e-3


def test_prediction_and_export_equal_evaluation(config, finished, tmp_path):
    model = trained_model.load(finished)
    writer.write(tmp_path / "emotion.zip", writer.members(model))
    predictors = Predictor(finished), Predictor(tmp_path / "emotion.zip")
    predictions = predictions_csv.read(finished / "predictions.csv", model.labels)
    clips = recordings(config)
    for clip, expected_C in zip(
        predictions.clip_P[:3], predictions.probability_PxC[:3], strict=True
    ):
        waveform_S = waveform.load(clips[clip].path, 16_000)
        for predict in predictors:
            probability_C = predict(waveform_S, 16_000).probability_C
            np.testing.assert_allclose(probability_C, expected_C, atol=1e-5)


def test_what_is_evaluated_is_the_running_mean(config, tiny_records):
    experiment = make_experiment(config, open_records(tiny_records))
    (state,) = initial_states(experiment)
    new = jax.tree.map(lambda w: w + 1, (state.params, state.batch_stats))
    for step, kept in ((0, 0.1), (999, 0.9)):  # the first steps count more
        average = running_mean(state.replace(step=step), *new, 0.9)
        for mean, old in zip(*map(jax.tree.leaves, (average, state.average)), strict=True):
            np.testing.assert_allclose(mean, old + 1 - kept, rtol=1e-5, atol=1e-6)
        assert state.replace(average=average).evaluated is average
    (plain,) = initial_states(make_experiment(_without_mean(config), open_records(tiny_records)))
    assert plain.average == () and plain.evaluated == (plain.params, plain.batch_stats)


def _without_mean(config):
    with config.unlocked():
        plain = config.copy_and_resolve_references()
    plain.optimizer.ema_decay = 0.0
    return plain


@pytest.mark.parametrize("variant", ["conv", "transformer"])
def test_variants_are_built(variant, tiny_records, config):
    other = crnn_config.get_config(variant)
    other.corpus, other.split, other.features = config.corpus, config.split, config.features
    other.train.batch_size = 16
    model = make_experiment(other, open_records(tiny_records)).model
    assert model.sequence == {"conv": "none", "transformer": "transformer"}[variant]
