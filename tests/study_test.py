"""The study: what it trains and what it leaves alone, and what its report concludes."""

import collections
import csv
import dataclasses
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import study as study_config
from ser_jax.common.errors import Interrupted, UserError
from ser_jax.evaluate import finished_run
from ser_jax.metrics import classification
from ser_jax.metrics import intervals as metrics_intervals
from ser_jax.metrics import predictions as metrics_predictions
from ser_jax.metrics.predictions import Predictions
from ser_jax.study import claims, effects, figures, intervals, page, runner
from ser_jax.study import runs as study_runs
from ser_jax.study.claims import CONFIRMED, NOT_CONFIRMED, UNDECIDED

LABELS = ("anger", "neutral", "sadness")
N_SPEAKERS, CLIPS_A_SPEAKER = 20, 30


def some_predictions(shares) -> Predictions:
    """Replicas of which each is right on such a share of every speaker's clips."""
    n = N_SPEAKERS * CLIPS_A_SPEAKER
    clip_N = np.arange(n)
    label_N = clip_N % len(LABELS)
    parts = []
    for share in shares:
        right_N = clip_N % CLIPS_A_SPEAKER < round(share * CLIPS_A_SPEAKER)
        parts.append(0.1 + 0.7 * np.eye(len(LABELS))[np.where(right_N, label_N, (label_N + 1) % 3)])
    return Predictions(
        replica_P=np.repeat(np.arange(len(shares)), n),
        clip_P=np.tile(np.char.add("clip", clip_N.astype(str)), len(shares)),
        speaker_P=np.tile(np.char.add("s", (clip_N // CLIPS_A_SPEAKER).astype(str)), len(shares)),
        label_P=np.tile(label_N, len(shares)),
        probability_PxC=np.concatenate(parts),
    )


def some_run(shares, *, val=0.5, corpus="CREMA-D", human=None) -> finished_run.FinishedRun:
    """What an evaluation of such replicas finds."""
    predictions = some_predictions(shares)
    counts = metrics_predictions.speaker_confusions(predictions).sum(1)
    summary = classification.summary(counts.sum(0), LABELS)
    results = dict.fromkeys(finished_run.RESULT_KEYS) | summary
    results |= {
        "corpus": corpus,
        "monitor": "accuracy",
        "labels": list(LABELS),
        "n_train": 1000,
        "n_test": N_SPEAKERS * CLIPS_A_SPEAKER,
        "n_test_speakers": N_SPEAKERS,
        "intervals": metrics_intervals.intervals(predictions, n_resamples=200),
        "replicas": [
            {
                "replica": i,
                "seed": i,
                "fold": 0,
                "chosen": True,
                "val": val,
                "n_test": N_SPEAKERS * CLIPS_A_SPEAKER,
                **classification.summary(count, LABELS),
            }
            for i, count in enumerate(counts)
        ],
    }
    if human is not None:
        results["human"] = {"accuracy": human}
    return finished_run.FinishedRun("run", results, predictions)


def the_study(variant="", **runs) -> list[study_runs.StudyRun]:
    """The shipped study's entries; those that are named have results."""
    entries = runner.expand(study_config.get_config(variant).lock(), Path("study"))
    assert set(runs) <= {entry.name for entry in entries}
    return [dataclasses.replace(entry, run=runs.get(entry.name)) for entry in entries]


def line(entries, claim, protocol="random_file") -> claims.Claim:
    """The one that begins so."""
    lines = claims.lines(entries, effects.find(entries))
    (found,) = [
        one for one in lines if one.claim.startswith(claim) and one.runs[0].protocol == protocol
    ]
    return found


TWO_BEATS_ONE = "The 2D CNN on MFCC recognises more than the 1D CNN"


@pytest.mark.parametrize(
    ("two", "one", "verdict"),
    [
        ((0.8, 0.8, 0.9), (0.5, 0.5, 0.6), CONFIRMED),
        ((0.5, 0.5, 0.6), (0.8, 0.8, 0.9), NOT_CONFIRMED),
        ((0.5, 0.5, 0.6), (0.5, 0.5, 0.6), UNDECIDED),
        # Over speakers alone the difference is sure; another seed may well turn it.
        ((0.9, 0.5, 0.7), (0.6, 0.6, 0.6), UNDECIDED),
        ((0.9,), (0.5,), UNDECIDED),
    ],
)
def test_a_verdict_follows_the_data(two, one, verdict):
    entries = the_study(cnn2d_seen=some_run(two), cnn1d_seen=some_run(one))
    found = line(entries, TWO_BEATS_ONE)
    assert found.verdict == verdict
    assert f"{100 * (np.mean(two) - np.mean(one)):+.1f}" in found.reason
    assert ("(one training)" in found.reason) == (len(two) == 1)
    assert line(entries, TWO_BEATS_ONE, "tfds").reason == "no result of cnn2d_unseen, cnn1d_unseen"


@pytest.mark.parametrize(
    ("share", "corpus", "verdict"),
    [
        (0.8, "CREMA-D", CONFIRMED),
        (0.2, "CREMA-D", NOT_CONFIRMED),
        (0.53, "CREMA-D", UNDECIDED),
        (0.8, "CREMA-D (resynthesised)", UNDECIDED),
    ],
)
def test_a_number_is_reached_on_its_own_corpus_only(share, corpus, verdict):
    spread = (share - 0.07, share, share + 0.07)
    found = line(the_study(cnn2d_seen=some_run(spread, corpus=corpus)), "The 2D CNN on MFCC reach")
    assert found.verdict == verdict and "53.8 %" in found.claim
    assert (corpus in found.reason) == (corpus != "CREMA-D")


def test_the_network_that_meets_the_listeners_is_chosen_by_validation():
    claim = "The best network recognises more than listeners"
    names = "cnn1d_seen cnn2d_seen cnn2d_log_mel_seen paper_seen".split()
    runs = {name: some_run((0.9, 0.9), human=0.6) for name in names}
    assert line(the_study(**runs), claim).verdict == CONFIRMED
    runs["paper_seen"] = some_run((0.3, 0.3), val=0.7, human=0.6)
    found = line(the_study(**runs), claim)
    assert found.verdict == NOT_CONFIRMED and "paper's CNN on MFCC 30.0 %" in found.reason
    assert "60.0 %" in found.reason
    runs["paper_seen"] = some_run((0.3, 0.3), val=0.7)
    assert line(the_study(**runs), claim).reason == "no listener has rated these clips"
    del runs["paper_seen"]
    assert line(the_study(**runs), claim).reason == "no result of paper_seen"


def test_limits_count_speakers_and_trainings():
    (number,) = {intervals.paired(some_run((0.8, 0.7, 0.9)), some_run((0.5, 0.5, 0.5)))["uar"]}
    # Every speaker has the same share, so the difference depends on the trainings alone:
    # 4.3027 is Student's t of two degrees of freedom.
    assert number.value == pytest.approx(0.3)
    assert number.speakers_low == pytest.approx(0.3) == number.speakers_high
    assert number.sd == pytest.approx(0.1) and number.n == 3
    half = 4.3027 * 0.1 / 3**0.5
    assert (number.low, number.high) == pytest.approx((0.3 - half, 0.3 + half), abs=1e-4)


def test_limits_of_independent_runs_add_up_as_squares():
    a, b = some_run((0.8, 0.7, 0.9)), some_run((0.5, 0.5, 0.3))
    found = intervals.unpaired(a, b)["accuracy"]
    a, b = (intervals.values(run)["accuracy"] for run in (a, b))
    assert found.low == pytest.approx(found.value - np.hypot(a.value - a.low, b.high - b.value))
    assert found.high == pytest.approx(found.value + np.hypot(a.high - a.value, b.value - b.low))
    limits = intervals._difference(0.3, (0.8, 0.7, 0.85), (0.5, 0.45, 0.6))
    assert limits == pytest.approx((0.3 - np.hypot(0.1, 0.1), 0.3 + np.hypot(0.05, 0.05)))


def test_limits_add_what_speakers_and_trainings_allow():
    number = intervals._number(0.5, (0.46, 0.53), [0.4, 0.5, 0.6], least=0.0)
    half = 4.3027 * 0.1 / 3**0.5
    assert number.low == pytest.approx(0.5 - np.hypot(0.04, half), abs=1e-4)
    assert number.high == pytest.approx(0.5 + np.hypot(0.03, half), abs=1e-4)
    wide = intervals._number(0.5, (0.46, 0.53), [0.1, 0.9], least=0.0)
    assert (wide.low, wide.high) == (0.0, 1.0)


def test_questions_find_the_runs_that_differ_in_nothing_else():
    found = {(e.question, e.run.name, e.against.name) for e in effects.find(the_study())}
    seen, unseen = "Seen and unseen speakers", "cnn2d_unseen"
    assert found == {
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
    runs = {name: some_run((0.6, 0.7)) for name in ("cnn1d_seen", "cnn2d_seen", "cnn2d_unseen")}
    found = [effect for effect in effects.find(the_study(**runs)) if effect.numbers]
    assert [effect.question for effect in found] == ["Models", "Seen and unseen speakers"]
    paired, unpaired = (effect.numbers["accuracy"] for effect in found)
    assert paired.low == paired.high == 0.0  # every seed and speaker as before
    assert unpaired.low < -0.5 < 0.5 < unpaired.high


def test_each_claim_stands_once_a_protocol():
    entries = the_study()
    lines = claims.lines(entries, effects.find(entries))
    protocols = collections.defaultdict(list)
    for one in lines:
        protocols[one.claim].append(one.runs[0].protocol)
    assert (
        list(protocols)[-2] == "Augmentation by noise, pitch and stretch helps the 2D CNN on MFCC."
    )
    seen, both = ["random_file"], ["random_file", "tfds"]
    assert {claim: sorted(found) for claim, found in protocols.items()} == {
        "The 1D CNN reaches 43.08 %.": seen,
        "The 2D CNN on MFCC reaches 53.8 %.": seen,
        "The 2D CNN on log-mel reaches 53.8 %.": seen,
        "The 2D CNN on MFCC recognises more than the 1D CNN.": both,
        "The 2D CNN on log-mel recognises more than the 1D CNN.": both,
        "The mel spectrogram is the better input of the 2D CNN.": both,
        "A second training improves the 2D CNN on MFCC.": seen,
        "Augmentation by noise helps the 2D CNN on MFCC.": ["tfds"],
        "Augmentation by pitch helps the 2D CNN on MFCC.": ["tfds"],
        "Augmentation by stretch helps the 2D CNN on MFCC.": ["tfds"],
        "Augmentation by noise, pitch and stretch helps the 2D CNN on MFCC.": ["tfds"],
        "The best network recognises more than listeners do.": [
            "random_file",
            "speaker_sentence",
            "tfds",
        ],
    }


def test_the_page_shows_the_reports_numbers_beside_ours(tmp_path):
    runs = {
        name: some_run((0.6, 0.7), human=0.5)
        for name in "cnn1d_seen cnn1d_unseen cnn2d_seen cnn2d_seen_again".split()
    }
    entries = [
        dataclasses.replace(entry, folder=tmp_path / entry.name) for entry in the_study(**runs)
    ]
    entries[-2] = dataclasses.replace(entries[-2], failure="a | b")
    text = page.write(entries, tmp_path).read_text()
    rows = {row.split(" | ")[0].strip("| "): row for row in text.splitlines() if row[:1] == "|"}
    assert "| 43.08 % | 65.0 ± 7.1 % [" in rows["1D CNN"]
    assert "| 53.8 % | not finished | not finished |" in rows["2D CNN on log-mel"]
    assert "| 50.0 % | 50.0 % |" in rows["listeners, each rating"]
    assert rf"`{entries[-2].name}` failed: a \| b" in text and "4 of 15 runs are finished" in text
    assert "(one training)" not in text and "nan" not in text
    found = json.loads((tmp_path / "study.json").read_text())
    assert found["runs"]["cnn1d_seen"]["numbers"]["accuracy"]["value"] == pytest.approx(0.65)
    assert found["runs"][entries[-2].name]["status"] == "failed"
    assert {claim["verdict"] for claim in found["claims"]} <= {CONFIRMED, NOT_CONFIRMED, UNDECIDED}
    for picture in ("table1.png", "effects.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
        assert f"({picture})" in text


def test_a_study_without_results_has_a_page(tmp_path):
    text = page.write(the_study(), tmp_path).read_text()
    assert "0 of 15 runs are finished" in text and "no result of cnn1d" in text
    assert "png" not in text


def test_pictures_show_limits_and_the_report():
    runs = {name: some_run((0.6, 0.7), human=0.5) for name in ("cnn1d_seen", "cnn2d_seen")}
    entries = [entry for entry in the_study(**runs) if entry.run]
    axes = figures.table1(entries).axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["1D CNN", "2D CNN on MFCC"]
    crosses = [one.get_xdata()[0] for one in axes.lines if one.get_marker() == "x"]
    assert crosses == [0.4308, 0.538]
    axes = figures.effects(effects.find(entries)).axes[0]
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names == ["Models", "2D CNN on MFCC instead of 1D CNN · random_file"]


# The driver, with trainings that only leave files.


@dataclasses.dataclass
class Trainer:
    """Stands for train, evaluate and report; notes the names of what it trained."""

    calls: list[str] = dataclasses.field(default_factory=list)
    raises: dict[str, Exception] = dataclasses.field(default_factory=dict)

    def train(self, config, records, workdir):
        self.calls.append(workdir.name)
        if workdir.name in self.raises:
            raise self.raises[workdir.name]
        (workdir / "config.json").write_text(config.to_json())
        (workdir / "metrics.jsonl").write_text(f'{{"epoch": {config.train.epochs}}}\n')

    def evaluate(self, config, records, workdir):
        run = some_run((0.6, 0.7))
        (workdir / "results.json").write_text(json.dumps(run.results))
        text, p = io.StringIO(), run.predictions
        writer = csv.writer(text)
        writer.writerow(["replica", "id", "speaker", "true", "predicted", *LABELS])
        for i, replica in enumerate(p.replica_P):
            names = (LABELS[p.label_P[i]], LABELS[p.prediction_P[i]])
            writer.writerow([replica, p.clip_P[i], p.speaker_P[i], *names, *p.probability_PxC[i]])
        (workdir / "predictions.csv").write_text(text.getvalue())


@pytest.fixture
def trainer(monkeypatch) -> Trainer:
    fake = Trainer()
    monkeypatch.setattr(runner.train, "train", fake.train)
    monkeypatch.setattr(runner.evaluate, "evaluate", fake.evaluate)
    monkeypatch.setattr(runner.report, "write", lambda workdir: workdir)
    monkeypatch.setattr(page.plots, "save", lambda figure, path: None)
    return fake


RUNS = ("cnn1d_seen", "cnn2d_seen", "cnn2d_unseen", "cnn2d_seen_again")


def shortened(config, names=RUNS):
    """The study with some of its runs."""
    config.runs = ConfigDict({name: config.runs[name].to_dict() for name in names})
    return config


def small_config(**changes):
    config = shortened(study_config.get_config("demo"))
    config.update_from_flattened_dict(changes)
    return config.lock()


def start(workdir, config=None, prepare=lambda config: Path("records/made-1/1.0.0")):
    runner.run(config or small_config(), workdir, prepare)


def test_a_second_start_trains_nothing(trainer, tmp_path, capsys):
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
def test_an_interrupted_study_goes_on(trainer, tmp_path, cut):
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


def test_a_failed_run_is_named_and_the_others_are_done(trainer, tmp_path, capsys):
    trainer.raises["cnn2d_seen"] = UserError("the loss is not finite.")
    with pytest.raises(UserError, match="2 of 4 runs failed: cnn2d_seen, cnn2d_seen_again; "):
        start(tmp_path)
    assert trainer.calls == ["cnn1d_seen", "cnn2d_seen", "cnn2d_unseen"]
    text = (tmp_path / "report.md").read_text()
    assert "- `cnn2d_seen` failed: the loss is not finite." in text
    assert r"- `cnn2d_seen_again` failed: it starts from cnn2d\_seen, which has no" in text
    assert "cnn2d_seen failed: the loss is not finite." in capsys.readouterr().err
    trainer.raises.clear()
    start(tmp_path)
    assert trainer.calls[3:] == ["cnn2d_seen", "cnn2d_seen_again"]
    assert "failed" not in (tmp_path / "report.md").read_text()


def test_a_corpus_that_is_missing_is_said_once(trainer, tmp_path):
    def prepare(config):
        raise UserError("data/crema_d does not exist.")

    with pytest.raises(UserError, match="^data/crema_d does not exist.$"):
        start(tmp_path, prepare=prepare)
    assert not trainer.calls


@pytest.mark.parametrize("name", runner.LEFT)
@pytest.mark.parametrize("removed", [True, False])
def test_a_run_that_has_changed_since_is_looked_at_again(trainer, tmp_path, name, removed):
    start(tmp_path)
    path = tmp_path / "cnn2d_unseen" / name
    if removed:
        path.unlink()
    else:
        path.write_text(path.read_text() + "\n")
    start(tmp_path)
    assert trainer.calls[4:] == ["cnn2d_unseen"]


def test_a_flag_of_the_base_reaches_every_run_that_does_not_set_it(trainer, tmp_path):
    start(tmp_path)
    longer = small_config(**{"train.epochs": 9})
    assert [e.config.train.epochs for e in runner.expand(longer, tmp_path)] == [9, 9, 9, 10]
    # The second training set out from weights that are no more.
    with pytest.raises(UserError, match="1 of 4 runs failed: cnn2d_seen_again"):
        start(tmp_path, longer)
    assert trainer.calls[4:] == ["cnn1d_seen", "cnn2d_seen", "cnn2d_unseen"]
    text = (tmp_path / "report.md").read_text()
    assert "started from other weights than" in text and "delete that folder" in text
    shutil.rmtree(tmp_path / "cnn2d_seen_again")
    start(tmp_path, longer)
    assert trainer.calls[7:] == ["cnn2d_seen_again"]


def test_a_run_without_views_keeps_those_of_the_corpus():
    entries = {e.name: e for e in runner.expand(study_config.get_config().lock(), Path("study"))}
    config = entries["cnn2d_unseen_no_views"].config
    assert config.input.views == ()
    assert config.augmentation.views == ("noise", "pitch", "stretch")
    assert config.is_locked and "runs" not in config
    assert entries["cnn2d_seen_again"].config.init_from == str(Path("study/cnn2d_seen"))


@pytest.mark.parametrize(
    ("own", "sentence"),
    [
        ({"train": {"epoch": 3}}, "runs.mine does not fit the config: .*epoch"),
        ({"train": {"epochs": "many"}}, "runs.mine does not fit the config: .*many"),
        ({"init_from": "cnn2d_seen_again"}, "starts from cnn2d_seen_again, which starts from"),
    ],
)
def test_a_run_that_does_not_fit_is_one_sentence(own, sentence, tmp_path):
    config = study_config.get_config()
    config.runs.mine = ConfigDict(own)
    with pytest.raises(UserError, match=sentence):
        runner.expand(config, tmp_path)  # though it is not locked


def test_time_left_is_guessed_from_runs_of_the_same_model():
    entries = {
        entry.name: dataclasses.replace(entry, seconds=seconds)
        for entry, seconds in zip(the_study(), [1200.0] + 14 * [0.0], strict=True)
    }
    assert entries["cnn1d_seen"].seconds == 1200  # of four examples a clip
    done = [entries["cnn1d_seen"]]
    assert runner._time_left([], list(entries.values())) == ""
    assert runner._time_left(done, [entries["cnn1d_unseen"]]) == ", about 20 min left"
    assert runner._time_left(done, [entries["cnn2d_unseen_no_views"]]) == ", about 5 min left"
    assert runner._time_left(done, 6 * [entries["cnn1d_unseen"]]) == ", about 2.0 h left"
    done.append(dataclasses.replace(entries["paper_seen"], seconds=240.0))
    assert runner._time_left(done, [entries["cnn1d_unseen"]]) == ", about 20 min left"
    assert runner._time_left(done, [entries["paper_unseen"]]) == ", about 4 min left"
    assert runner._time_left(done, [entries["cnn2d_seen"]]) == ", about 12 min left"  # of any
    begun = dataclasses.replace(entries["cnn1d_unseen"], seconds=600.0)
    assert runner._time_left(done, [begun]) == ", about 10 min left"


def test_a_tiny_study_from_the_config_to_the_page(
    made_corpus, records_dir, tmp_path, monkeypatch, capsys
):
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
    runner.run(config, tmp_path, prepare)
    text = (tmp_path / "report.md").read_text()
    links = [tmp_path / path for path in re.findall(r"\]\(([^)]+)\)", text)]
    assert len(links) >= 9 and all(path.exists() for path in links)
    assert "A second training improves the 2D CNN on MFCC." in text
    again = json.loads((tmp_path / "cnn2d_seen_again" / "config.json").read_text())
    assert again["init_from"] == str(tmp_path / "cnn2d_seen")
    assert len((tmp_path / "cnn2d_seen" / "metrics.jsonl").read_text().splitlines()) == 2
    with monkeypatch.context() as patch:
        patch.delattr(runner.train, "train")
        runner.run(config, tmp_path, prepare)
    assert "3 of 3 runs are finished." in capsys.readouterr().out
    assert (tmp_path / "report.md").read_text() == text
