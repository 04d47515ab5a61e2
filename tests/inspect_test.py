"""The page about a corpus: its numbers, its sample, its use in a browser, its replacement."""

import csv
import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_prep import corpora
from data_prep.augmentation.views import Augmentation, augment
from data_prep.inspect import counts, distributions, measure, samples
from data_prep.inspect.inspection import inspect
from data_prep.prepare import read_corpus
from ser_jax.audio import waveform
from ser_jax.common.errors import UserError
from ser_jax.pages import html
from tests import browser as browsers

ROOT = Path(__file__).parents[1]
NASTY = """<script>document.title = "run"</script> & "quoted" 'name'"""


@pytest.fixture(scope="module")
def page(tiny, tmp_path_factory):
    """(config, index.html) of the synthetic corpus, with two clips per emotion."""
    out = tmp_path_factory.mktemp("page") / "inspect"
    return tiny(), inspect(tiny(), out, 2)


def numbers_of(index):
    return json.loads((index.parent / "inspect.json").read_text())


def test_measurements_equal_those_of_the_samples(page):
    config, index = page
    paths = {u.id: u.path for u in read_corpus(config).utterances}
    clips = numbers_of(index)["clips"]
    assert len(clips) == len(paths) == 72
    for clip in clips[::9]:
        x, rate = soundfile.read(paths[clip["id"]])
        frames = [x[i : i + rate // 40] for i in range(0, len(x), rate // 40)]
        level = np.array([np.mean(f**2) for f in frames])
        expected = {
            "seconds": len(x) / rate,
            "sampling_rate": rate,
            "peak_db": 20 * np.log10(np.abs(x).max()),
            "rms_db": 10 * np.log10(np.mean(x**2)),
            "silence": np.mean(level <= level.max() / 1e4),
        }
        assert {key: clip[key] for key in expected} == pytest.approx(expected, abs=1e-4)


def test_silence_counts_frames_far_below_the_loudest():
    loud, quiet = np.full(400, 0.5, np.float32), np.full(400, 0.004, np.float32)
    half = measure.measure(np.concatenate([loud, quiet, quiet, loud]), 16_000)
    assert half.silence == 0.5 and half.peak_db == pytest.approx(-6.02, abs=0.01)
    zeros = measure.measure(np.zeros(100, np.float32), 16_000)
    assert (zeros.silence, zeros.peak_db, zeros.rms_db) == (1.0, -120.0, -120.0)


def test_sample_is_seeded_and_has_different_speakers(page):
    config, index = page
    corpus = read_corpus(config)
    chosen = samples.choose(corpus.utterances, corpus.labels, 3, seed=0)
    assert [u.emotion for u in chosen] == [label for label in corpus.labels for _ in range(3)]
    assert all(len({u.speaker for u in chosen[i : i + 3]}) == 3 for i in range(0, 18, 3))
    assert chosen == samples.choose(corpus.utterances[::-1], corpus.labels, 3, seed=0)
    assert chosen != samples.choose(corpus.utterances, corpus.labels, 3, seed=1)
    everything = samples.choose(corpus.utterances, corpus.labels, 99, seed=0)
    assert sorted(everything, key=lambda u: u.id) == list(corpus.utterances)


def test_audio_of_the_sample_equals_the_views(page):
    config, index = page
    waveforms = {u.id: waveform.load(u.path, 16_000) for u in read_corpus(config).utterances}
    augmentation = Augmentation(**config.augmentation)
    for card in numbers_of(index)["sample"][::5]:
        assert set(card["views"]) == {"original", "noise"}
        for view, shown in card["views"].items():
            clip = card["id"]
            expected = augment(augmentation, view, waveforms[clip], 16_000, clip)
            actual, rate = soundfile.read(index.parent / shown["audio"], dtype="float32")
            assert rate == 16_000 and np.abs(actual - np.clip(expected, -1, 1)).max() < 2 / 2**15
        snr = float(card["views"]["noise"]["what"].split()[2])
        assert 9 <= snr <= 31


def test_page_sorts_filters_and_plays(page, browser):
    _, index = page
    with browsers.opened(browser, index) as shown:
        assert shown.inner_text("h1").startswith("synthetic voices (not speech)")
        assert shown.inner_text("#clips-count") == "72 clips; 1 to 72 shown."
        durations = "#clips tbody tr td:nth-last-child(5)"
        shown.click("#clips thead button >> text=duration")
        upward = [float(t) for t in shown.locator(durations).all_inner_texts()]
        shown.keyboard.press("Enter")  # the button still has the focus
        downward = [float(t) for t in shown.locator(durations).all_inner_texts()]
        assert upward == sorted(upward) and downward == upward[::-1] and len(set(upward)) > 5
        assert shown.locator("#clips [aria-sort=descending]").count() == 1
        shown.select_option("#clips-filter select >> nth=0", label="anger")
        assert shown.inner_text("#clips-count").startswith("12 clips;")
        speaker = shown.inner_text("#clips tbody tr td:nth-of-type(2) >> nth=0")
        shown.select_option("#clips-filter select >> nth=1", label=speaker)
        assert shown.inner_text("#clips-count").startswith("2 clips;")
        shown.fill("#clips-filter input", "no such clip")
        assert shown.inner_text("#clips-count") == "No matching clip."

        assert shown.inner_text("#sample-count") == "12 clips shown."
        shown.select_option("#sample-filter select >> nth=0", label="fear")
        assert shown.locator("#sample > li").count() == 2
        shown.select_option("#sample-filter select >> nth=0", label="all")
        shown.select_option("#sample-filter select >> nth=2", label="speaker")
        facts = shown.locator("#sample > li > p:first-of-type").all_inner_texts()
        assert facts == sorted(facts, key=lambda text: text.split(" · ")[0])
        duration, position = browsers.played(shown)
        assert duration > 0.3 and position > 0.1


def test_page_is_accessible_and_fits_narrow_and_wide_windows(page, browser):
    _, index = page
    for size in (browsers.WIDE, browsers.NARROW):
        with browsers.opened(browser, index, size) as shown:
            shown.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
            browsers.load_pictures(shown)
            assert browsers.violations(shown) == []
            assert browsers.overflow(shown) <= 0


def write_table(folder, made_corpus, n_rows=250):
    """Write a csv corpus with markup in names, a bad file and more clips than rows per page."""
    wav = sorted(made_corpus.rglob("*.wav"))[0]
    folder.mkdir()
    with (folder / "corpus.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "emotion", "speaker", "room & <b>", "seconds", "said"])
        for i in range(n_rows):
            name = f"{i:03} <b>&'{i}'.wav"
            shutil.copy(wav, folder / name)
            emotion = "brief" if i == 10 else f"{NASTY} {i % 2}"
            rows.writerow([name, emotion, NASTY, f"<i>{i % 3}", NASTY, f"{i} words"])
    (folder / "007 <b>&'7'.wav").write_text("no audio")
    soundfile.write(folder / "008 <b>&'8'.wav", np.zeros(4000), 16_000)
    soundfile.write(folder / "009 <b>&'9'.wav", np.full(4000, 1 - 2**-15), 16_000)
    soundfile.write(folder / "010 <b>&'10'.wav", np.full(1, 0.5), 48_000)
    return folder / "corpus.csv"


def test_names_are_escaped_bad_files_reported_and_rows_paged(tiny, made_corpus, tmp_path, browser):
    config = tiny().copy_and_resolve_references()
    config.corpus.update(name="csv", root=str(write_table(tmp_path / "mine", made_corpus)))
    index = inspect(config, tmp_path / "out", 1)
    numbers = numbers_of(index)
    assert {card["emotion"] for card in numbers["sample"]} == {f"{NASTY} 0", f"{NASTY} 1"}
    assert len(numbers["unreadable"]) == 1 and numbers["clips"][7]["seconds"] is None
    with browsers.opened(browser, index) as shown:
        assert "corpus overview" in shown.title()
        assert shown.locator("#clips tbody tr").count() == 100
        assert NASTY in shown.inner_text("#clips tbody")
        assert "not decoded" in shown.inner_text("#clips tbody")
        shown.click("#clips-next")
        shown.click("#clips-next")
        assert shown.inner_text("#clips-count") == "250 clips; 201 to 250 shown."
        assert shown.is_disabled("#clips-next") and not shown.is_disabled("#clips-previous")
        assert browsers.violations(shown) == []
        shown.fill("#clips-filter input", "00")  # clips 0 to 9, and 100 and 200
        bad = "td:text-is('not decoded')"
        for last in ("not decoded", "not decoded"):  # upward, and downward
            shown.click("#clips thead button >> text=peak level")
            peaks = shown.locator("#clips tbody td:nth-last-child(3)").all_inner_texts()
            assert peaks[-1] == last and peaks.count(last) == 1
        assert "0.0" in peaks and "-0.0" not in peaks and shown.locator(bad).count() == 5
    text = index.read_text()
    assert text.count("<tr>") < 100 and "said: 250 different values" in text


def test_values_are_counted_in_order_and_many_numbers_by_tens():
    def count(values):
        clips = [{"emotion": "b", "speaker": "1", "attributes": {"seconds": v}} for v in values]
        return counts.count_values(clips, ["a", "b"])

    counted = count(["10", "9", "", "9"])
    assert list(counted["emotion"].items()) == [("a", 0), ("b", 4)]
    assert list(counted["seconds"].items()) == [("", 1), ("9", 2), ("10", 1)]
    assert list(count(["10", "9", "x"])["seconds"]) == ["10", "9", "x"]
    many = count([*map(str, range(5, 45)), "", "007"])["seconds"]
    tens = {"": 1, "0 to 9": 6, "10 to 19": 10, "20 to 29": 10, "30 to 39": 10, "40 to 49": 5}
    assert list(many.items()) == list(tens.items())


def test_clip_of_zeros_is_left_out_of_the_level_charts(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        "data_prep.inspect.figures.histogram",
        lambda quantity, values: drawn.update({quantity.title: values}) or NoPicture(),
    )
    measures = [measure.measure(np.float32([x, 0]), 8000) for x in (0, 0.1, 0.2)]
    blocks = distributions.blocks(tmp_path, [dataclasses.asdict(m) for m in measures])
    page = "".join(map(html.render, blocks))
    assert len(drawn["Peak level"]) == len(drawn["RMS level"]) == 2
    assert min(drawn["Peak level"]) > -30
    assert "1 clip of zeros" in page and "−120.0" in page


class NoPicture:
    def savefig(self, path, **_):
        path.touch()


def test_older_page_is_replaced_and_other_files_are_not(tiny, tmp_path):
    out = tmp_path / "inspect"
    inspect(tiny(), out, 1)
    for name in ("notes.txt", "audio/mine.flac", "ravdess/inspect.json"):
        mine = out / name
        mine.parent.mkdir(exist_ok=True)
        mine.write_text("mine")
        with pytest.raises(UserError, match="does not belong to it"):
            inspect(tiny(), out, 0)
        assert mine.read_text() == "mine"
        mine.unlink()
    (out / "ravdess").rmdir()
    inspect(tiny(), out, 0)
    assert numbers_of(out / "index.html")["sample"] == [] and not list(out.glob("*/*"))
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="mine/thesis.txt does not belong to it"):
        inspect(tiny(), mine, 1)
    assert (mine / "thesis.txt").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["inspect", "mine"]


def test_failure_keeps_the_older_page(tiny, tmp_path, monkeypatch):
    index = inspect(tiny(), tmp_path / "inspect", 0)
    before = index.read_bytes()
    monkeypatch.setattr("data_prep.inspect.page.write", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        inspect(tiny(), tmp_path / "inspect", 0)
    assert index.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["inspect"]


def test_command_line_errors_are_one_line(tmp_path):
    def run(*arguments):
        command = [sys.executable, "-m", "data_prep.inspect", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    config, out = "--config=configs/cnn2d.py", f"--out={tmp_path / 'page'}"
    for arguments, message in (
        ((config,), "out"),
        ((config, out, "--config.corpus.rooot=x"), "rooot"),
        ((config, out, f"--config.corpus.root={tmp_path / 'none'}"), "does not exist"),
        ((config, out, "stray"), "is not a flag"),
    ):
        process = run(*arguments)
        assert process.returncode == 1 and message in process.stderr, process.stderr
        assert "Traceback" not in process.stderr
    assert "--clips" in run("--help").stdout


def test_metadata_of_a_clip_is_json_without_infinity():
    clip = corpora.Utterance("a", Path("a.wav"), "joy", "anna", place="corpus.csv, line 2")
    text = json.dumps(samples.metadata(clip), allow_nan=False)
    assert json.loads(text).keys() == {"id", "emotion", "speaker", "attributes", "votes"}
