"""The study: which runs it trains and which it skips, and what its page concludes."""

import collections
import copy
import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import study as study_config
from ser_jax.common.config import flatten
from ser_jax.common.errors import Interrupted, UserError
from ser_jax.data.records import open_records
from ser_jax.evaluate import finished_run, predictions_csv
from ser_jax.metrics import classification
from ser_jax.metrics import intervals as metrics_intervals
from ser_jax.metrics import predictions as metrics_predictions
from ser_jax.metrics.predictions import Predictions
from ser_jax.pages.numbers import points
from ser_jax.study import figures, intervals, page, runner
from ser_jax.study.claims import CONFIRMED, NOT_CONFIRMED, UNDECIDED, Claim
from ser_jax.study.findings import Findings, conclude
from ser_jax.study.runs import StudyRun, expand

LABELS = ("anger", "neutral", "sadness")
N_SPEAKERS, CLIPS_PER_SPEAKER = 20, 30


def make_predictions(accuracies) -> Predictions:
    """One replica per accuracy, which it reaches on the clips of every speaker."""
    n = N_SPEAKERS * CLIPS_PER_SPEAKER
    clip_N = np.arange(n)
    label_N, speaker_N = clip_N % len(LABELS), clip_N // CLIPS_PER_SPEAKER
    parts = []
    for accuracy in accuracies:
        correct_N = clip_N % CLIPS_PER_SPEAKER < round(accuracy * CLIPS_PER_SPEAKER)
        prediction_N = np.where(correct_N, label_N, (label_N + 1) % 3)
        parts.append(0.1 + 0.7 * np.eye(len(LABELS))[prediction_N])
    return Predictions(
        replica_P=np.repeat(np.arange(len(accuracies)), n),
        clip_P=np.tile(np.char.add("clip", clip_N.astype(str)), len(accuracies)),
        speaker_P=np.tile(np.char.add("s", speaker_N.astype(str)), len(accuracies)),
        label_P=np.tile(label_N, len(accuracies)),
        probability_PxC=np.concatenate(parts),
    )


def make_run(accuracies, *, val=0.5, corpus="CREMA-D", human=None) -> finished_run.FinishedRun:
    """A finished run with such replicas."""
    predictions = make_predictions(accuracies)
    counts = metrics_predictions.speaker_confusions(predictions).sum(1)
    summary = classification.summary(counts.sum(0), LABELS)
    results = dict.fromkeys(finished_run.RESULT_KEYS) | summary
    results |= {
        "corpus": corpus,
        "monitor": "accuracy",
        "labels": list(LABELS),
        "n_train": 1000,
        "n_test": N_SPEAKERS * CLIPS_PER_SPEAKER,
        "n_test_speakers": N_SPEAKERS,
        "intervals": metrics_intervals.bootstrap_intervals(predictions),
        "replicas": [
            {
                "replica": i,
                "seed": i,
                "fold": 0,
                "chosen": True,
                "val": val,
                "n_test": N_SPEAKERS * CLIPS_PER_SPEAKER,
                **classification.summary(count, LABELS),
            }
            for i, count in enumerate(counts)
        ],
    }
    if human is not None:
        results["human"] = {"accuracy": human}
    return finished_run.FinishedRun("run", results, predictions)


def study_runs(variant="", config=None, **results) -> list[StudyRun]:
    """The shipped study's runs; those that are named have results."""
    config = config or study_config.get_config(variant)
    runs = expand(config.lock(), Path("study"))
    assert set(results) <= {run.name for run in runs}
    return [dataclasses.replace(run, finished=results.get(run.name)) for run in runs]


def findings(**results) -> Findings:
    return conclude(study_config.get_config(), study_runs(**results))


def find_claim(claim, protocol="random_file", **results) -> Claim:
    """The claim that begins so, judged by these results."""
    (match,) = [
        c
        for c in findings(**results).claims
        if c.claim.startswith(claim) and c.runs[0].protocol == protocol
    ]
    return match


TWO_BEATS_ONE = "The 2D CNN on MFCC is more accurate than the 1D CNN"


@pytest.mark.parametrize(
    ("two", "one", "verdict"),
    [
        ((0.8, 0.8, 0.9), (0.5, 0.5, 0.6), CONFIRMED),
        ((0.5, 0.5, 0.6), (0.8, 0.8, 0.9), NOT_CONFIRMED),
        ((0.5, 0.5, 0.6), (0.5, 0.5, 0.6), UNDECIDED),
        # Significant over speakers alone, but another seed may well reverse it.
        ((0.9, 0.5, 0.7), (0.6, 0.6, 0.6), UNDECIDED),
        ((0.9,), (0.5,), UNDECIDED),
    ],
)
def test_a_verdict_follows_from_the_data(two, one, verdict):
    results = {"cnn2d_seen": make_run(two), "cnn1d_seen": make_run(one)}
    claim = find_claim(TWO_BEATS_ONE, **results)
    assert claim.verdict == verdict
    assert points(np.mean(two) - np.mean(one)) in claim.reason
    assert ("(one training)" in claim.reason) == (len(two) == 1)
    missing = find_claim(TWO_BEATS_ONE, "tfds", **results)
    assert missing.reason == "no result of cnn2d_unseen, cnn1d_unseen"


@pytest.mark.parametrize(
    ("accuracy", "corpus", "verdict"),
    [
        (0.8, "CREMA-D", CONFIRMED),
        (0.2, "CREMA-D", NOT_CONFIRMED),
        (0.53, "CREMA-D", UNDECIDED),
        (0.8, "CREMA-D (resynthesised)", UNDECIDED),
    ],
)
def test_a_reported_value_holds_for_its_own_corpus_only(accuracy, corpus, verdict):
    spread = (accuracy - 0.07, accuracy, accuracy + 0.07)
    claim = find_claim("The 2D CNN on MFCC reach", cnn2d_seen=make_run(spread, corpus=corpus))
    assert claim.verdict == verdict and "53.8 %" in claim.claim
    assert (corpus in claim.reason) == (corpus != "CREMA-D")


def test_the_network_compared_with_listeners_is_chosen_by_validation():
    text = "The best network is more accurate than human listeners"
    names = "cnn1d_seen cnn2d_seen cnn2d_log_mel_seen paper_seen".split()
    results = {name: make_run((0.9, 0.9), human=0.6) for name in names}
    assert find_claim(text, **results).verdict == CONFIRMED
    results["paper_seen"] = make_run((0.3, 0.3), val=0.7, human=0.6)
    claim = find_claim(text, **results)
    assert claim.verdict == NOT_CONFIRMED and "paper's CNN on MFCC 30.0 %" in claim.reason
    assert "60.0 %" in claim.reason
    results["paper_seen"] = make_run((0.3, 0.3), val=0.7)
    assert find_claim(text, **results).reason == "no listener ratings of these clips"
    del results["paper_seen"]
    assert find_claim(text, **results).reason == "no result of paper_seen"


def test_differences_on_another_corpus_confirm_no_claim():
    voices = {"corpus": "synthetic voices"}
    results = {
        "cnn2d_seen": make_run((0.8, 0.8, 0.9), **voices),
        "cnn1d_seen": make_run((0.5, 0.5, 0.6), **voices),
    }
    claim = find_claim(TWO_BEATS_ONE, **results)
    assert claim.verdict == UNDECIDED and claim.reason.startswith("+30.0 [")
    assert claim.reason.endswith("; the claim is about CREMA-D, this is synthetic voices")


def test_the_results_say_whether_a_column_has_unseen_speakers():
    config = study_config.get_config()
    config.runs.cnn2d_seen.split.name = "column"
    for unseen, sentences, expected in (
        (True, True, "unseen, new sentences (column)"),
        (True, False, "unseen (column)"),
        (False, False, "seen (column)"),
    ):
        finished = make_run((0.5, 0.5))
        finished.results.update(unseen_speakers=unseen, unseen_sentences=sentences)
        runs = {run.name: run for run in study_runs(config=config, cnn2d_seen=finished)}
        assert runs["cnn2d_seen"].test_speakers == expected
    unfinished = {run.name: run for run in study_runs(config=config)}
    assert unfinished["cnn2d_seen"].test_speakers == "not known yet (column)"


def with_lead(run, low, high):
    """The run with a paired difference from the listeners, the same for each training."""
    accuracy = run.results["intervals"]["accuracy"]["mean"]
    difference = accuracy - run.results["human"]["accuracy"]
    lead = {"difference": difference, "low": low, "high": high, "each": [difference] * 2}
    run.results["human"]["lead"] = {"accuracy": lead}
    return run


def test_listeners_are_compared_on_the_same_speakers_and_on_the_claim_s_corpus():
    text = "The best network is more accurate than human listeners"
    names = "cnn1d_seen cnn2d_seen cnn2d_log_mel_seen paper_seen".split()
    # Every speaker's accuracy is 70 %, so the network's own limits lie above 60 %; the listeners'
    # values differ between speakers.
    for limits, expected in (((-0.05, 0.2), UNDECIDED), ((0.02, 0.2), CONFIRMED)):
        results = {n: with_lead(make_run((0.7, 0.7), human=0.6), *limits) for n in names}
        claim = find_claim(text, **results)
        assert claim.verdict == expected and "difference +10.0 [" in claim.reason
    results = {n: make_run((0.9, 0.9), human=0.6, corpus="RAVDESS") for n in names}
    claim = find_claim(text, **results)
    assert claim.verdict == UNDECIDED
    assert "the claim is about CREMA-D, this is RAVDESS" in claim.reason


def test_a_study_says_how_its_runs_were_computed_and_where_they_differ():
    parts = {
        "device": "cpu",
        "n_devices": 1,
        "precision": "float32, products default",
        "libraries": {"jax": "0.10.2"},
        "python": "3.11.2",
        "code": "abc",
    }
    results = {name: make_run((0.6, 0.7)) for name in ("cnn1d_seen", "cnn2d_seen")}
    for run in results.values():
        run.results["provenance"] = {"training": parts, "evaluation": parts}
    text = page.page(findings(**results), Path("study"))
    assert "All runs were computed with jax 0.10.2, Python 3.11.2." in text
    assert "| 1 × cpu | float32, products default | abc |" in text and "runs differ" not in text
    other = parts | {"device": "NVIDIA H100"}
    results["cnn2d_seen"].results["provenance"] = {"training": other, "evaluation": other}
    text = page.page(findings(**results), Path("study"))
    assert "The runs differ in device, which may be part of their difference:" in text
    assert "- 1 × NVIDIA H100: cnn2d_seen" in text.replace("\\_", "_")
    del results["cnn2d_seen"].results["provenance"]
    assert "- unknown: cnn2d" in page.page(findings(**results), Path("study"))


def test_limits_include_speakers_and_trainings():
    estimate = intervals.paired(make_run((0.8, 0.7, 0.9)), make_run((0.5, 0.5, 0.5)))["uar"]
    # Every speaker has the same accuracy, so the difference depends on the trainings alone:
    # 4.3027 is Student's t at two degrees of freedom.
    assert estimate.value == pytest.approx(0.3)
    assert estimate.speakers_low == pytest.approx(0.3) == estimate.speakers_high
    assert estimate.sd == pytest.approx(0.1) and estimate.n == 3
    half_width = 4.3027 * 0.1 / 3**0.5
    limits = (0.3 - half_width, 0.3 + half_width)
    assert (estimate.low, estimate.high) == pytest.approx(limits, abs=1e-4)


def test_limits_of_independent_runs_add_up_as_squares():
    a, b = make_run((0.8, 0.7, 0.9)), make_run((0.5, 0.5, 0.3))
    difference = intervals.unpaired(a, b)["accuracy"]
    a, b = (intervals.estimates(run)["accuracy"] for run in (a, b))
    low = difference.value - np.hypot(a.value - a.low, b.high - b.value)
    high = difference.value + np.hypot(a.high - a.value, b.value - b.low)
    assert (difference.low, difference.high) == pytest.approx((low, high))
    limits = intervals._difference_limits((0.8, 0.7, 0.85), (0.5, 0.45, 0.6))
    assert limits == pytest.approx((0.3 - np.hypot(0.1, 0.1), 0.3 + np.hypot(0.05, 0.05)))


def test_limits_combine_both_sources_within_the_range_of_the_metric():
    estimate = intervals._estimate(0.5, (0.46, 0.53), [0.4, 0.5, 0.6], minimum=0.0)
    half_width = 4.3027 * 0.1 / 3**0.5
    assert estimate.low == pytest.approx(0.5 - np.hypot(0.04, half_width), abs=1e-4)
    assert estimate.high == pytest.approx(0.5 + np.hypot(0.03, half_width), abs=1e-4)
    wide = intervals._estimate(0.5, (0.46, 0.53), [0.1, 0.9], minimum=0.0)
    assert (wide.low, wide.high) == (0.0, 1.0)


def test_compared_runs_differ_in_what_the_section_is_about_and_nothing_else():
    model = ("model.", "input.kind", "optimizer.name", "train.batch_size")
    may_differ = {
        "Models": model,
        "Inputs": ("input.kind",),
        "Seen and unseen speakers": ("split.",),
        "Second training": ("init_from", "train.epochs", "train.batch_size"),
        "Augmentation": ("input.views",),
        "Class weights": ("train.class_weights",),
    }
    for section in findings().sections:
        for comparison in section.comparisons:
            a, b = (flatten(r.config.to_dict()) for r in (comparison.run, comparison.against))
            differing = {key for key in a | b if a.get(key) != b.get(key)} - {"name"}
            assert differing, comparison.change
            assert all(key.startswith(may_differ[section.title]) for key in differing), differing


def test_the_page_lists_the_comparisons_of_the_config():
    listed = {
        (section.title, comparison.run.name, comparison.against.name)
        for section in findings().sections
        for comparison in section.comparisons
    }
    seen, unseen = "Seen and unseen speakers", "cnn2d_unseen"
    assert listed == {
        ("Models", "cnn2d_seen", "cnn1d_seen"),
        ("Models", "cnn2d_unseen", "cnn1d_unseen"),
        ("Models", "cnn2d_log_mel_seen", "cnn1d_seen"),
        ("Models", "cnn2d_log_mel_unseen", "cnn1d_unseen"),
        ("Inputs", "cnn2d_log_mel_seen", "cnn2d_seen"),
        ("Inputs", "cnn2d_log_mel_unseen", "cnn2d_unseen"),
        (seen, "cnn1d_unseen", "cnn1d_seen"),
        (seen, "cnn2d_unseen", "cnn2d_seen"),
        (seen, "cnn2d_log_mel_unseen", "cnn2d_log_mel_seen"),
        (seen, "paper_unseen", "paper_seen"),
        (seen, "cnn2d_unseen_sentences", "cnn2d_seen"),
        ("Second training", "cnn2d_seen_again", "cnn2d_seen"),
        ("Augmentation", "cnn2d_unseen_noise", "cnn2d_unseen_no_views"),
        ("Augmentation", "cnn2d_unseen_pitch", "cnn2d_unseen_no_views"),
        ("Augmentation", "cnn2d_unseen_stretch", "cnn2d_unseen_no_views"),
        ("Augmentation", unseen, "cnn2d_unseen_no_views"),
        ("Class weights", "cnn2d_unseen_balanced", unseen),
    }


def test_runs_on_the_same_test_clips_are_paired():
    names = ("cnn1d_seen", "cnn2d_seen", "cnn2d_unseen")
    estimated = {
        section.title: comparison.estimates["accuracy"]
        for section in findings(**{name: make_run((0.6, 0.7)) for name in names}).sections
        for comparison in section.comparisons
        if comparison.estimates
    }
    assert list(estimated) == ["Models", "Seen and unseen speakers"]
    paired, unpaired = estimated.values()
    assert paired.low == paired.high == 0.0  # the same for every seed and speaker
    assert unpaired.low < -0.5 < 0.5 < unpaired.high


def test_each_claim_is_judged_once_per_protocol():
    protocols = collections.defaultdict(list)
    for claim in findings().claims:
        protocols[claim.claim].append(claim.runs[0].protocol)
    all_views = "Augmentation with noise, pitch and stretch improves the 2D CNN on MFCC."
    assert list(protocols)[-2] == all_views
    seen, both = ["random_file"], ["random_file", "tfds"]
    assert {claim: sorted(names) for claim, names in protocols.items()} == {
        "The 1D CNN reaches 43.08 %.": seen,
        "The 2D CNN on MFCC reaches 53.8 %.": seen,
        "The 2D CNN on log-mel reaches 53.8 %.": seen,
        "The 2D CNN on MFCC is more accurate than the 1D CNN.": both,
        "The 2D CNN on log-mel is more accurate than the 1D CNN.": both,
        "The mel spectrogram is the better input for the 2D CNN.": both,
        "A second training improves the 2D CNN on MFCC.": seen,
        "Augmentation with noise improves the 2D CNN on MFCC.": ["tfds"],
        "Augmentation with pitch improves the 2D CNN on MFCC.": ["tfds"],
        "Augmentation with stretch improves the 2D CNN on MFCC.": ["tfds"],
        all_views: ["tfds"],
        "The best network is more accurate than human listeners.": [
            "random_file",
            "speaker_sentence",
            "tfds",
        ],
    }


def test_the_page_shows_reported_numbers_beside_ours(tmp_path):
    results = {
        name: make_run((0.6, 0.7), human=0.5)
        for name in "cnn1d_seen cnn1d_unseen cnn2d_seen cnn2d_seen_again".split()
    }
    runs = [dataclasses.replace(r, folder=tmp_path / r.name) for r in study_runs(**results)]
    runs[-2] = dataclasses.replace(runs[-2], failure="a | b")
    text = page.write(study_config.get_config(), runs, tmp_path).read_text()
    rows = {row.split(" | ")[0].strip("| "): row for row in text.splitlines() if row[:1] == "|"}
    assert "| 43.08 % | 65.0 ± 7.1 % [" in rows["1D CNN"]
    assert "| 53.8 % | not finished | not finished |" in rows["2D CNN on log-mel"]
    assert "| 50.0 % | 50.0 % |" in rows["listeners, each rating"]
    assert rf"`{runs[-2].name}` failed: a \| b" in text and "4 of 15 runs are finished" in text
    assert "(one training)" not in text and "nan" not in text
    content = json.loads((tmp_path / "study.json").read_text())
    assert content["runs"]["cnn1d_seen"]["numbers"]["accuracy"]["value"] == pytest.approx(0.65)
    assert content["runs"][runs[-2].name]["status"] == "failed"
    verdicts = {claim["verdict"] for claim in content["claims"]}
    assert verdicts <= {CONFIRMED, NOT_CONFIRMED, UNDECIDED}
    for picture in ("table1.png", "effects.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
        assert f"({picture})" in text


def test_a_study_without_results_has_a_page(tmp_path):
    text = page.write(study_config.get_config(), study_runs(), tmp_path).read_text()
    assert "0 of 15 runs are finished" in text and "no result of cnn1d" in text
    assert "png" not in text


def test_figures_show_limits_and_reported_values():
    results = {name: make_run((0.6, 0.7), human=0.5) for name in ("cnn1d_seen", "cnn2d_seen")}
    found = findings(**results)
    finished = [run for run in found.table1 if run.finished]
    axes = figures.table1(finished, found.reported, found.reference).axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["1D CNN", "2D CNN on MFCC"]
    crosses = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "x"]
    assert crosses == [0.4308, 0.538]
    results["cnn1d_unseen"] = make_run((0.6, 0.7), human=0.4)
    rated = [run for run in findings(**results).table1 if run.finished]
    lines = figures.table1(rated, found.reported, found.reference).axes[0].lines
    heard = {line.get_label(): line.get_xdata()[0] for line in lines if line.get_linestyle() == ":"}
    assert heard == {
        "listeners, each rating, test clips of random_file": 0.5,
        "listeners, each rating, test clips of tfds": 0.4,
    }
    axes = figures.comparisons(found.sections, "accuracy").axes[0]
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names == ["Models", "2D CNN on MFCC instead of 1D CNN · random_file"]


def extended_config():
    """The shipped study with a model, an input, a comparison and a claim that it does not have."""
    config = study_config.get_config()
    crnn = {"model": {"name": "crnn", "cells": 64}, "input": {"kind": "embedding"}}
    config.runs.crnn_seen = ConfigDict(crnn | study_config.SEEN)
    config.titles.update(crnn="CRNN", embedding="wav2vec 2.0")
    config.table1 += ("crnn_seen",)
    pairs = (("crnn_seen", "paper_seen", "CRNN instead of paper's CNN"),)
    config.comparisons += ({"title": "Recurrence", "note": "A note.", "pairs": pairs},)
    config.claims += (
        {"claim": "The CRNN reaches 61 %.", "run": "crnn_seen", "reported": 0.61},
        {"claim": "Recurrence helps.", "pairs": (("crnn_seen", "paper_seen"),)},
        {"claim": "It beats us.", "best_of": (("crnn_seen", "paper_seen"),)},
    )
    return config


def test_another_model_and_comparison_need_the_config_alone(tmp_path):
    config = extended_config()
    results = {"crnn_seen": make_run((0.8, 0.8)), "paper_seen": make_run((0.5, 0.5), human=0.6)}
    runs = study_runs(config=config, **results)
    runs = [dataclasses.replace(run, folder=tmp_path / run.name) for run in runs]
    text = page.write(config, runs, tmp_path).read_text()
    assert "| CRNN on wav2vec 2.0 | 61 % | 80.0 ± 0.0 % [" in text
    assert "## Recurrence\n\nA note.\n" in text
    assert "| CRNN instead of paper's CNN | seen (random\\_file) | +30.0 [" in text
    assert "| The CRNN reaches 61 %. | seen (random\\_file) | **confirmed** | 80.0 % " in text
    assert "| Recurrence helps. | seen (random\\_file) | **confirmed** | +30.0 " in text
    assert "| It beats us. | seen (random\\_file) | undecided | no listener ratings" in text
    content = json.loads((tmp_path / "study.json").read_text())
    assert content["effects"][-1]["question"] == "Recurrence"


def extend(config, key, **entry):
    config[key] += (entry,)


PAIR = ("nowhere", "cnn1d_seen", "a change")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda c: extend(c, "comparisons", title="New", note="", pairs=(PAIR,)),
            "config.comparisons, 'New', names the run 'nowhere', which is not in config.runs.",
        ),
        (
            lambda c: extend(c, "comparisons", title="New", rows=()),
            "config.comparisons has an entry with the keys rows, title; it needs note, pairs, titl",
        ),
        (
            lambda c: extend(c, "claims", claim="It is.", run="nowhere", reported=0.5),
            "config.claims, 'It is.', names the run 'nowhere', which is not in config.runs.",
        ),
        (
            lambda c: extend(c, "claims", claim="It is.", best_of=(("nowhere",),)),
            "config.claims, 'It is.', names the run 'nowhere', which is not in config.runs.",
        ),
        (
            lambda c: extend(c, "claims", claim="It is.", pairs=(("cnn1d_seen", "paper_seen"),)),
            "config.claims, 'It is.', compares cnn1d_seen and paper_seen, which config.comparison",
        ),
        (
            lambda c: extend(c, "claims", claim="It is.", run="cnn1d_seen"),
            "config.claims has an entry with the keys claim, run; it needs claim, reported, run.",
        ),
        (
            lambda c: c.__delitem__("claims"),
            "the study's config lacks claims; see configs/study.py.",
        ),
        (
            lambda c: c.update(table1=("nowhere",)),
            "config.table1 names the run 'nowhere', which is not in config.runs.",
        ),
        (
            lambda c: c.reference.update(metric="precision"),
            "reference.metric='precision' is unknown; use one of accuracy, uar, ",
        ),
    ],
)
def test_an_invalid_list_is_one_sentence_before_any_training(trainer, tmp_path, change, sentence):
    config = study_config.get_config()
    change(config)
    with pytest.raises(UserError, match="^" + re.escape(sentence)):
        start(tmp_path, config.lock())
    assert not trainer.calls


# The runner, with trainings that only write files.


@dataclasses.dataclass
class Trainer:
    """Stands in for training, evaluation and report; lists the runs that it trained."""

    calls: list[str] = dataclasses.field(default_factory=list)
    raises: dict[str, Exception] = dataclasses.field(default_factory=dict)

    def train(self, config, records, workdir):
        self.calls.append(workdir.name)
        if workdir.name in self.raises:
            raise self.raises[workdir.name]
        (workdir / "config.json").write_text(config.to_json())
        (workdir / "metrics.jsonl").write_text(f'{{"epoch": {config.train.epochs}}}\n')

    def evaluate(self, config, records, workdir, experiment):
        run = make_run((0.6, 0.7))
        (workdir / "results.json").write_text(json.dumps(run.results))
        predictions_csv.write(workdir / "predictions.csv", run.predictions, LABELS)


@pytest.fixture
def trainer(monkeypatch) -> Trainer:
    fake = Trainer()
    monkeypatch.setattr(runner.loop, "train", fake.train)
    monkeypatch.setattr(runner.test_set, "evaluate", fake.evaluate)
    monkeypatch.setattr(runner.run_report, "write", lambda workdir: workdir)
    monkeypatch.setattr(page.figure, "save", lambda figure, path: None)
    return fake


RUNS = ("cnn1d_seen", "cnn2d_seen", "cnn2d_unseen", "cnn2d_seen_again")


def shortened(config, names=RUNS):
    """The study with some of its runs, and what it lists about them."""
    config.runs = ConfigDict({name: config.runs[name] for name in names})
    config.table1 = tuple(name for name in config.table1 if name in names)

    def among(pairs):
        return tuple(pair for pair in pairs if {*pair[:2]} <= {*names})

    config.comparisons = tuple(
        section | {"pairs": among(section["pairs"])} for section in config.comparisons
    )
    config.claims = tuple(
        claim | {"pairs": among(claim["pairs"])} for claim in config.claims if "pairs" in claim
    )
    return config


def small_config(**changes):
    config = shortened(study_config.get_config("demo"))
    config.update_from_flattened_dict(changes)
    return config.lock()


def start(workdir, config=None, prepare=lambda config: Path("records/made-1/1.0.0")):
    runner.run(config or small_config(), workdir, prepare)


def test_a_run_is_taught_by_another_of_the_study(trainer, tmp_path):
    config, taught = shortened(study_config.get_config("demo")), []
    config.runs.a_pupil = {"train": {"targets": "teacher", "teacher": "cnn2d_unseen"}}
    config.lock()

    def teach(config, records):
        taught.append((config.train.teacher, [*trainer.calls]))

    runner.run(config, tmp_path, lambda config: Path("records/made-1/1.0.0"), teach)
    trained_before = dict(taught)[str(tmp_path / "cnn2d_unseen")]
    assert "cnn2d_unseen" in trained_before and "a_pupil" not in trained_before
    # Trained anew, the teacher is another one.
    longer = copy.deepcopy(config)
    with longer.unlocked():
        longer.runs.cnn2d_unseen.train = ConfigDict({"epochs": 7})
    trainer.calls.clear()
    shutil.rmtree(tmp_path / "cnn2d_unseen")
    with pytest.raises(UserError, match="1 of 5 runs failed: a_pupil"):
        runner.run(longer, tmp_path, lambda config: Path("records/made-1/1.0.0"), teach)
    assert trainer.calls == ["cnn2d_unseen"]
    assert "learnt from other weights than those of cnn2d" in (tmp_path / "report.md").read_text()


def test_a_study_begins_no_run_after_its_hours(trainer, tmp_path, capsys):
    start(tmp_path, small_config(hours=1e-9))
    assert trainer.calls == ["cnn1d_seen"]
    assert "hours are over, and 3 runs are not begun" in capsys.readouterr().out
    start(tmp_path)
    assert trainer.calls == list(RUNS)


def test_a_second_start_trains_no_run_again(trainer, tmp_path, capsys):
    start(tmp_path)
    assert trainer.calls == list(RUNS)  # the second training after the first
    console = capsys.readouterr().out
    assert "[1/4] cnn1d_seen: 1D CNN, test speakers seen (random_file), 3 seeds." in console
    assert re.search(r"\[3/4\] cnn2d_unseen: .* 3 seeds, about 1 min left\.", console)
    assert "4 of 4 runs are finished." in (tmp_path / "report.md").read_text()
    start(tmp_path)
    assert trainer.calls == list(RUNS)
    assert "4 of 4 runs are finished." in capsys.readouterr().out


@pytest.mark.parametrize("cut", [Interrupted("stopped"), KeyboardInterrupt()])
def test_an_interrupted_study_resumes(trainer, tmp_path, cut):
    trainer.raises["cnn2d_unseen"] = cut
    with pytest.raises(type(cut)):
        start(tmp_path)
    assert trainer.calls == ["cnn1d_seen", "cnn2d_seen", "cnn2d_unseen"]
    assert "2 of 4 runs are finished." in (tmp_path / "report.md").read_text()
    trainer.raises.clear()
    trainer.calls.clear()
    start(tmp_path)
    assert trainer.calls == ["cnn2d_unseen", "cnn2d_seen_again"]
    assert "4 of 4 runs are finished." in (tmp_path / "report.md").read_text()


def test_a_failed_run_is_reported_and_the_others_are_completed(trainer, tmp_path, capsys):
    trainer.raises["cnn2d_seen"] = UserError("the loss is not finite.")
    with pytest.raises(UserError, match="2 of 4 runs failed: cnn2d_seen, cnn2d_seen_again; "):
        start(tmp_path)
    assert trainer.calls == ["cnn1d_seen", "cnn2d_seen", "cnn2d_unseen"]
    text = (tmp_path / "report.md").read_text()
    assert "- `cnn2d_seen` failed: the loss is not finite." in text
    assert r"- `cnn2d_seen_again` failed: it needs cnn2d\_seen, which has no" in text
    assert "cnn2d_seen failed: the loss is not finite." in capsys.readouterr().err
    trainer.raises.clear()
    start(tmp_path)
    assert trainer.calls[3:] == ["cnn2d_seen", "cnn2d_seen_again"]
    assert "failed" not in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize("step", ["train", "evaluate"])
@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (MemoryError(), "MemoryError"),
        (RuntimeError("out\nof memory"), "RuntimeError: out"),
        (ValueError("Out of range float"), "ValueError: Out of range float"),
    ],
)
def test_the_others_are_completed_whatever_a_run_dies_of(
    trainer, tmp_path, monkeypatch, capsys, step, error, failure
):
    succeed = getattr(trainer, step)

    def fail_once(config, records, workdir, *rest):
        if workdir.name == "cnn2d_unseen":
            raise error
        succeed(config, records, workdir, *rest)

    module = {"train": runner.loop, "evaluate": runner.test_set}[step]
    monkeypatch.setattr(module, step, fail_once)
    with pytest.raises(UserError, match="1 of 4 runs failed: cnn2d_unseen; "):
        start(tmp_path)
    text = (tmp_path / "report.md").read_text().replace("\\", "")
    assert "3 of 4 runs are finished" in text
    assert f"- `cnn2d_unseen` failed: {failure}\n" in text
    assert "Traceback" in capsys.readouterr().err


def test_a_missing_corpus_is_reported_once(trainer, tmp_path):
    def prepare(config):
        raise UserError("data/crema_d does not exist.")

    with pytest.raises(UserError, match="^data/crema_d does not exist.$"):
        start(tmp_path, prepare=prepare)
    assert not trainer.calls


@pytest.mark.parametrize("name", runner.OUTPUTS)
@pytest.mark.parametrize("removed", [True, False])
def test_a_run_whose_files_changed_is_repeated(trainer, tmp_path, name, removed):
    start(tmp_path)
    path = tmp_path / "cnn2d_unseen" / name
    if removed:
        path.unlink()
    else:
        path.write_text(path.read_text() + "\n")
    start(tmp_path)
    assert trainer.calls[4:] == ["cnn2d_unseen"]


def test_a_flag_reaches_every_run_that_does_not_set_its_key(trainer, tmp_path):
    start(tmp_path)
    longer = small_config(**{"train.epochs": 9})
    assert [run.config.train.epochs for run in expand(longer, tmp_path)] == [9, 9, 9, 10]
    # The second training started from weights that no longer exist.
    with pytest.raises(UserError, match="1 of 4 runs failed: cnn2d_seen_again"):
        start(tmp_path, longer)
    assert trainer.calls[4:] == ["cnn1d_seen", "cnn2d_seen", "cnn2d_unseen"]
    text = (tmp_path / "report.md").read_text()
    assert "learnt from other weights than" in text and "delete that folder" in text
    shutil.rmtree(tmp_path / "cnn2d_seen_again")
    start(tmp_path, longer)
    assert trainer.calls[7:] == ["cnn2d_seen_again"]


def test_a_run_without_views_leaves_the_records_views_alone():
    runs = {run.name: run for run in study_runs()}
    config = runs["cnn2d_unseen_no_views"].config
    assert config.input.views == ()
    assert config.augmentation.views == ("noise", "pitch", "stretch")
    assert config.is_locked and "runs" not in config and "claims" not in config
    assert runs["cnn2d_seen_again"].config.init_from == str(Path("study/cnn2d_seen"))


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"train": {"epoch": 3}}, "runs.mine does not fit the config: .*epoch"),
        ({"train": {"epochs": "many"}}, "runs.mine does not fit the config: .*many"),
        ({"init_from": "mine"}, "runs need each other: mine, mine"),
    ],
)
def test_an_invalid_run_is_one_sentence(overrides, sentence, tmp_path):
    config = study_config.get_config()
    config.runs.mine = ConfigDict(overrides)
    with pytest.raises(UserError, match=sentence):
        expand(config, tmp_path)  # although it is not locked


def test_time_left_is_extrapolated_from_runs_of_the_same_model():
    runs = {
        run.name: dataclasses.replace(run, seconds=seconds)
        for run, seconds in zip(study_runs(), [1200.0] + 14 * [0.0], strict=True)
    }
    assert runs["cnn1d_seen"].seconds == 1200  # of four examples per clip
    finished = [runs["cnn1d_seen"]]
    assert runner._time_left([], list(runs.values())) == ""
    assert runner._time_left(finished, [runs["cnn1d_unseen"]]) == ", about 20 min left"
    assert runner._time_left(finished, [runs["cnn2d_unseen_no_views"]]) == ", about 5 min left"
    assert runner._time_left(finished, 6 * [runs["cnn1d_unseen"]]) == ", about 2.0 h left"
    finished.append(dataclasses.replace(runs["paper_seen"], seconds=240.0))
    assert runner._time_left(finished, [runs["cnn1d_unseen"]]) == ", about 20 min left"
    assert runner._time_left(finished, [runs["paper_unseen"]]) == ", about 4 min left"
    assert runner._time_left(finished, [runs["cnn2d_seen"]]) == ", about 12 min left"  # of any
    begun = dataclasses.replace(runs["cnn1d_unseen"], seconds=600.0)
    assert runner._time_left(finished, [begun]) == ", about 10 min left"


def test_a_tiny_study_end_to_end(made_corpus, records_dir, tmp_path, monkeypatch, capsys):
    from data_prep.prepare import prepare

    names = ("cnn2d_seen", "cnn2d_unseen", "cnn2d_seen_again")
    config = shortened(study_config.get_config("demo"), names)
    config.corpus.root, config.records_dir = str(made_corpus), str(records_dir)
    config.corpus.made.update(n_speakers=6, n_sentences=2)
    config.features.n_mels, config.features.n_mfcc = 32, 16
    config.augmentation.views = ("noise",)
    config.split.val_fraction = 0.3
    config.replicas.seeds = 2
    config.model.widths, config.model.dense = (8, 8, 8, 8), 16
    config.train.epochs, config.train.batch_size = 1, 16
    config.runs.cnn2d_seen_again.train.epochs = 1
    config.lock()
    opened = []
    for module in (runner.loop, runner.test_set):
        monkeypatch.setattr(module, "open_records", lambda f: opened.append(f) or open_records(f))
    runner.run(config, tmp_path, prepare)
    assert len(opened) == 3  # each run once
    text = (tmp_path / "report.md").read_text()
    links = [tmp_path / path for path in re.findall(r"\]\(([^)]+)\)", text)]
    assert len(links) >= 9 and all(path.exists() for path in links)
    assert "A second training improves the 2D CNN on MFCC." in text
    again = json.loads((tmp_path / "cnn2d_seen_again" / "config.json").read_text())
    assert again["init_from"] == str(tmp_path / "cnn2d_seen")
    assert len((tmp_path / "cnn2d_seen" / "metrics.jsonl").read_text().splitlines()) == 2
    with monkeypatch.context() as patch:
        patch.delattr(runner.loop, "train")
        runner.run(config, tmp_path, prepare)
    assert "3 of 3 runs are finished." in capsys.readouterr().out
    assert (tmp_path / "report.md").read_text() == text
