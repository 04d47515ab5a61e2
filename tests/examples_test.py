"""Records and examples: numbering, streaming, normalisation, batch order, damaged records."""

import dataclasses
import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from data_prep import corpora
from data_prep.augmentation import views
from ser_jax import features
from ser_jax.audio import waveform
from ser_jax.common.errors import UserError
from ser_jax.data import records
from ser_jax.data.examples import (
    Examples,
    fit_normalisation,
    sequential_batches,
    shuffled_batches,
)
from ser_jax.data.records import Records
from ser_jax.features import FeatureSpec

N_CLIPS = 72


@pytest.fixture(scope="module")
def opened(tiny_records) -> Records:
    return records.open_records(tiny_records)


@pytest.fixture(scope="module")
def examples(opened) -> Examples:
    return Examples(opened, kind="mfcc", views=["noise"])


@pytest.fixture(scope="module")
def streamed(opened) -> Examples:
    return Examples(opened, kind="mfcc", views=["noise"], memory_limit_gb=0.0)


@pytest.fixture
def damaged(tiny_records, tmp_path) -> Path:
    """A copy to damage. TFDS expects the dataset's name and version in the path."""
    folder = tmp_path / "feature_records" / tiny_records.parent.name / tiny_records.name
    return shutil.copytree(tiny_records, folder)


def test_opened_records_describe_the_corpus(opened, made_corpus, tiny):
    corpus = corpora.read("synthetic", made_corpus)
    assert opened.corpus == corpus.title
    assert opened.spec == FeatureSpec(**tiny().features)
    assert opened.labels == opened.clips.label_names == corpus.labels
    assert opened.views == ("original", "noise")
    assert opened.clips.ids == tuple(u.id for u in corpus.utterances)
    assert opened.clips.speakers == tuple(u.speaker for u in corpus.utterances)
    assert [opened.labels[i] for i in opened.clips.labels] == [u.emotion for u in corpus.utterances]
    assert opened.votes == ((),) * N_CLIPS
    for name, values in opened.attributes.items():
        assert values == tuple(u.attributes[name] for u in corpus.utterances)
    assert opened.attributes.keys() == {"sentence", "level", "sex", "age"}
    waveform_S = waveform.load(corpus.utterances[5].path, opened.spec.sampling_rate)
    assert opened.clips.sha256[5] == hashlib.sha256(waveform_S.tobytes()).hexdigest()


def test_example_numbers_count_views_of_all_clips(opened, examples, made_corpus, tiny):
    np.testing.assert_array_equal(examples.clip_N, np.tile(np.arange(N_CLIPS), 2))
    np.testing.assert_array_equal(examples.label_N, np.tile(opened.clips.labels, 2))
    augmentation = views.Augmentation(**tiny().augmentation)
    utterances, rate = corpora.read("synthetic", made_corpus).utterances, opened.spec.sampling_rate
    for view, name in enumerate(opened.views):
        for clip in (0, 41):
            clean_S = waveform.load(utterances[clip].path, rate)
            view_S = views.augment(augmentation, name, clean_S, rate, utterances[clip].id)
            planes = features.extract(opened.spec, view_S[None], np.array([len(view_S)]))
            example = view * N_CLIPS + clip
            n_frames = examples.n_frames_N[example]
            assert n_frames == opened.spec.n_frames(len(view_S))
            x_TxF = examples.x_NxTxF[example]
            np.testing.assert_allclose(x_TxF[:n_frames], planes["mfcc"][0], rtol=1e-5, atol=1e-4)
            assert not x_TxF[n_frames:].any()


def test_vector_concatenates_its_three_planes(opened, examples, made_corpus):
    vector = Examples(opened, kind="vector", max_frames=examples.max_frames)
    assert vector.width == opened.spec.n_mfcc + 2 == vector.x_NxTxF.shape[2]
    np.testing.assert_array_equal(vector.x_NxTxF[..., :-2], examples.x_NxTxF[:N_CLIPS])
    path = corpora.read("synthetic", made_corpus).utterances[7].path
    waveform_S = waveform.load(path, opened.spec.sampling_rate)
    planes = features.extract(opened.spec, waveform_S[None], np.array([len(waveform_S)]))
    for column, plane in ((-2, "zero_crossing_rate"), (-1, "energy")):
        x_T = vector.x_NxTxF[7, : vector.n_frames_N[7], column]
        np.testing.assert_allclose(x_T, planes[plane][0, :, 0], rtol=1e-5, atol=1e-8)


def test_streamed_equals_in_memory(examples, streamed):
    assert streamed.x_NxTxF is None and examples.x_NxTxF.nbytes == examples.n_bytes
    everything = np.arange(2 * N_CLIPS)
    np.testing.assert_array_equal(streamed.batch(everything), examples.x_NxTxF)
    some = np.array([100, 3, 3, 143, 0, 71, 72])  # out of order, over both views, one twice
    np.testing.assert_array_equal(streamed.batch(some), examples.batch(some))
    np.testing.assert_array_equal(examples.batch(some), examples.x_NxTxF[some])


@pytest.mark.parametrize(("limit", "value"), [("_RECORDS_PER_READ", 7), ("_BYTES_PER_READ", 1)])
def test_reading_in_small_pieces_changes_nothing(opened, examples, monkeypatch, limit, value):
    monkeypatch.setattr(records, limit, value)
    again = Examples(opened, kind="mfcc", views=["noise"])
    np.testing.assert_array_equal(again.x_NxTxF, examples.x_NxTxF)


def test_loading_decodes_only_the_fields_it_needs(opened, monkeypatch):
    decoded = []

    class Recorded(records.Fields):
        def text(self, name):
            decoded.append(name)
            return super().text(name)

        def plane(self, name):
            decoded.append(name)
            return super().plane(name)

    monkeypatch.setattr(records, "Fields", Recorded)
    Examples(opened, kind="mfcc", memory_limit_gb=0.0)
    assert decoded == ["id"] * N_CLIPS
    decoded.clear()
    Examples(opened, kind="mfcc", views=["noise"])
    assert decoded == 2 * N_CLIPS * ["id"] + 2 * N_CLIPS * ["mfcc"]


def test_decoded_fields_equal_those_of_tfds(opened, tiny_records):
    builder = records.open_builder(tiny_records)
    planes, names = list(builder.info.features["planes"]), list(opened.attributes)

    def take(fields: records.Fields) -> tuple:
        return (
            fields.text("speaker"),
            fields.numbers("n_frames"),
            fields.numbers("votes"),
            [fields.text(f"attributes/{name}") for name in names],
            [fields.plane(name) for name in planes],
        )

    rows = [row for _, row in records.View(builder, "noise", take)]
    for row, (speaker, n_frames, votes, attributes, x_by_plane) in zip(
        builder.as_data_source("noise"), rows, strict=True
    ):
        assert row["speaker"].decode() == speaker
        assert n_frames == (row["n_frames"],) and votes == tuple(row["votes"])
        assert attributes == [row["attributes"][name].decode() for name in names]
        for name, x_TxF in zip(planes, x_by_plane, strict=True):
            assert x_TxF.dtype == row["planes"][name].dtype
            np.testing.assert_array_equal(x_TxF, row["planes"][name])


def test_max_frames_is_the_longest_original_or_pads_and_cuts(opened, examples):
    longest = examples.n_frames_N[:N_CLIPS].max()
    assert examples.max_frames == longest == examples.x_NxTxF.shape[1]
    padded = Examples(opened, kind="mfcc", views=["noise"], max_frames=longest + 9)
    assert padded.x_NxTxF.shape == (2 * N_CLIPS, longest + 9, opened.spec.n_mfcc)
    np.testing.assert_array_equal(padded.x_NxTxF[:, :longest], examples.x_NxTxF)
    assert not padded.x_NxTxF[:, longest:].any()
    np.testing.assert_array_equal(padded.n_frames_N, examples.n_frames_N)
    cut = Examples(opened, kind="mfcc", views=["noise"], max_frames=longest - 9)
    np.testing.assert_array_equal(cut.x_NxTxF, examples.x_NxTxF[:, : longest - 9])
    np.testing.assert_array_equal(cut.n_frames_N, np.minimum(examples.n_frames_N, longest - 9))


def numpy_normalisation(examples: Examples, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    frames = [examples.x_NxTxF[i, : examples.n_frames_N[i]].astype(np.float64) for i in rows]
    x_KxF = np.concatenate(frames)
    return x_KxF.mean(axis=0), x_KxF.std(axis=0)


@pytest.mark.parametrize("examples_per_fit", [7, 512])
def test_normalisation_is_fitted_on_the_valid_frames_of_the_given_examples(
    examples, streamed, monkeypatch, examples_per_fit
):
    monkeypatch.setattr("ser_jax.data.examples._EXAMPLES_PER_FIT", examples_per_fit)
    train = np.array([*range(0, 40), *range(N_CLIPS, N_CLIPS + 40)])
    mean_F, sd_F = numpy_normalisation(examples, train)
    for source in (examples, streamed):
        fitted_mean_F, fitted_sd_F = fit_normalisation(source, train)
        assert fitted_mean_F.dtype == fitted_sd_F.dtype == np.float32
        np.testing.assert_allclose(fitted_mean_F, mean_F, rtol=1e-6, atol=1e-5)
        np.testing.assert_allclose(fitted_sd_F, sd_F, rtol=1e-6)
    test_clip = 60
    other_mean_F, other_sd_F = fit_normalisation(examples, np.append(train, test_clip))
    assert np.all(np.abs(other_mean_F - fitted_mean_F) > 0)
    np.testing.assert_allclose(
        other_sd_F, numpy_normalisation(examples, np.append(train, test_clip))[1], rtol=1e-6
    )


class ExtremeColumns:
    """Examples with a constant column and one with a small spread far from zero."""

    max_frames = 50
    n_frames_N = np.array([50, 20])
    fixed_frames = False

    def batch(self, example_B: np.ndarray) -> np.ndarray:
        narrow_NxT = 1e7 + np.random.default_rng(0).standard_normal((2, 50))
        return np.stack([np.full((2, 50), 3.0), narrow_NxT], axis=-1)[example_B]


def test_normalisation_keeps_constant_columns_and_avoids_cancellation():
    mean_F, sd_F = fit_normalisation(ExtremeColumns(), np.array([0, 1]))
    assert (mean_F[0], sd_F[0]) == (3, 1)
    x = ExtremeColumns().batch(np.array([0, 1]))
    valid = np.concatenate([x[0, :, 1], x[1, :20, 1]])
    assert sd_F[1] == pytest.approx(valid.std(), rel=1e-5)


def test_shuffled_batches_are_a_permutation_fixed_by_seed_and_epoch():
    train = np.arange(100, 123)
    order_SxB = shuffled_batches(train, 5, seed=1, epoch=2)
    assert order_SxB.shape == (5, 5)
    assert sorted(order_SxB.ravel()) == [-1, -1, *train]
    assert list(order_SxB[-1, -2:]) == [-1, -1]
    np.random.default_rng(7).random(3)
    np.random.seed(3)  # global state has no influence
    np.testing.assert_array_equal(order_SxB, shuffled_batches(train, 5, seed=1, epoch=2))
    for seed, epoch in ((1, 3), (2, 2), (2, 1)):
        other = shuffled_batches(train, 5, seed=seed, epoch=epoch)
        assert sorted(other.ravel()) == [-1, -1, *train]
        assert (other != order_SxB).any()


def test_sequential_batches_keep_the_order_and_fill_only_the_last():
    batches = sequential_batches(np.array([4, 5, 6, 9, 8]), 2)
    np.testing.assert_array_equal(batches, [[4, 5], [6, 9], [8, -1]])
    np.testing.assert_array_equal(sequential_batches(np.arange(4), 2), [[0, 1], [2, 3]])


def test_errors_name_a_missing_view_plane_or_kind(opened, damaged):
    with pytest.raises(UserError, match="has no pitch; add it to augmentation.views or to feat"):
        Examples(opened, kind="mfcc", views=["noise", "pitch"])
    with pytest.raises(UserError, match="input.kind='mfc' is unknown; use one of mfcc, log_mel"):
        Examples(opened, kind="mfc")
    metadata = damaged / "metadata.json"
    metadata.write_text(metadata.read_text().replace(', "energy"]', "]"))
    without = records.open_records(damaged)
    with pytest.raises(UserError, match="has no energy; add it to .*prepare again"):
        Examples(without, kind="vector")
    Examples(without, kind="log_mel")


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
def test_error_names_a_folder_without_its_description(damaged, name):
    (damaged / name).unlink()
    with pytest.raises(UserError) as error:
        records.open_records(damaged)
    assert f"{damaged} holds no readable records" in str(error.value)
    assert "delete it and run with --mode=prepare" in str(error.value)


def test_error_names_a_missing_folder(tmp_path):
    with pytest.raises(UserError, match="nowhere holds no readable records"):
        records.open_records(tmp_path / "nowhere")


def test_error_names_damaged_records(damaged):
    (path,) = damaged.glob("*-original.array_record*")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="delete .* --mode=prepare"):
        records.open_records(damaged)
    # A few wrong bytes in the middle of the features.
    path.write_bytes(whole[:70_000] + bytes(64) + whole[70_064:])
    with pytest.raises(
        UserError, match="holds a damaged record .*; delete the folder and run with"
    ):
        Examples(records.open_records(damaged), kind="mfcc")


def test_views_with_different_clips_are_damaged(opened):
    clips = opened.clips
    more = dataclasses.replace(clips, ids=(*clips.ids, "extra"), labels=(*clips.labels, 0))
    with pytest.raises(UserError, match="holds a damaged record .a view lacks clips.; delete"):
        Examples(dataclasses.replace(opened, clips=more), kind="mfcc")


@pytest.mark.parametrize("content", ["", "{", "{}", None])
def test_records_without_metadata_are_damaged(damaged, content):
    if content is None:
        (damaged / "metadata.json").unlink()
    else:
        (damaged / "metadata.json").write_text(content)
    with pytest.raises(UserError, match="no readable records"):
        records.open_records(damaged)


def test_class_names_are_independent_of_the_label_file(damaged):
    (damaged / "label.labels.txt").unlink()
    assert records.open_records(damaged).labels[0] == "anger"
