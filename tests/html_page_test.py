"""The HTML run report as a reader uses it: by mouse and keyboard, wide and narrow."""

import csv
import dataclasses
import json
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile
from report_test import fill, some_epochs, some_human, some_results

from data_prep.prepare import read_corpus
from ser_jax.evaluate import test_set
from ser_jax.metrics.predictions import Predictions
from ser_jax.predict import saliency, trained_model
from ser_jax.report import clip_media, run_report
from ser_jax.report.cells import find_cells
from ser_jax.train import loop
from tests import browser as browsers

NASTY = """../../<script>alert(1)</script>"' & ü"""
VOTES = (3, 0, 1, 0, 0, 2)


@pytest.fixture(scope="module")
def finished(tiny, tiny_records, tmp_path_factory) -> Path:
    """A run with two seeds."""
    config = tiny()
    config.replicas.seeds = 2
    config.train.epochs = 2
    workdir = tmp_path_factory.mktemp("runs") / "run"
    loop.train(config, tiny_records, workdir)
    test_set.evaluate(config, tiny_records, workdir)
    return workdir


@pytest.fixture(scope="module")
def utterances(tiny) -> dict:
    """All have the same votes."""
    corpus = read_corpus(tiny())
    return {u.id: dataclasses.replace(u, votes=VOTES) for u in corpus.utterances}


@pytest.fixture(scope="module")
def index(finished, utterances) -> Path:
    return run_report.write(finished, utterances, 3)


def predicted(workdir: Path) -> dict[str, list[dict]]:
    """predictions.csv's rows by cell, as the page names it."""
    labels = json.loads((workdir / "results.json").read_text())["labels"]
    cells = {}
    with (workdir / "predictions.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            cell = ",".join(str(labels.index(row[key])) for key in ("true", "predicted"))
            cells.setdefault(cell, []).append(row)
    return cells


def largest(workdir: Path) -> str:
    """The cell with the most clips."""
    cells = predicted(workdir)
    return max(cells, key=lambda cell: len({row["id"] for row in cells[cell]}))


def page_data(index: Path) -> dict:
    text = re.search(r'id="cells-data">(.*?)</script>', index.read_text())[1]
    return json.loads(text)


def notes(page) -> str:
    return page.inner_text('section[aria-labelledby="confusion"]')


def copy_run(finished: Path, folder: Path, *ignored: str) -> Path:
    return shutil.copytree(finished, folder, ignore=shutil.ignore_patterns("report", *ignored))


def test_cells_count_the_predictions(browser, finished, index):
    results, cells = json.loads((finished / "results.json").read_text()), predicted(finished)
    with browsers.opened(browser, index) as page:
        rows = page.locator(".matrix").first.locator("tbody tr").all()
        assert len(rows) == 6
        for i, row in enumerate(rows):
            counts = [int(text) for text in row.locator("small").all_inner_texts()]
            assert counts == results["confusion"][i]
            assert sum(counts) == int(row.locator(".total").inner_text())
        buttons = page.locator("button[data-cell]").all()
        assert {button.get_attribute("data-cell") for button in buttons} == set(cells)
        name = page.get_attribute(f'button[data-cell="{largest(finished)}"]', "aria-label")
        assert name.endswith(f"{len(cells[largest(finished)])} predictions")


def test_click_lists_the_clips_of_a_cell_most_confident_first(browser, finished, index):
    cell = largest(finished)
    rows, label = predicted(finished)[cell], predicted(finished)[cell][0]["predicted"]
    confidences = {
        clip: np.mean([float(row[label]) for row in rows if row["id"] == clip])
        for clip in {row["id"] for row in rows}
    }
    expected = sorted(confidences, key=lambda clip: (-confidences[clip], clip))
    with (finished / "predictions.csv").open(newline="") as file:
        mine = [row for row in csv.DictReader(file) if row["id"] == expected[0]]
    with browsers.opened(browser, index) as page:
        assert page.is_hidden("#clips")
        page.click(f'button[data-cell="{cell}"]')
        assert page.locator("#clips-list h3").all_inner_texts() == expected[:3]
        summary = page.inner_text("#clips-summary")
        assert f"{len(rows)} predictions of {len(expected)} clips" in summary
        assert (f"3 of {len(expected)} clips; predictions.csv has all" in summary) == (
            len(expected) > 3
        )
        first = page.locator("#clips-list > li").first
        assert f"speaker {mine[0]['speaker']}" in first.inner_text()
        assert "sentence" in first.inner_text() and "level" in first.inner_text()
        n_replicas = sum(row["predicted"] == label for row in mine)
        assert (
            f"by {n_replicas} of 2 replicas, confidence {100 * confidences[expected[0]]:.1f} %"
            in (first.inner_text())
        )
        bars, votes = first.locator("table.bars").all()
        names = json.loads((finished / "results.json").read_text())["labels"]
        means = [np.mean([float(row[name]) for row in mine]) for name in names]
        assert bars.locator(".number").all_inner_texts() == [f"{100 * p:.1f} %" for p in means]
        assert bars.locator(".marked th").inner_text() == label
        assert votes.locator(".number").all_inner_texts() == [str(n) for n in VOTES]
        widths = [box.bounding_box()["width"] for box in votes.locator(".bar").all()]
        assert widths[0] == pytest.approx(3 * widths[2], rel=0.05) and widths[1] <= 1


def test_keyboard_moves_focus_to_the_list_and_back(browser, finished, index):
    cell = largest(finished)
    focused = "document.activeElement.id || document.activeElement.dataset.cell"
    with browsers.opened(browser, index) as page:
        page.focus(f'button[data-cell="{cell}"]')
        page.keyboard.press("Enter")
        assert page.evaluate(focused) == "clips-heading"
        assert page.get_attribute(f'button[data-cell="{cell}"]', "aria-pressed") == "true"
        page.keyboard.press("Escape")
        assert page.evaluate(focused) == cell and page.is_hidden("#clips")
        page.keyboard.press("Space")
        page.focus("#clips-back")
        page.keyboard.press("Enter")
        assert page.evaluate(focused) == cell and page.is_hidden("#clips")
        assert page.locator('[aria-pressed="true"]').count() == 0


def test_clips_play_and_pictures_have_alt_texts(browser, finished, utterances, index):
    cell = largest(finished)
    with browsers.opened(browser, index) as page:
        page.click(f'button[data-cell="{cell}"]')
        clip = page.locator("#clips-list h3").first.inner_text()
        seconds = soundfile.info(utterances[clip].path).duration
        duration, heard = browsers.played(page, "#clips-list audio")
        assert duration == pytest.approx(seconds, abs=0.01) and heard > 0
        browsers.load_pictures(page)
        alt = page.locator("#clips-list img").first.get_attribute("alt")
        first, end = map(float, re.search(r"lies between ([\d.]+) and ([\d.]+) s\.$", alt).groups())
        assert 0 <= first < end <= round(seconds, 2)
        assert clip in alt and "MFCC plane" in alt
        assert "half of the pictures miss it by less than" in notes(page)


@pytest.mark.parametrize("size", [browsers.WIDE, browsers.NARROW])
def test_page_passes_axe_and_fits_the_window_open_and_closed(browser, finished, index, size):
    with browsers.opened(browser, index, size) as page:
        assert browsers.violations(page) == []
        page.click(f'button[data-cell="{largest(finished)}"]')
        assert browsers.violations(page) == [] and browsers.overflow(page) <= 0


def test_without_audio_the_page_is_complete_and_says_why(browser, finished, tmp_path):
    workdir = copy_run(finished, tmp_path / "run")
    with browsers.opened(browser, run_report.write(workdir)) as page:
        assert "the recordings were not available" in notes(page)
        page.click(f'button[data-cell="{largest(finished)}"]')
        assert page.locator("#clips-list h3").count() > 3
        assert page.locator("#clips audio, #clips img").count() == 0
    assert not list((workdir / "report").glob("clips-*"))


def test_one_of_several_processes_writes_no_clips(finished, utterances, tmp_path, monkeypatch):
    """Reading the checkpoint alone would wait for the others for ever."""
    workdir = copy_run(finished, tmp_path / "run")
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.delattr(trained_model, "load")
    assert (
        "one of several processes wrote this page"
        in run_report.write(workdir, utterances).read_text()
    )


def test_without_a_checkpoint_only_saliency_is_missing(browser, finished, utterances, tmp_path):
    workdir = copy_run(finished, tmp_path / "run", "checkpoints")
    tested = sorted({row["id"] for row in predicted(workdir)[largest(workdir)]})
    known = {clip: utterances[clip] for clip in tested[:3]}
    lost = tested[1]
    known[lost] = dataclasses.replace(known[lost], path=tmp_path / "gone.wav")
    index = run_report.write(workdir, known, 0)
    clips = page_data(index)["clips"].values()
    assert {c["id"] for c in clips if c["player"]} == {c["id"] for c in clips} & set(known) - {lost}
    failures = {c["id"]: c["failure"] for c in clips if not c["player"]}
    assert "gone.wav does not exist" in failures[lost]
    with browsers.opened(browser, index) as page:
        assert "There is no saliency: " in notes(page) and "no trained model" in notes(page)
        cell = largest(finished)
        page.click(f'button[data-cell="{cell}"]')
        shown = {row["id"] for row in predicted(finished)[cell]}
        assert page.locator("#clips audio").count() == len(shown & set(known) - {lost})
        assert "saliency" not in page.locator("#clips img").first.get_attribute("alt")


def test_run_without_predictions_has_matrices_without_buttons(browser, tmp_path):
    results = some_results(seeds=(1, 2), human=some_human(), labels=["a", "b", *"cdef"])
    fill(tmp_path, some_epochs(3) + some_epochs(3, 1), results)
    with browsers.opened(browser, run_report.write(tmp_path), browsers.NARROW) as page:
        assert "there is no predictions.csv" in notes(page)
        assert page.locator("button").count() == 0
        model, human, more = page.locator(".matrix").all()
        assert human.locator("tbody td").first.inner_text() == "55 %"  # 6 of 11 votes
        shares = [
            float(matrix.locator("tbody td").first.inner_text().split()[0])
            for matrix in (model, human)
        ]
        text = more.locator("tbody td").first.inner_text().replace("−", "-")
        assert float(text) == pytest.approx(shares[0] - shares[1], abs=1)
        assert browsers.violations(page) == [] and browsers.overflow(page) <= 0


def test_names_are_shown_but_neither_executed_nor_followed(browser, finished, utterances, tmp_path):
    """A clip id, a label and an attribute that contain markup and a path out of the folder."""
    workdir = copy_run(finished, tmp_path / "run")
    with (workdir / "predictions.csv").open(newline="") as file:
        columns, *rows = csv.reader(file)
    clip, label = rows[0][1], rows[0][3]
    renamed = {clip: NASTY, label: f"{NASTY} label"}
    with (workdir / "predictions.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [[renamed.get(x, x) for x in columns]] + [[renamed.get(x, x) for x in r] for r in rows]
        )
    text = (workdir / "results.json").read_text()
    (workdir / "results.json").write_text(
        text.replace(json.dumps(label), json.dumps(f"{NASTY} label"))
    )
    one = dataclasses.replace(utterances[clip], attributes={NASTY: NASTY})
    before = {path for path in tmp_path.rglob("*") if "report" not in path.parts}
    index = run_report.write(workdir, {NASTY: one}, 0)
    after = {path for path in tmp_path.rglob("*") if "report" not in path.parts}
    assert after == before
    assert "the checkpoint has other classes" in index.read_text()
    assert index.read_text().count("<script") == 2  # the data, and result.js
    with browsers.opened(browser, index) as page:
        true, taken = rows[0][3], rows[0][4]
        cell = ",".join(str(columns[5:].index(name)) for name in (true, taken))
        page.click(f'button[data-cell="{cell}"]')
        assert f"{NASTY} label" in page.inner_text("#clips-heading")
        heading = page.get_by_role("heading", name=NASTY, exact=True)
        card = page.locator("#clips-list > li").filter(has=heading)
        assert card.count() == 1
        assert f"{NASTY} {NASTY}" in card.inner_text()
        assert browsers.violations(page) == []


def test_previous_page_stays_until_the_new_one_is_complete(
    finished, utterances, tmp_path, monkeypatch
):
    workdir = copy_run(finished, tmp_path / "run")
    playable = {row["id"] for row in predicted(workdir)[largest(workdir)][:3]}
    utterances = {clip: utterances[clip] for clip in playable}
    index = run_report.write(workdir, utterances, 0)
    clips = page_data(index)["clips"]
    assert {clip for clip in clips if clips[clip]["player"]} == playable
    (folder,) = index.parent.glob("clips-*")
    old, text = {path.name for path in folder.iterdir()}, index.read_text()
    (folder / "mine.txt").write_text("a note")

    def fail(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(saliency, "integrated_gradients", fail)
        with pytest.raises(KeyboardInterrupt):
            run_report.write(workdir, utterances, 0)
    assert index.read_text() == text
    assert {path.name for path in index.parent.glob("clips-*")} == {folder.name}
    assert {path.name for path in folder.iterdir()} == old | {"mine.txt"}
    run_report.write(workdir, utterances, 0)
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]  # not written by the report
    players = {clip["player"] for clip in page_data(index)["clips"].values()} - {""}
    assert len(players) == len(playable) and all((index.parent / p).is_file() for p in players)


def test_page_warns_if_predictions_have_changed(finished, utterances, tmp_path, monkeypatch):
    monkeypatch.setattr(clip_media, "CHANGED", 1e-4)
    workdir, words = (
        copy_run(finished, tmp_path / "run"),
        "checkpoint or the recordings have changed",
    )
    assert words not in run_report.write(workdir, utterances, 1).read_text()
    other = dict(zip(utterances, list(utterances.values())[1:], strict=False))
    assert words in run_report.write(workdir, other, 1).read_text()


def test_integrated_gradients_of_a_trained_run_add_up(finished, utterances):
    model = trained_model.load(finished)
    waveforms = [soundfile.read(u.path, dtype="float32")[0] for u in utterances.values()][:16]
    waveform_BxS = np.zeros((16, max(map(len, waveforms))), np.float32)
    for row_S, waveform_S in zip(waveform_BxS, waveforms, strict=True):
        row_S[: len(waveform_S)] = waveform_S
    batch = model.examples(waveform_BxS, np.array([len(w) for w in waveforms]))
    gradient = saliency.make_gradient(model)
    for weights in model.weights:
        result = saliency.integrated_gradients(gradient, weights, *batch, np.zeros(16, int), 64)
        assert result.values_BxTxF.shape == batch[0].shape
        assert np.median(np.abs(result.gap_B / result.change_B)) < 0.05
    assert gradient._cache_size() == 1  # one program for all replicas


def test_cells_of_folds_count_the_replicas_that_tested_a_clip():
    """Clip b is in the test part of replica 1 only."""
    probability_PxC = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    predictions = Predictions(
        replica_P=np.array([0, 1, 1]),
        clip_P=np.array(["a", "a", "b"]),
        speaker_P=np.array(["x", "x", "y"]),
        label_P=np.array([0, 0, 0]),
        probability_PxC=probability_PxC,
    )
    cells = find_cells(predictions)
    assert set(cells) == {(0, 0), (0, 1)}
    (a,), (b,) = cells[0, 0].listed, cells[0, 1].listed
    assert (cells[0, 0].n_predictions, cells[0, 0].n_clips) == (2, 1)
    assert a.confidences == {0: 0.9, 1: 0.6} and a.confidence == pytest.approx(0.75)
    assert (a.n_replicas, b.n_replicas, b.speaker) == (2, 1, "y")
    np.testing.assert_allclose(a.probability_C, [0.75, 0.25])
    np.testing.assert_allclose(b.probability_C, [0.2, 0.8])
