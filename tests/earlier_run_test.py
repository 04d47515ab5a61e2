"""Records, runs and exported files of an earlier commit are found, resumed, evaluated and opened.

tests/data/earlier_run.zip was written by the commit before ser_jax was divided into packages: two
epochs of two seeds of a tiny 2D CNN on `write_corpus`, its records and its export.
"""

import csv
import json
import shutil
import wave
import zipfile
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import cnn2d
from data_prep.prepare import prepare
from ser_jax.audio import waveform
from ser_jax.evaluate import test_set
from ser_jax.predictor import Predictor
from ser_jax.train import loop

EARLIER = Path(__file__).parent / "data" / "earlier_run.zip"


def write_corpus(root: Path) -> None:
    """Write 24 clips of six speakers: integer sawtooths, the same bytes on every machine."""
    root.mkdir()
    rows = ["path,emotion,speaker"]
    for number in range(24):
        speaker, emotion = number // 4, number % 2
        period = 40 + 5 * speaker + 30 * emotion + number % 3
        samples = (np.arange(8000, dtype=np.int64) % period * 400 - 200 * period).astype("<i2")
        name = f"clip{number:02}.wav"
        with wave.open(str(root / name), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            file.writeframes(samples.tobytes())
        rows.append(f"{name},{('calm', 'loud')[emotion]},speaker{speaker}")
    (root / "clips.csv").write_text("\n".join(rows) + "\n")


def earlier_config(epochs: int) -> ConfigDict:
    """The config of the run, which paths make relative to the present folder."""
    config = cnn2d.get_config()
    config.name = "earlier"
    config.corpus.update(name="csv", root="corpus/clips.csv")
    config.records_dir = "records"
    config.split.update(name="speaker_kfold", n_folds=3)
    config.features.update(n_mels=12, n_mfcc=6, hop_length=512, frame_length=1024, n_fft=1024)
    config.augmentation.views = ("noise",)
    config.model.update(widths=(4, 4), kernels=(3, 3), dense=8, batch_norm_momentum=0.9)
    config.train.update(epochs=epochs, batch_size=8)
    config.evaluate.batch_size = 8
    config.replicas.seeds = 2
    return config.lock()


@pytest.fixture
def earlier(tmp_path, monkeypatch) -> Path:
    """The folder that held corpus, records, run and export, which is also the present one."""
    with zipfile.ZipFile(EARLIER) as archive:
        archive.extractall(tmp_path)
    write_corpus(tmp_path / "corpus")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def probabilities(workdir: Path) -> np.ndarray:
    with (workdir / "predictions.csv").open(newline="") as file:
        return np.array([[row["calm"], row["loud"]] for row in csv.DictReader(file)], float)


def epochs_of(workdir: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl without what a clock says."""
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [
        {k: v for k, v in line.items() if k not in ("seconds", "examples_per_second")}
        for line in lines
    ]


def test_records_are_found_and_a_run_is_evaluated(earlier):
    records = prepare(earlier_config(2))
    assert [path.parent.name for path in earlier.glob("records/*/*/*")] == [records.parent.name]
    stored_p = probabilities(earlier / "run")
    stored = json.loads((earlier / "run" / "results.json").read_text())
    for name in ("predictions.csv", "results.json"):
        (earlier / "run" / name).unlink()
    test_set.evaluate(earlier_config(2), records, earlier / "run")
    np.testing.assert_allclose(probabilities(earlier / "run"), stored_p, atol=2e-6)
    results = json.loads((earlier / "run" / "results.json").read_text())
    assert results.keys() - {"provenance", "ensemble", "n_left_out", "targets"} == stored.keys()
    assert results["provenance"]["training"] is None
    for key in ("confusion", "protocol", "labels", "n_test"):
        assert results[key] == stored[key]


def test_records_of_other_libraries_are_found_and_said_to_be(earlier, monkeypatch, capsys):
    here = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "9.9" if name == "numpy" else here(name))
    records = prepare(earlier_config(2))
    assert [path.parent for path in earlier.glob("records/*/*/*/metadata.json")] == [
        Path.cwd() / records
    ]
    assert "They were computed with numpy 2.4.6" in capsys.readouterr().out
    shutil.rmtree("corpus")
    assert prepare(earlier_config(2)) == records
    assert "They were computed with numpy 2.4.6" in capsys.readouterr().out


def test_a_run_is_resumed_as_if_it_had_never_been_interrupted(earlier):
    records, before = prepare(earlier_config(3)), epochs_of(earlier / "run")
    loop.train(earlier_config(3), records, earlier / "run")
    loop.train(earlier_config(3), records, earlier / "uninterrupted")
    resumed, uninterrupted = epochs_of(earlier / "run"), epochs_of(earlier / "uninterrupted")
    assert len(before) == 4 and len(resumed) == 6 and resumed[:4] == before
    for ours, theirs in zip(resumed, uninterrupted, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)


def test_an_exported_file_predicts_what_its_run_predicts(earlier):
    from_export, from_run = Predictor("emotion.zip"), Predictor("run")
    for number in (12, 13, 18):  # two of the test speakers, one of another part
        samples = waveform.load(Path(f"corpus/clip{number}.wav"), 16_000)
        ours, theirs = from_run(samples, 16_000), from_export(samples, 16_000)
        np.testing.assert_allclose(ours.probability_RxC, theirs.probability_RxC, atol=1e-5)
