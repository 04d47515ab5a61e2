"""Comparisons of finished runs, and reading such runs."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ser_jax.common import files
from ser_jax.common.errors import UserError
from ser_jax.compare import __main__, comparison
from ser_jax.evaluate.finished_run import REMEDY, load
from ser_jax.metrics import calibration, classification
from ser_jax.metrics import intervals as metrics_intervals
from ser_jax.metrics import predictions as metrics_predictions
from ser_jax.metrics.predictions import Predictions

ROOT = Path(__file__).parents[1]
LABELS = ["anger", "calm", "joy"]


def predictions(skill=0.3, *, seed=0, n_replicas=2, clips=range(60), n_speakers=5):
    """Clip i has class i mod 3 and speaker i mod n; more skill gives more correct predictions."""
    random = np.random.default_rng(seed)
    label_P = np.tile(np.array(clips) % 3, n_replicas)
    probability_PxC = random.dirichlet(np.ones(3), len(label_P)) + skill * np.eye(3)[label_P]
    return Predictions(
        replica_P=np.repeat(np.arange(n_replicas), len(clips)),
        clip_P=np.tile([f"c{clip:03}" for clip in clips], n_replicas),
        speaker_P=np.tile([f"s{clip % n_speakers}" for clip in clips], n_replicas),
        label_P=label_P,
        probability_PxC=probability_PxC / probability_PxC.sum(1, keepdims=True),
    )


def write_run(workdir, predictions, *, labels=LABELS, chosen=None, **changes):
    """Write a run's results and predictions; return its folder."""
    numbers = np.unique(predictions.replica_P).tolist()
    chosen = numbers if chosen is None else chosen
    counts_RxCxC = metrics_predictions.speaker_confusions(predictions).sum(1)
    best = predictions.of_replicas(chosen)
    intervals = metrics_intervals.bootstrap_intervals(best)
    results = {
        "config": "cnn2d-demo",
        **{"model": "cnn2d", "input": "mfcc", "protocol": "tfds", "corpus": "a corpus"},
        **{"unseen_speakers": True, "unseen_sentences": False, "labels": labels},
        **{"n_train": 9, "n_train_examples": 36, "n_val": 3, "monitor": "accuracy"},
        "n_test": len(set(best.clip_P)),
        "n_test_speakers": len(set(best.speaker_P)),
        **classification.summary(counts_RxCxC[np.isin(numbers, chosen)].sum(0), labels),
        **{name: interval["mean"] for name, interval in intervals.items()},
        "intervals": intervals,
        "replicas": [
            {
                **{"replica": number, "seed": number, "fold": "0", "setting": {}},
                **{"chosen": number in chosen, "best_epoch": 2, "val": 0.5},
                **{"n_test": int(counts.sum()), **classification.summary(counts, labels)},
            }
            for number, counts in zip(numbers, counts_RxCxC, strict=True)
        ],
        "settings": [],
        "calibration": calibration.calibration(best),
        "coverage": calibration.coverage(best),
        "breakdown": {},
    }
    files.write_json(workdir / "results.json", results | changes)
    columns = (
        predictions.replica_P,
        predictions.clip_P,
        predictions.speaker_P,
        predictions.label_P,
        predictions.prediction_P,
    )
    with (workdir / "predictions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["replica", "id", "speaker", "true", "predicted", *labels])
        for *row, true, predicted, probability_C in zip(
            *columns, predictions.probability_PxC, strict=True
        ):
            probabilities = [f"{p:.6f}" for p in probability_C]
            writer.writerow([*row, labels[true], labels[predicted], *probabilities])
    return workdir


def test_a_run_reads_back_as_written(tmp_path):
    written = predictions()
    run = load(write_run(tmp_path / "one", written))
    assert run.name == "one" and run.results["n_test"] == 60
    for name in ("replica_P", "clip_P", "speaker_P", "label_P", "prediction_P"):
        np.testing.assert_array_equal(getattr(run.predictions, name), getattr(written, name), name)
    np.testing.assert_allclose(run.predictions.probability_PxC, written.probability_PxC, atol=1e-6)


def test_only_the_chosen_replicas_count(tmp_path):
    swept = predictions(n_replicas=4)
    run = load(write_run(tmp_path / "swept", swept, chosen=[1, 2]))
    assert set(run.predictions.replica_P) == {1, 2}
    alone = load(write_run(tmp_path / "alone", swept.of_replicas([1, 2])))
    (pair,) = comparison.write([run, alone], tmp_path)["pairs"]
    assert pair["differences"]["accuracy"]["difference"] == 0


def test_results_that_are_older_than_the_weights_are_refused(tmp_path):
    run = write_run(tmp_path / "run", predictions())  # best at epoch 2
    results, best = run / "results.json", run / "checkpoints" / "best"
    for number in (2, 5):
        (best / str(number)).mkdir(parents=True)
        os.utime(best / str(number), (number, number))
    os.utime(results, (3, 3))
    (best / "7.tmp").mkdir()
    with pytest.raises(UserError, match=r"results.json is older than .*best/5; run --mode=eval"):
        load(run)
    os.utime(results, (6, 6))  # evaluated since; a kill made the number larger than the epoch
    load(run)
    os.utime(results, (3, 3))
    content = json.loads(results.read_text())
    content["replicas"].append({"best_epoch": None, "chosen": False, "val": None})
    results.write_text(json.dumps(content))
    os.utime(results, (3, 3))
    load(run)


def test_a_metric_that_an_earlier_version_did_not_have_is_named(tmp_path, monkeypatch):
    run = write_run(tmp_path / "run", predictions())
    monkeypatch.setitem(classification.HEADLINE, "kappa", classification.accuracy)
    with pytest.raises(UserError, match="lacks the metric kappa, written by an earlier version"):
        load(run)


def test_rounding_and_divergence_do_not_change_predictions(tmp_path):
    close_PxC = np.array([[0.4, 0.4000004, 0.1999996], [np.nan] * 3, [0.2, 0.5, 0.3]])
    clips, speakers = np.array(["a", "b", "c"]), np.array(["s", "s", "t"])
    written = Predictions(np.zeros(3, int), clips, speakers, np.arange(3), close_PxC)
    run = load(write_run(tmp_path, written))
    assert run.predictions.prediction_P.tolist() == [1, 0, 1]


def test_files_of_a_comparison(tmp_path):
    better = load(write_run(tmp_path / "better", predictions(0.9)))
    worse = load(write_run(tmp_path / "worse", predictions(0.1, n_replicas=3)))
    out = tmp_path / "out"
    content = comparison.write([better, worse], out)
    assert json.loads((out / "compare.json").read_text()) == content
    (pair,) = content["pairs"]
    assert (pair["a"], pair["b"]) == ("better", "worse") and not content["not_comparable"]
    expected = metrics_intervals.paired_differences(better.predictions, worse.predictions)
    for name, difference in pair["differences"].items():
        assert difference == expected[name] | {"excludes_0": True}
    with (out / "compare.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["better", "worse"]
    assert [row["n_replicas"] for row in rows] == ["2", "3"]
    for row, run in zip(rows, (better, worse), strict=True):
        for name in ("accuracy", "uar", "macro_f1"):
            for value in ("mean", "sd", "low", "high"):
                expected = run.results["intervals"][name][value]
                assert float(row[f"{name}_{value}"]) == expected
    assert (out / "compare.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_gives_each_number_with_its_protocol(tmp_path):
    a = load(write_run(tmp_path / "a", predictions(0.9)))
    b = load(write_run(tmp_path / "b", predictions(0.1, n_replicas=1)))
    facts = {"protocol": "random_file", "unseen_speakers": False}
    seen = load(write_run(tmp_path / "seen", predictions(clips=range(30, 90)), **facts))
    comparison.write([a, b, seen], tmp_path)
    page = (tmp_path / "compare.md").read_text()
    lines = {line.split(" | ")[0]: line for line in page.splitlines()}
    score = a.results["intervals"]["accuracy"]
    assert "| tfds | 5, unseen | a corpus | 2 | 60 |" in lines["| a"]
    assert (
        f"| {100 * score['mean']:.1f} ± {100 * score['sd']:.1f} "
        f"[{100 * score['low']:.1f}, {100 * score['high']:.1f}] |"
    ) in lines["| a"]
    assert "±" not in lines["| b"] and "[" in lines["| b"]
    assert "| random\\_file | 5, **seen** in training | a corpus |" in lines["| seen"]
    difference = lines["| a − b"]
    assert "| tfds | 5, unseen | 60 | **+" in difference and difference.count("**") == 6
    reason = "- seen and unseen speakers: different test clips: a and seen; b and seen"
    assert reason in page.splitlines()
    assert "| a − seen" not in page


def test_a_run_does_not_differ_from_itself(tmp_path):
    run = load(write_run(tmp_path / "a", predictions()))
    (pair,) = comparison.write([run, run], tmp_path)["pairs"]
    for difference in pair["differences"].values():
        assert difference == {"difference": 0, "low": 0, "high": 0, "excludes_0": False}
    assert "**+0.0**" not in (tmp_path / "compare.md").read_text()


def test_a_single_run_and_a_single_speaker(tmp_path):
    run = load(write_run(tmp_path / "a", predictions(n_speakers=1)))
    content = comparison.write([run], tmp_path)
    assert not content["pairs"] and not content["not_comparable"]
    page = (tmp_path / "compare.md").read_text()
    assert "## " not in page and "| 1, unseen |" in page and "[" not in page.replace("![", "")
    (pair,) = comparison.write([run, run], tmp_path)["pairs"]
    assert pair["differences"]["uar"]["excludes_0"] is None


@pytest.mark.parametrize(
    ("other", "changes", "reason"),
    [
        ({}, {"corpus": "another"}, "different corpora"),
        ({}, {"labels": ["joy", "calm", "anger"]}, "different classes"),
        ({"clips": range(1, 61)}, {}, "different test clips, as of other folds"),
        ({"clips": range(60, 120)}, {"protocol": "loso"}, "protocols loso and tfds: different"),
        ({"n_speakers": 6}, {}, "different test clips"),
        ({}, {"protocol": "loso"}, ""),
        ({"seed": 5, "n_replicas": 3}, {}, ""),
    ],
)
def test_why_runs_are_not_comparable(tmp_path, other, changes, reason):
    a = load(write_run(tmp_path / "a", predictions()))
    b = load(write_run(tmp_path / "b", predictions(**other), **changes))
    for pair in ((a, b), (b, a)):
        answer = comparison.not_comparable(*pair)
        assert answer.startswith(reason) and bool(answer) == bool(reason)


def test_the_same_clips_in_other_folds_are_not_comparable(tmp_path):
    whole = predictions(n_replicas=1)
    folds = Predictions(
        np.repeat([0, 1], 30),
        *(getattr(whole, name) for name in ("clip_P", "speaker_P", "label_P", "probability_PxC")),
    )
    a = load(write_run(tmp_path / "whole", whole))
    b = load(write_run(tmp_path / "folds", folds))
    assert comparison.not_comparable(a, b) == "the same test clips, but in other folds"


def test_equal_names_become_paths_and_names_are_shown_verbatim(tmp_path, capsys):
    for folder in ("x/run", "y/run", "<b>_|"):
        write_run(tmp_path / folder, predictions())
    folders = [str(tmp_path / name) for name in ("x/run", "y/run", "<b>_|")]
    __main__.main([*folders, f"--out={tmp_path / 'out'}"])
    content = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert [run["name"] for run in content["runs"]] == [*folders[:2], "<b>_|"]
    printed = capsys.readouterr().out
    assert (tmp_path / "out" / "compare.md").read_text() in printed
    assert "| &lt;b&gt;\\_\\| |" in printed
    with pytest.raises(UserError, match="given twice"):
        __main__.main([folders[0], str(tmp_path / "y" / ".." / "x" / "run")])


def cut(line, n=1):
    return line.rsplit(",", n)[0]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda lines: lines[:1], "lacks the columns or rows"),
        (lambda lines: [], "cannot be read"),
        (lambda lines: [lines[0].replace("joy", "rage"), *lines[1:]], "lacks the columns"),
        (lambda lines: [*lines[:4], cut(lines[4]), *lines[5:]], "line 5, is damaged"),
        (lambda lines: [*lines[:4], lines[4] + ",0.1", *lines[5:]], "line 5, is damaged"),
        (lambda lines: [*lines[:-1], "x" + lines[-1]], "line 121, is damaged"),
        (lambda lines: [*lines[:2], cut(lines[2]) + ",1.5", *lines[3:]], "line 3, is damaged"),
        (lambda lines: [*lines[:2], cut(lines[2], 3) + 3 * ",1.5", *lines[3:]], "line 3, is"),
        (lambda lines: [*lines[:2], cut(lines[2]) + ",inf", *lines[3:]], "line 3, is damaged"),
        (lambda lines: [*lines, lines[-1]], "lists a clip twice"),
        (lambda lines: lines[:-1], "from different evaluations"),
        (lambda lines: [line for line in lines if line[0] != "1"], "from different evaluations"),
    ],
)
def test_damaged_predictions_are_one_sentence(tmp_path, change, match):
    path = write_run(tmp_path, predictions(3.0)) / "predictions.csv"
    path.write_text("\n".join(change(path.read_text().splitlines())))
    with pytest.raises(UserError, match=match) as error:
        load(tmp_path)
    assert str(path) in str(error.value) and REMEDY in str(error.value)


def test_missing_and_damaged_files_are_one_sentence(tmp_path):
    write_run(tmp_path, predictions())
    results = json.loads((tmp_path / "results.json").read_text())
    (tmp_path / "predictions.csv").unlink()
    with pytest.raises(UserError, match=r"predictions.csv does not exist; run --mode=evaluate"):
        load(tmp_path)
    write_run(tmp_path, predictions())
    for damaged in (
        results | {"replicas": [{"chosen": True}]},
        results | {"replicas": 3},
        {k: v for k, v in results.items() if k != "intervals"},
        results | {"intervals": {"accuracy": None}},
        results | {"intervals": results["intervals"] | {"uar": {"mean": 0.5}}},
    ):
        files.write_json(tmp_path / "results.json", damaged)
        with pytest.raises(UserError, match=r"results.json .*run --mode=evaluate"):
            load(tmp_path)
    (tmp_path / "results.json").unlink()
    with pytest.raises(UserError, match=r"results.json does not exist; run --mode=evaluate"):
        load(tmp_path)


def test_the_command_fails_with_one_sentence(tmp_path):
    command = [sys.executable, "-m", "ser_jax.compare", str(tmp_path / "nowhere")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 1 and run.stdout == ""
    assert run.stderr.startswith("error: ") and run.stderr.count("\n") == 1
