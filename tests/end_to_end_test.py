"""launch.py as a user runs it: the files it writes, and its error messages."""

import csv
import itertools
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).parents[1]


def launch(*arguments: str, module: str = "launch.py") -> subprocess.CompletedProcess:
    start = [module] if module.endswith(".py") else ["-m", module]
    return subprocess.run(
        [sys.executable, *start, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def finished(flags, tmp_path_factory) -> tuple[Path, str]:
    workdir = tmp_path_factory.mktemp("runs") / "run"
    run = launch(*flags, f"--workdir={workdir}")
    assert run.returncode == 0, run.stderr
    return workdir, run.stdout


def test_one_command_prepares_trains_evaluates_and_reports(finished):
    workdir, console = finished
    results = json.loads((workdir / "results.json").read_text())
    assert (results["n_train"], results["n_val"], results["n_test"]) == (24, 24, 24)
    assert results["model"] == "cnn2d" and results["protocol"] == "speaker_kfold"
    assert "synthetic" in results["corpus"] and "human" not in results
    confusion = np.array(results["confusion"])
    assert confusion.sum() == 24
    assert results["accuracy"] == pytest.approx(np.trace(confusion) / 24)
    assert results["replicas"][0]["accuracy"] == results["accuracy"]
    with (workdir / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    right = sum(row["true"] == row["predicted"] for row in rows)
    assert right == np.trace(confusion)
    for row in rows:
        p = [float(row[label]) for label in results["labels"]]
        assert sum(p) == pytest.approx(1, abs=1e-5)
        assert results["labels"][int(np.argmax(p))] == row["predicted"]
    for name in ("curves.png", "confusion.png", "report.md"):
        assert (workdir / "report" / name).stat().st_size > 500
    assert len((workdir / "metrics.jsonl").read_text().splitlines()) == 3
    assert "Test (synthetic" in console


def test_single_modes_equal_the_whole_run(finished, flags, tmp_path):
    whole_run, _ = finished
    for mode in ("prepare", "train", "evaluate", "report"):
        run = launch(*flags, f"--workdir={tmp_path / 'run'}", f"--mode={mode}")
        assert run.returncode == 0, run.stderr
    for name in ("results.json", "predictions.csv"):
        texts = [(workdir / name).read_text() for workdir in (tmp_path / "run", whole_run)]
        # A commit between the two runs changes the version of the code.
        texts = [re.sub('"code": ".*"', "", text) for text in texts]
        assert texts[0] == texts[1]


def test_report_s_command_repeats_the_run_and_a_report_is_of_its_own_run_only(finished, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished[0], workdir)
    command = re.search(
        "^ *(python launch.py .*)$", (workdir / "report/report.md").read_text(), re.M
    )
    _, _, *flags = shlex.split(command[1].replace("<new folder>", str(workdir)))
    before = (workdir / "config.json").read_bytes()
    again = launch(*flags, "--mode=report")
    assert again.returncode == 0, again.stderr
    other = launch(*flags, "--mode=report", "--config.train.dropout=0.35")
    assert "belongs to a run with another config: train.dropout was" in other.stderr
    assert other.returncode == 1 and (workdir / "config.json").read_bytes() == before


def make_corpus(root: Path, emotions: str = "ANG SAD", speakers: str = "1001 1002 1003") -> Path:
    """Short noise clips with CREMA-D's names."""
    root.mkdir()
    random = np.random.default_rng(0)
    for speaker in speakers.split():
        for emotion in emotions.split():
            path = root / f"{speaker}_IEO_{emotion}_HI.wav"
            soundfile.write(path, 0.1 * random.standard_normal(6000), 16_000)
    return root


def lfs_pointers(root: Path) -> Path:
    root.mkdir()
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    # As many as the split and a batch need, which are checked before any audio is read.
    for speaker, emotion in itertools.product(range(1001, 1041), ("ANG", "SAD")):
        (root / f"{speaker}_IEO_{emotion}_HI.wav").write_text(text)
    return root


CREMA_D = ("--config.corpus.name=crema_d", "--config.augmentation.views=()")
KFOLD = ("--config.split.name=speaker_kfold", "--config.split.n_folds=3")
# name → (function that makes corpus.root below tmp_path, extra flags, part of the message)
BAD_INPUT = {
    "no audio": (lambda p: p.mkdir(), CREMA_D, "there are no audio files below"),
    "no folder": (lambda p: None, CREMA_D, "does not exist"),
    "LFS stubs": (
        lfs_pointers,
        (*CREMA_D, "--config.split.name=random_file"),
        "Git LFS pointer, not audio; run `git lfs pull`",
    ),
    "wrong reader": (
        make_corpus,
        (*CREMA_D, "--config.corpus.name=ravdess"),
        "is named like a clip of RAVDESS",
    ),
    "unknown reader": (make_corpus, ("--config.corpus.name=savee",), "corpus.name='savee'"),
    "unknown emotion": (
        lambda p: make_corpus(p, "ANG XYZ"),
        CREMA_D,
        "has the unknown emotion code XYZ",
    ),
    "one class": (lambda p: make_corpus(p, "ANG"), (*CREMA_D, *KFOLD), "single class"),
    "one speaker": (
        lambda p: make_corpus(p, speakers="1001"),
        (*CREMA_D, *KFOLD),
        "the corpus has 1; use --config.split.name=random_file",
    ),
    "a class left out": (make_corpus, (*CREMA_D, *KFOLD), "set without"),
    "batch too large": (
        lambda p: None,
        ("--config.train.batch_size=10000",),
        "batch_size=10000 is larger than the training set",
    ),
    "typo in the config": (
        lambda p: None,
        ("--config.train.epoch=3",),
        "did you mean train.epochs",
    ),
    "wrong type": (lambda p: None, ("--config.train.epochs=many",), "many"),
    "unknown variant": (lambda p: None, ("--config=configs/cnn2d.py:dmeo",), "'dmeo' is unknown"),
    "no such config": (lambda p: None, ("--config=configs/cnn3d.py",), "cnn3d"),
    "unwritable workdir": (lambda p: None, ("--workdir=/proc/here",), "cannot write"),
    "model and input": (lambda p: None, ("--config.input.kind=vector",), "model.name=cnn2d takes"),
    "nothing trained": (lambda p: None, ("--mode=evaluate",), "run with --mode=train first"),
    "nothing evaluated": (lambda p: None, ("--mode=report",), "--mode=train"),
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_gives_one_error_message(name, flags, tmp_path):
    make, extra_flags, message = BAD_INPUT[name]
    root = tmp_path / "corpus"
    make(root)
    if "--config.corpus.name" in " ".join(extra_flags):
        extra_flags = (
            *extra_flags,
            f"--config.corpus.root={root}",
            f"--config.records_dir={tmp_path}/r",
        )
    run = launch(*flags, f"--workdir={tmp_path / 'run'}", *extra_flags)
    assert run.returncode != 0
    assert message in run.stderr
    assert "Traceback" not in run.stderr, run.stderr
    assert not (tmp_path / "run" / "results.json").exists()


def test_a_study_refuses_single_modes(tmp_path):
    study = "--config=configs/study.py:demo"
    run = launch(study, "--mode=train", f"--workdir={tmp_path / 'study'}")
    assert run.returncode == 1
    assert run.stderr == "error: --mode=train applies to a single run; a study runs all steps.\n"
    assert not (tmp_path / "study").exists()


def test_real_recordings_with_ten_speakers_and_the_six_shared_classes(shared_data, tmp_path):
    """A tenth of RAVDESS for one epoch."""
    for actor in range(1, 11):
        folder = tmp_path / "ravdess" / f"Actor_{actor:02}"
        folder.mkdir(parents=True)
        for path in sorted((shared_data / "ravdess" / folder.name).glob("*-01-01-??.flac")):
            shutil.copy(path, folder)
    workdir = tmp_path / "run"
    run = launch(
        "--config=configs/cnn1d.py:librosa",
        "--config.corpus.name=ravdess",
        f"--config.corpus.root={tmp_path / 'ravdess'}",
        "--config.corpus.emotions=('anger','disgust','fear','happiness','neutral','sadness')",
        f"--config.records_dir={tmp_path / 'records'}",
        "--config.augmentation.views=()",
        "--config.split.name=speaker_kfold",
        "--config.model.widths=(8,8,8)",
        "--config.model.dense=16",
        "--config.train.epochs=1",
        f"--workdir={workdir}",
    )
    assert run.returncode == 0, run.stderr
    results = json.loads((workdir / "results.json").read_text())
    assert len(results["labels"]) == 6
    assert results["n_train"] + results["n_val"] + results["n_test"] == 10 * 11
