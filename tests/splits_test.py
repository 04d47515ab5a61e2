"""Protocols reproduce the published splits, and the audit refuses every kind of leak."""

import contextlib
import csv
import dataclasses

import numpy as np
import pytest

from ser_jax.common.errors import UserError
from ser_jax.data import leakage, records, splits
from ser_jax.data.clips import Clips
from ser_jax.data.leakage import LeakageError
from ser_jax.data.splits import Split

EMOTIONS = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
SENTENCES = "IEO TIE IOM IWW TAI MTI IWL ITH DFA ITS TSI WSI".split()


def clips_of(ids: list[str], sha256: list[str] | None = None) -> Clips:
    return Clips(
        ids=tuple(ids),
        speakers=tuple(i[:4] for i in ids),
        labels=tuple(EMOTIONS.index(i[9:12]) for i in ids),
        sha256=tuple(sha256 or ids),
        label_names=EMOTIONS,
        sentences=tuple(i[5:8] for i in ids),
    )


@pytest.fixture
def grid() -> Clips:
    """91 actors × 12 sentences × 6 emotions, named like CREMA-D's clips."""
    return clips_of(
        [f"{a}_{s}_{e}_XX" for a in range(1001, 1092) for s in sorted(SENTENCES) for e in EMOTIONS]
    )


@pytest.fixture
def crema_d(shared_data) -> Clips:
    with (shared_data / "crema_d" / "wav_manifest.csv").open() as file:
        rows = sorted((row["filename"][:-4], row["sha256"]) for row in csv.DictReader(file))
    return clips_of([name for name, _ in rows], [checksum for _, checksum in rows])


def speakers(clips: Clips, rows: np.ndarray) -> set[str]:
    return {clips.speakers[row] for row in rows}


def sentences(clips: Clips, rows: np.ndarray) -> set[str]:
    return {clips.sentences[row] for row in rows}


def sizes(split: Split) -> tuple[int, ...]:
    return tuple(len(rows) for rows in split.parts().values())


def test_evar_is_the_published_split(crema_d):
    split = splits.make("evar", crema_d)
    assert sizes(split) == (5155, 732, 1551)
    assert {part: len(speakers(crema_d, rows)) for part, rows in split.parts().items()} == {
        "train": 63,
        "val": 9,
        "test": 19,
    }
    tfds = splits.make("tfds", crema_d)
    assert len(speakers(crema_d, split.test) & speakers(crema_d, tfds.test)) == 1
    assert len(speakers(crema_d, split.test) & speakers(crema_d, tfds.train)) == 16


def test_tfds_is_the_published_split(crema_d):
    split = splits.make("tfds", crema_d)
    assert sizes(split) == (5144, 738, 1556)
    val = "1015 1020 1021 1030 1050 1070 1079 1089 1090"
    test = (
        "1010 1013 1022 1026 1037 1038 1040 1045 1047 1048 1059 1065 1066 1068 1071 1073 1084 "
        "1086 1088"
    )
    assert speakers(crema_d, split.val) == set(val.split())
    assert speakers(crema_d, split.test) == set(test.split())


@pytest.mark.parametrize("seed", range(20))
def test_random_file_has_the_reference_sizes_and_keeps_identical_audio_together(crema_d, seed):
    split = splits.make("random_file", crema_d, seed=seed)
    assert sizes(split) == (4948, 261, 2233)
    assert sorted(np.concatenate(list(split.parts().values()))) == list(range(7442))
    leakage.audit(split, crema_d, trained_on=split.train, normalised_on=split.train)


def test_random_file_depends_only_on_the_seed(grid):
    def test_rows(seed: int) -> list[int]:
        return splits.make("random_file", grid, seed=seed).test.tolist()

    assert test_rows(0) == test_rows(0) != test_rows(1)


def test_emosuperb5_tests_each_speaker_once(grid):
    folds = [splits.make("emosuperb5", grid, fold=fold) for fold in range(5)]
    blocks = [sorted(speakers(grid, split.test)) for split in folds]
    assert [(b[0], b[-1]) for b in blocks] == [
        ("1001", "1018"),
        ("1019", "1036"),
        ("1037", "1054"),
        ("1055", "1072"),
        ("1073", "1091"),
    ]
    assert speakers(grid, folds[4].val) == set(blocks[0])


def test_speaker_kfold_tests_each_clip_once(grid):
    folds = [splits.make("speaker_kfold", grid, fold=fold, n_folds=7) for fold in range(7)]
    assert sorted(np.concatenate([split.test for split in folds])) == list(range(len(grid.ids)))
    for split in folds:
        leakage.audit(split, grid, trained_on=split.train, normalised_on=split.train)


@pytest.mark.parametrize("seed", range(3))
def test_speaker_sentence_tests_new_speakers_and_new_sentences(crema_d, seed):
    for fold in range(5):
        split = splits.make("speaker_sentence", crema_d, fold=fold, seed=seed)
        assert split.unseen_speakers and split.unseen_sentences
        for values in (speakers, sentences):
            train, val, test = (values(crema_d, rows) for rows in split.parts().values())
            assert not (train & val or train & test or val & test)
        assert "IEO" in train and (len(train), len(val), len(test)) == (6, 2, 4)
        for rows in split.parts().values():
            count = np.bincount([crema_d.labels[row] for row in rows], minlength=6)
            assert count.min() > 0.6 * count.max()
        leakage.audit(split, crema_d, trained_on=split.train, normalised_on=split.train)


def test_speaker_sentence_sizes_on_crema_d_match_the_readme(crema_d):
    folds = [splits.make("speaker_sentence", crema_d, fold=fold) for fold in range(5)]
    assert [sizes(split) for split in folds] == [
        (2484, 216, 456),
        (2518, 216, 432),
        (2523, 216, 432),
        (2523, 216, 426),
        (2478, 228, 432),
    ]
    tested = np.concatenate([split.test for split in folds])
    assert len(tested) == len(set(tested)) == 2178
    assert speakers(crema_d, tested) == set(crema_d.speakers)
    assert sentences(crema_d, tested) == set(SENTENCES) - {"IEO"}


def test_speaker_sentence_tests_the_speakers_of_speaker_kfold(grid):
    for fold in range(7):
        split, kfold = (
            splits.make(name, grid, fold=fold, n_folds=7, seed=3)
            for name in ("speaker_sentence", "speaker_kfold")
        )
        for part, rows in split.parts().items():
            own = sentences(grid, rows)
            expected = [row for row in kfold.parts()[part] if grid.sentences[row] in own]
            assert rows.tolist() == expected


def test_speaker_sentence_depends_only_on_the_seed(grid):
    def test_sentences(seed: int) -> set[str]:
        return sentences(grid, splits.make("speaker_sentence", grid, seed=seed).test)

    assert test_sentences(0) == test_sentences(0) != test_sentences(1)


@pytest.mark.parametrize(("n", "sizes"), [(3, (1, 1, 1)), (4, (2, 1, 1)), (5, (3, 1, 1))])
def test_speaker_sentence_with_few_sentences(n, sizes):
    ids = [f"{a}_{s}_{e}_XX" for a in range(1001, 1007) for s in SENTENCES[:n] for e in EMOTIONS]
    clips = clips_of([*ids, "1001_TIE_ANG_HI"])  # TIE is the most frequent here
    for fold in range(3):
        split = splits.make("speaker_sentence", clips, fold=fold, n_folds=3)
        parts = [sentences(clips, rows) for rows in split.parts().values()]
        assert tuple(map(len, parts)) == sizes and "TIE" in parts[0]


def test_speaker_sentence_needs_three_known_sentences(grid, tiny_records):
    def refusal(clips: Clips) -> str:
        with pytest.raises(UserError, match="speaker_kfold") as refused:
            splits.make("speaker_sentence", clips, n_folds=3)
        return str(refused.value)

    assert "lacks that of 1001_DFA_ANG_XX" in refusal(dataclasses.replace(grid, sentences=()))
    gap = (*grid.sentences[:7], "", *grid.sentences[8:])
    assert f"that of {grid.ids[7]};" in refusal(dataclasses.replace(grid, sentences=gap))
    synthetic = records.open_records(tiny_records)
    assert synthetic.clips.sentences == synthetic.attributes["sentence"]
    assert "the corpus has 2" in refusal(synthetic.clips)


@pytest.mark.parametrize(
    ("name", "fold", "numbers"),
    [
        ("emosuperb5", "all", (0, 1, 2, 3, 4)),
        ("speaker_kfold", "all", (0, 1, 2, 3, 4, 5, 6)),
        ("speaker_sentence", "all", (0, 1, 2, 3, 4, 5, 6)),
        ("tfds", "all", (0,)),
        ("random_file", "0", (0,)),
        ("emosuperb5", "4", (4,)),
        ("speaker_kfold", 6, (6,)),
    ],
)
def test_fold_selects_one_or_all(name, fold, numbers):
    assert splits.folds(name, fold, n_folds=7) == numbers


@pytest.mark.parametrize(
    ("name", "fold", "n_folds", "message"),
    [
        ("loso", "0", 5, "split.name='loso' is unknown"),
        ("emosuperb5", "5", 7, "between 0 and 4"),
        ("speaker_sentence", "-1", 5, "between 0 and 4"),
        ("tfds", "1", 5, "split.name=tfds has no folds"),
        ("random_file", 2, 5, "split.name=random_file has no folds"),
        ("speaker_kfold", "two", 5, "split.fold='two' must be the number"),
        ("speaker_kfold", 1.5, 5, "split.fold=1.5 must be the number"),
        ("speaker_kfold", "", 5, "split.fold='' must be the number"),
        ("speaker_kfold", "all", 0, "split.n_folds=0 must be 3 or more"),
    ],
)
def test_folds_that_do_not_exist_are_refused(name, fold, n_folds, message):
    with pytest.raises(UserError, match=message):
        splits.folds(name, fold, n_folds)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("loso", {}, "split.name='loso' is unknown"),
        ("emosuperb5", {"fold": 5}, "between 0 and 4"),
        ("speaker_kfold", {"n_folds": 92}, "number of speakers, 91"),
    ],
)
def test_invalid_settings_are_refused(grid, name, settings, message):
    with pytest.raises(UserError, match=message):
        splits.make(name, grid, **settings)


def test_one_class_one_speaker_and_a_missing_class_are_refused():
    with pytest.raises(UserError, match="single class"):
        splits.make("random_file", clips_of([f"1001_{s}_ANG_XX" for s in SENTENCES]))
    one_speaker = clips_of([f"1001_{s}_{e}_XX" for s in SENTENCES for e in EMOTIONS])
    with pytest.raises(UserError, match="the corpus has 1"):
        splits.make("speaker_kfold", one_speaker)
    ids = [f"{a}_IEO_{e}_XX" for a in range(1001, 1011) for e in EMOTIONS]
    one_sad_speaker = clips_of([i for i in ids if "SAD" not in i or i.startswith("1001")])
    with pytest.raises(UserError, match="set without SAD"):
        splits.make("speaker_kfold", one_sad_speaker)


def test_crema_d_protocols_refuse_other_speakers():
    other = Clips(("a", "b", "c"), ("x", "y", "z"), (0, 1, 0), ("1", "2", "3"), ("p", "q"))
    with pytest.raises(UserError, match="speaker_kfold"):
        splits.make("tfds", other)


def column_of(values: str, actors: str = "1001 1002 1003") -> Clips:
    """Two clips of two classes and one sentence per actor, with a column Split."""
    pairs = zip(actors.split(), ("DFA", "TIE", "TSI"), strict=True)
    clips = clips_of([f"{a}_{s}_{e}_XX" for a, s in pairs for e in ("ANG", "DIS")])
    attributes = {"room": ("",) * 6, "Split": tuple(values.split())}
    return dataclasses.replace(clips, label_names=("ANG", "DIS"), attributes=attributes)


COLUMN = "train Training  DEV validation  test Evaluation"


@pytest.mark.parametrize("actors", ["1001 1002 1003", "1001 1001 1002"])
def test_column_is_the_users_split_and_observes_what_it_observes(actors):
    clips = column_of(COLUMN, actors)
    split = splits.make("column", clips)
    assert [rows.tolist() for rows in split.parts().values()] == [[0, 1], [2, 3], [4, 5]]
    assert split.unseen_speakers == (len(set(clips.speakers)) == 3) and split.unseen_sentences
    leakage.audit(split, clips, trained_on=split.train, normalised_on=split.train)
    assert not splits.make("column", dataclasses.replace(clips, sentences=())).unseen_sentences
    copy = dataclasses.replace(clips, sha256=("same", *"bcde", "same"))
    with pytest.raises(LeakageError, match="SHA-256 same is in train and in test"):
        leakage.audit(split, copy, trained_on=split.train, normalised_on=split.train)


@pytest.mark.parametrize(
    ("values", "settings", "message"),
    [
        (COLUMN, {"column": "part"}, "needs a column 'part' in the corpus's table, which has room"),
        (COLUMN.replace("DEV", "later"), {}, "1002_TIE_ANG_XX has 'later' in the column Split"),
        (COLUMN.replace("DEV validation", "test test"), {}, "the val set without a single clip"),
        (COLUMN, {"fold": 1}, "split.name=column has no folds"),
    ],
)
def test_faulty_column_is_refused(values, settings, message):
    with pytest.raises(UserError, match=message):
        splits.make("column", column_of(values), **settings)


def audit_of(clips: Clips, train, val, test, trained_on=None, normalised_on=None, **promises):
    split = Split("p", True, *(np.array(part) for part in (train, val, test)), **promises)
    train = np.array(train)
    leakage.audit(
        split,
        clips,
        trained_on=train if trained_on is None else np.array(trained_on),
        normalised_on=train if normalised_on is None else np.array(normalised_on),
    )


def test_folds_inside_another_protocol_leave_its_test_clips_alone(crema_d):
    outer = splits.make("tfds", crema_d)
    tested = []
    for fold in range(4):
        inner = splits.make("speaker_kfold", crema_d, inside="tfds", fold=fold, n_folds=4)
        rows = np.concatenate([*inner.parts().values()])
        assert sorted(rows) == sorted([*outer.train, *outer.val])
        leakage.audit(inner, crema_d, trained_on=inner.train, normalised_on=inner.train)
        assert inner.protocol == "speaker_kfold inside tfds" and inner.unseen_speakers
        tested += inner.test.tolist()
    assert sorted(tested) == sorted([*outer.train, *outer.val])


def test_an_unsuitable_protocol_to_be_inside_of_is_named(grid):
    with pytest.raises(UserError, match="split.inside='nothing' is unknown"):
        splits.make("speaker_kfold", grid, inside="nothing")
    others = dataclasses.replace(grid, speakers=("Ann",) * len(grid.ids))
    with pytest.raises(UserError, match=r"split.inside=tfds is .* --config.split.inside=speaker_k"):
        splits.make("random_file", others, inside="tfds")


def test_audit_refuses_every_kind_of_leak():
    ids = ["1001_DFA_ANG_XX", "1002_DFA_ANG_XX", "1003_DFA_ANG_XX", "1001_TIE_ANG_XX"]
    clips = clips_of(ids)
    audit_of(clips, [0], [1], [2])  # no leak
    with pytest.raises(LeakageError, match="the clip 1001_DFA_ANG_XX is in train and in val"):
        audit_of(clips, [0], [0], [2])
    with pytest.raises(LeakageError, match="the speaker 1001 is in train and in test"):
        audit_of(clips, [0], [1], [3])
    with pytest.raises(LeakageError, match="a view of it is trained on"):
        audit_of(clips, [0], [1], [2], trained_on=[0, 0, 2])
    with pytest.raises(LeakageError, match="normalisation is fitted on it"):
        audit_of(clips, [0], [1], [2], normalised_on=[0, 1])
    with pytest.raises(LeakageError, match="SHA-256 same is in train and in test"):
        audit_of(clips_of(ids, ["same", "b", "same", "d"]), [0], [1], [2])


@pytest.mark.parametrize(
    ("a", "b", "is_leak"),
    [
        ("f@0-1.5", "f@1.5-3", False),
        ("f@0-1.52", "f@1.5-3", False),  # rounded times
        ("f@0-2", "f@1.5-3", True),
        ("f@1-end", "f@0.00001-3", True),
        ("f", "f@9-end", True),
        ("f@0-2", "g@0-2", False),
        ("f", "g", False),
    ],
)
def test_audit_refuses_overlapping_segments_in_different_sets(a, b, is_leak):
    clips = dataclasses.replace(
        clips_of(["1001_DFA_ANG_XX"] * 3), ids=(a, b, "x"), sha256=(a, b, "x")
    )
    split = Split("random_file", False, np.array([1]), np.array([2]), np.array([0]))
    refusal = pytest.raises(LeakageError, match="which overlaps it")
    with refusal if is_leak else contextlib.nullcontext():
        leakage.audit(split, clips, trained_on=split.train, normalised_on=split.train)


def test_audit_checks_promised_unseen_sentences():
    clips = clips_of(["1001_DFA_ANG_XX", "1002_TIE_ANG_XX", "1003_DFA_SAD_XX", "1004_IOM_SAD_XX"])
    audit_of(clips, [0], [1], [2])  # no promise
    audit_of(clips, [0], [1], [3], unseen_sentences=True)
    with pytest.raises(LeakageError, match="the sentence DFA is in train and in test"):
        audit_of(clips, [0], [1], [2], unseen_sentences=True)
    with pytest.raises(LeakageError, match="the sentence DFA is in val and in test"):
        audit_of(clips, [1], [0], [2], unseen_sentences=True)


def test_audit_allows_seen_speakers_if_the_protocol_does_not_promise_otherwise():
    clips = clips_of(["1001_DFA_ANG_XX", "1001_TIE_ANG_XX", "1001_TIE_SAD_XX"])
    split = Split("random_file", False, np.array([0]), np.array([1]), np.array([2]))
    leakage.audit(split, clips, trained_on=split.train, normalised_on=split.train)
