"""ser_jax.predict: one row per file, even if it is damaged, in every format."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile

from ser_jax.audio import files, waveform
from ser_jax.audio.listing import audio_in
from ser_jax.common import runtime
from ser_jax.common.errors import UserError
from ser_jax.features import FeatureSpec
from ser_jax.predict import __main__, backends
from ser_jax.predict import rows as predict_rows
from ser_jax.predict.predictor import Predictor

ROOT = Path(__file__).parents[1]
RATE = 16_000


class LoudOrQuiet:
    """A Backend that classifies clips as loud or quiet; the first replica is more confident.

    Its input is 2 s; the shortest training clip was 0.2 s.
    """

    corpus, labels, spec = "tones", ("loud", "quiet"), FeatureSpec()
    min_frames, max_frames, failed = 21, 200, ()

    def __call__(self, waveform_BxS, n_samples_B):
        power_B = np.square(waveform_BxS).sum(axis=1) / n_samples_B
        confidence_RxB = np.array([[0.9], [0.7]]) * np.ones(len(power_B))
        loud_RxB = np.where(power_B > 0.01, confidence_RxB, 1 - confidence_RxB)
        return np.stack([loud_RxB, 1 - loud_RxB], axis=-1).astype(np.float32)


class OneReplica(LoudOrQuiet):
    def __call__(self, waveform_BxS, n_samples_B):
        return super().__call__(waveform_BxS, n_samples_B)[:1]


@pytest.fixture(autouse=True)
def no_trained_model(monkeypatch):
    monkeypatch.setattr(backends, "load", lambda source: LoudOrQuiet())


def tone(seconds: float, amplitude: float) -> np.ndarray:
    return amplitude * np.sin(np.arange(round(seconds * RATE)) / 5)


def write(path: Path, waveform_S: np.ndarray, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, waveform_S, rate, format="WAV" if not path.suffix else None)
    return path


def run(*arguments, out: Path | None = None) -> int:
    flags = ["--workdir=x", *map(str, arguments)]
    return __main__.main([*flags, f"--out={out}"] if out else flags)


def csv_rows(path: Path) -> list[dict]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


ODD = ('new\nline, "x".wav', "carriage\rreturn.wav", "=1+1.wav")


@pytest.fixture
def folder(tmp_path) -> Path:
    """All kinds of files; the readable ones are loud."""
    folder = tmp_path / "clips"
    for name in ("b.wav", "a/z.WAV", *ODD, "no_ending", ".hidden.wav"):
        write(folder / name, tone(1, 0.5))
    for name in ("c.flac", "d.ogg", "e.mp3"):
        soundfile.write(folder / name, np.stack([tone(1, 0.5)] * 2, axis=1), 44_100)
    (folder / "stub.wav").write_text("version https://git-lfs.github.com/spec/v1\n")
    (folder / "text.wav").write_text("no sound at all\n" * 20)
    (folder / "empty.wav").touch()
    whole = (folder / "b.wav").read_bytes()
    (folder / "header.wav").write_bytes(whole[:30])
    (folder / "truncated.wav").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.txt").write_text("not audio")
    os.symlink("nowhere", folder / "dangling.wav")
    (folder / os.fsdecode(b"caf\xe9.wav")).write_bytes(whole)
    return folder


BAD = {"stub.wav", "text.wav", "empty.wav", "header.wav", "dangling.wav"}
GOOD = {"b.wav", "z.WAV", *ODD, "c.flac", "d.ogg", "e.mp3", "caf\\udce9.wav"}


def test_every_file_has_a_row_and_bad_files_do_not_stop_the_others(folder, tmp_path, capsys):
    out = tmp_path / "rows.csv"
    assert run(folder, "--format=csv", out=out) == 1
    rows = csv_rows(out)
    paths = [row["path"] for row in rows]
    assert paths == sorted(paths, key=lambda path: path.split("/"))
    status = {Path(row["path"]).name: row["status"] for row in rows}
    assert {name for name, s in status.items() if s == "error"} == BAD
    assert {name for name, s in status.items() if s == "ok"} == GOOD | {"truncated.wav"}
    for row in rows:
        if row["status"] == "ok":
            assert row["emotion"] == "loud" and float(row["confidence"]) == 0.8
            assert float(row["disagreement"]) == 0 and float(row["quiet"]) == 0.2
        else:
            assert row["emotion"] == row["loud"] == "" and row["note"].endswith(".")
    assert "Git LFS pointer" in next(row["note"] for row in rows if "stub" in row["path"])
    note = {Path(row["path"]).name: row["note"] for row in rows}
    missing = (folder / "b.wav").stat().st_size - (folder / "truncated.wav").stat().st_size
    assert note["truncated.wav"] == f"cut short: {missing:,} bytes are missing"
    assert note["b.wav"] == ""
    assert f"{len(rows)} files, {len(BAD)} of them could not be read" in capsys.readouterr().err


def test_a_single_replica_does_not_agree_with_itself(tmp_path, monkeypatch):
    path, out = write(tmp_path / "a.wav", tone(1, 0.5)), tmp_path / "rows"
    monkeypatch.setattr(backends, "load", lambda source: OneReplica())
    assert run(path, "--format=csv", out=out) == 0 and csv_rows(out)[0]["disagreement"] == ""
    assert run(path, "--format=jsonl", out=out) == 0
    assert json.loads(out.read_text())["disagreement"] is None
    assert run(path, out=out) == 0 and out.read_text().split()[-7:] == "loud 90 % 90 % 10 %".split()


@pytest.mark.parametrize(
    ("typed", "name"),
    [("/bin/ser-predict", "ser-predict"), ("x/__main__.py", "python -m ser_jax.predict")],
)
def test_the_usage_names_the_command_that_was_typed(typed, name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [typed])
    with pytest.raises(SystemExit):
        run("--help")
    assert capsys.readouterr().out.startswith(f"usage: {name} [-h]")


def test_rows_follow_the_order_of_the_arguments_with_repetitions(folder, tmp_path):
    out = tmp_path / "rows.jsonl"
    arguments = [folder / "no_ending", folder / "b.wav", folder / "a", folder / "b.wav"]
    assert run(*arguments, folder / "?.flac", "--format=jsonl", out=out) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    expected = ["no_ending", "b.wav", "a/z.WAV", "b.wav", "c.flac"]
    assert [row["path"] for row in rows] == [str(folder / name) for name in expected]
    assert rows[0]["probabilities"] == {"loud": 0.8, "quiet": 0.2} and rows[0]["note"] == ""


def test_a_list_on_stdin(folder, tmp_path, monkeypatch):
    lines = f"{folder / 'b.wav'}\n\n{folder / 'a'}\r\n".encode() + os.fsencode(folder) + b"/x[1]\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    out = tmp_path / "rows.csv"
    assert run(folder / "c.flac", "-", "--format=csv", out=out) == 1
    names = [(Path(row["path"]).name, row["status"]) for row in csv_rows(out)]
    assert names == [("c.flac", "ok"), ("b.wav", "ok"), ("z.WAV", "ok"), ("x[1]", "error")]


def test_arguments_without_audio_are_reported(tmp_path, monkeypatch, capsys):
    (tmp_path / "none").mkdir()
    assert run(tmp_path / "none", tmp_path / "*.wav", tmp_path / "gone.wav") == 1
    table = capsys.readouterr().out
    assert "holds no audio file" in table and "matches no audio file" in table
    assert "does not exist" in table
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n")))
    with pytest.raises(UserError, match="the list on stdin names no file"):
        run("-")


def test_the_table_is_aligned_for_any_file_name(folder, capsys, monkeypatch):
    red = write(folder / "\x1b[31mred.wav", tone(0.1, 0.5))
    korean = write(folder / "소리.wav", tone(3, 0.001))
    silent = write(folder / "silent.wav", tone(1, 0))
    run(folder / 'new\nline, "x".wav', red, korean, silent, folder / "text.wav")
    head, *lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and "\x1b" not in "".join(lines)
    assert "new\\nline" in lines[0] and "80 %" in lines[0]
    assert lines[1].endswith("shorter than any training clip")
    assert lines[2].index("quiet") == head.index("emotion") - 2  # two characters of double width
    assert "only its first 2.0 s are used; --window covers all of it" in lines[2]
    assert lines[3].endswith("silent: the label means nothing")
    assert lines[4][head.index("emotion") :].startswith("error: cannot be decoded")

    monkeypatch.setattr(__main__.sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    run(folder / "b.wav")
    head, line = capsys.readouterr().out.splitlines()
    assert line.startswith("…") and "b.wav  loud" in line and len(line) == 60
    assert head.split() == ["file", "emotion", "confidence", "disagree", "then"]


@pytest.fixture
def recording(tmp_path) -> Path:
    """4 s loud, 4 s quiet, 4 s silent, 1.3 s loud."""
    parts = [tone(4, 0.5), tone(4, 0.02), tone(4, 0), tone(1.3, 0.5)]
    return write(tmp_path / "long.wav", np.concatenate(parts))


def test_windows(recording, tmp_path):
    out = tmp_path / "rows.csv"
    assert run(recording, "--window=2", "--hop=2", "--format=csv", out=out) == 0
    rows = [(float(r["start"]), float(r["end"]), r["emotion"], r["note"]) for r in csv_rows(out)]
    assert rows == [
        (0, 2, "loud", ""),
        (2, 4, "loud", ""),
        (4, 6, "quiet", ""),
        (6, 8, "quiet", ""),
        (8, 10, "", "silent"),
        (10, 12, "", "silent"),
        (11.3, 13.3, "loud", ""),
    ]


def listed(folder: Path, *lines: str) -> Path:
    (folder / "table.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "table.csv"


@pytest.fixture
def segments_table(recording) -> Path:
    """Segments of two files, in no order, one of them outside its file, and a missing file."""
    write(recording.parent / "b" / "other.wav", tone(1, 0.02))
    return listed(
        recording.parent,
        "File;Start;End",
        "long.wav;4.5;6",
        "b\\other.wav;;NaT",
        "long.wav;0;1.25",
        "long.wav;20;21",
        "long.wav;12.3;",
        "gone.wav;0;1",
    )


SEGMENTS = [
    ("long.wav", 4.5, 6, "quiet"),
    ("other.wav", 0, 1, "quiet"),
    ("long.wav", 0, 1.25, "loud"),
    ("long.wav", 20, 21, None),
    ("long.wav", 12.3, 13.3, "loud"),
    ("gone.wav", 0, 1, None),
]


def test_a_table_of_segments_gives_a_row_each_and_decodes_each_file_once(
    segments_table, tmp_path, monkeypatch, capsys
):
    out, opened, init = tmp_path / "rows", [], waveform.Decoder.__init__
    monkeypatch.setattr(
        waveform.Decoder, "__init__", lambda self, path: opened.append(path) or init(self, path)
    )
    assert run(segments_table, "--format=jsonl", out=out) == 1
    assert sorted(path.name for path in opened) == ["gone.wav", "long.wav", "other.wav"]
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    found = [(Path(r["path"]).name, r["start"], r["end"], r["emotion"]) for r in rows]
    assert found == [(n, pytest.approx(a), pytest.approx(b), e) for n, a, b, e in SEGMENTS]
    assert f"{segments_table}, line 5: " in rows[3]["note"]
    assert "is 13.300 s long, and a segment of it is 20-21" in rows[3]["note"]
    assert f"{segments_table}, line 7: " in rows[5]["note"] and "not exist" in rows[5]["note"]
    assert "6 segments, 2 of them could not be read" in capsys.readouterr().err


def test_the_formats_of_segments(segments_table, tmp_path):
    out = tmp_path / "rows"
    assert run(segments_table, "--format=csv", out=out) == 1
    ends = [row["end"] for row in csv_rows(out)]
    assert ends == ["6.000", "1.000", "1.250", "21.000", "13.300", "1.000"]
    assert run(segments_table, out=out) == 1
    assert "12.30     13.30  loud" in out.read_text().splitlines()[-2]
    table = listed(segments_table.parent, "path,start,end", "long.wav,0,1", "long.wav,4.5,5")
    assert run(table, "--format=audacity", out=out) == 0
    assert [line.split("\t")[2] for line in out.read_text().splitlines()] == ["loud", "quiet"]
    assert run(table, "--window=0.5", "--hop=0.5", "--format=csv", out=out) == 0
    assert [r["start"] for r in csv_rows(out)] == ["0.000", "0.500", "4.500"]


def test_segments_are_the_samples_of_their_file(recording, tmp_path):
    rows = [(i / 50, i / 50 + 1) for i in range(200)]
    table = listed(tmp_path, "path,start,end", *(f"long.wav,{a},{b}" for a, b in rows))
    clips = predict_rows._clips(Predictor("x"), audio_in(table), None)
    parts = [waveform.load(recording, RATE, segment=waveform.Segment(a, b)) for a, b in rows]
    for clip, part_S in zip(clips, parts, strict=True):
        assert np.array_equal(clip.waveform_S, part_S) and clip.waveform_S.base is None


def test_a_table_of_files_and_wrong_tables(recording, tmp_path):
    out = tmp_path / "rows.jsonl"
    assert run(listed(tmp_path, "path", "long.wav"), "--format=jsonl", out=out) == 0
    assert "start" not in json.loads(out.read_text())
    with pytest.raises(UserError, match="table.csv, line 2: start and end are '2' and '1'"):
        run(listed(tmp_path, "path,start,end", "long.wav,2,1"))
    with pytest.raises(UserError, match="table.csv needs a header with path"):
        run(listed(tmp_path, "name", "long.wav"))
    with pytest.raises(UserError, match="audacity needs --window, .* or a table with start"):
        run(listed(tmp_path, "path", "long.wav"), "--format=audacity")


def test_segments_and_audacity(recording, tmp_path):
    out = tmp_path / "rows.jsonl"
    flags = ["--window=2", "--hop=2"]
    assert run(recording, *flags, "--segments", "--format=jsonl", out=out) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    expected = [(0, 4, "loud"), (4, 8, "quiet"), (8, 11.3, None), (11.3, 13.3, "loud")]
    assert [(row["start"], row["end"], row["emotion"]) for row in rows] == expected
    assert rows[0]["probabilities"] == {"loud": 0.8, "quiet": 0.2} and rows[2]["note"] == "silent"
    assert run(recording, *flags, "--format=audacity", out=out) == 0
    labels = [line.split("\t") for line in out.read_text().splitlines()]
    assert [(float(a), float(b), name) for a, b, name in labels] == [
        (a, b, name or "silent") for a, b, name in expected
    ]
    with pytest.raises(UserError, match="label track of one recording, and these are 2 files"):
        run(recording, recording, *flags, "--format=audacity")


@pytest.mark.parametrize("flags", [[], ["--window=2"], ["--window=2", "--segments"]])
def test_notes_on_missing_bytes_and_short_clips_are_in_the_last_row(tmp_path, flags):
    whole = write(tmp_path / "long.wav", tone(8, 0.5)).read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[:-1000])
    short = write(tmp_path / "short.wav", tone(0.1, 0.5))
    out = tmp_path / "rows.csv"
    assert run(tmp_path / "cut.wav", short, *flags, "--format=csv", out=out) == 0
    *before, last, of_short = csv_rows(out)
    assert last["note"].endswith("cut short: 1,000 bytes are missing")
    assert not any(row["note"] for row in before)
    assert of_short["note"] == "shorter than any training clip"


def odd_files(folder: Path) -> list[Path]:
    """Files of 3 s that were refused, or whose decoder cannot seek."""
    gsm, flac, wav = (folder / name for name in ("gsm.wav", "piped.flac", "killed.wav"))
    soundfile.write(gsm, tone(1.5, 0.5), RATE // 2, subtype="GSM610")
    content = bytearray(write(flac, tone(3, 0.5)).read_bytes())
    content[21:26] = bytes([content[21] & 0xF0, 0, 0, 0, 0])  # its total of samples
    flac.write_bytes(content)
    content = bytearray(write(wav, tone(3, 0.5)).read_bytes())
    content[4:8] = content[40:44] = bytes(4)  # the lengths of the file and of its samples
    wav.write_bytes(content)
    return [gsm, flac, wav]


@pytest.mark.parametrize("flags", [[], ["--window=1"], ["--window=1", "--segments"]])
def test_odd_files_are_predicted_and_split_into_windows(tmp_path, flags):
    paths, out = odd_files(tmp_path), tmp_path / "rows.csv"
    assert run(*paths, *flags, "--format=csv", out=out) == 0
    rows = csv_rows(out)
    assert {row["emotion"] for row in rows} == {"loud"}
    if flags:
        ends = {Path(row["path"]): float(row["end"]) for row in rows}
        assert all(end == pytest.approx(3, abs=0.1) for end in ends.values())
    assert "never finished" in rows[-1]["note"]


def test_an_offset_and_clipping_are_in_the_notes(tmp_path):
    offset = write(tmp_path / "offset.wav", tone(1, 0.3) + 0.4)
    clipped = write(tmp_path / "clipped.wav", np.clip(tone(1, 4.0), -1, 1))
    assert run(offset, clipped, "--format=csv", out=tmp_path / "rows") == 0
    notes = [row["note"] for row in csv_rows(tmp_path / "rows")]
    assert "DC offset of +0.4 of full scale" in notes[0] and "clipped: " in notes[1]


def test_formats_that_are_not_read_are_counted(recording, capsys):
    (recording.parent / "voice.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
    assert run(recording.parent) == 0
    captured = capsys.readouterr()
    assert "note: 1 file passed over" in captured.err and "ffmpeg -i voice.m4a" in captured.err
    assert run(recording.parent / "voice.m4a") == 1
    assert "ffmpeg -i voice.m4a voice.wav" in capsys.readouterr().out


def test_the_home_folder_in_the_output(recording, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert run(recording, "--format=csv", out=Path("~/rows.csv")) == 0
    assert len(csv_rows(tmp_path / "home" / "rows.csv")) == 1


def test_audio_from_process_substitution_and_standard_input(recording, tmp_path):
    program = (
        "import sys; from pathlib import Path; from ser_jax.audio import waveform\n"
        "print(*[len(waveform.load(Path(p), 16000)) for p in sys.argv[1:]])"
    )
    done = shell(f"cat {recording} | {sys.executable} -c '{program}' /dev/stdin <(cat {recording})")
    n_samples = len(waveform.load(recording, RATE))
    assert (done.stdout, done.stderr) == (f"{n_samples} {n_samples}\n", "")


@pytest.mark.parametrize("form", ["csv", "jsonl", "table"])
def test_impossible_samples_and_overflow_are_error_rows(tmp_path, monkeypatch, form):
    loud = tmp_path / "loud.wav"
    soundfile.write(loud, 1e20 * tone(1, 1), RATE, subtype="FLOAT")
    good, out = write(tmp_path / "z.wav", tone(1, 0.5)), tmp_path / "rows"
    assert run(loud, good, f"--format={form}", out=out) == 1
    assert "holds samples of 1e+20 times full scale" in out.read_text()
    assert "loud" in out.read_text().splitlines()[-1]

    def overflowing(self, waveform_BxS, n_samples_B):
        return np.full((1, len(n_samples_B), 2), np.nan, np.float32)

    monkeypatch.setattr(LoudOrQuiet, "__call__", overflowing)
    assert run(good, f"--format={form}", out=out) == 1
    assert "makes the model overflow" in out.read_text()


def test_an_implausible_rate_is_an_error_row(tmp_path):
    path = write(tmp_path / "slow.wav", tone(1, 0.5), rate=1)
    assert run(path, "--format=csv", out=tmp_path / "rows") == 1
    assert "claims a rate of 1 Hz, but only rates from 1,000" in (tmp_path / "rows").read_text()


def test_a_file_without_a_sample_at_the_models_rate_is_an_error_row(tmp_path):
    path, out = write(tmp_path / "one.wav", np.ones(1), rate=96_000), tmp_path / "rows"
    assert run(path, "--format=csv", out=out) == 1
    (row,) = csv_rows(out)
    assert row["status"] == "error" and "shorter than one sample" in row["note"]


def test_a_long_recording_is_decoded_only_as_far_as_needed(tmp_path, monkeypatch):
    path, decoded = write(tmp_path / "long.flac", tone(200, 0.5), rate=RATE), []
    decode = waveform.decode

    def counted(*args):
        decoded.append(decode(*args).waveform_S)
        return decode(*args)

    monkeypatch.setattr(waveform, "decode", counted)
    assert run(path, out=tmp_path / "rows") == 0
    assert 60 * RATE < len(decoded[0]) < 65 * RATE
    assert run(path, "--window=2", out=tmp_path / "rows") == 0
    assert len(decoded[1]) == 200 * RATE


def test_reading_ahead_estimates_the_decoded_size(tmp_path):
    for name, size in (("a.wav", 100), ("a.opus", 3200), ("a.MP3", 3200), ("gone", 0)):
        if size:
            (tmp_path / name).write_bytes(bytes(100))
        assert files._size(str(tmp_path / name)) == size


def test_an_output_that_is_no_file_is_refused_before_the_work(recording, tmp_path, monkeypatch):
    monkeypatch.setattr(backends, "load", lambda source: pytest.fail("loaded"))
    for out in (tmp_path, Path(os.devnull)):
        with pytest.raises(UserError, match="cannot write .*: it exists and is not a file"):
            run(recording, out=out)


def test_the_target_of_a_linked_output_is_written(recording, tmp_path):
    (tmp_path / "link.csv").symlink_to(tmp_path / "rows.csv")
    assert run(recording, "--format=csv", out=tmp_path / "link.csv") == 0
    assert (tmp_path / "link.csv").is_symlink() and len(csv_rows(tmp_path / "rows.csv")) == 1


def test_links_are_followed_once(tmp_path, capsys):
    write(tmp_path / "real" / "a.wav", tone(1, 0.5))
    (tmp_path / "real" / "loop").symlink_to(".")
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "link").symlink_to(tmp_path / "real")
    for argument in (tmp_path / "all", tmp_path / "real" / "**" / "*.wav"):
        assert run(argument, "--format=jsonl") == 0
        assert len(capsys.readouterr().out.splitlines()) == 1


def test_names_that_begin_with_a_dash(recording, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    recording.rename("-clip.wav")
    assert run("--format=csv", "--", "-clip.wav", "-clip.wav") == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    with pytest.raises(SystemExit):
        run("--format=csv")
    assert "name an audio file" in capsys.readouterr().err


def test_ctrl_c_starts_no_further_batch(tmp_path, monkeypatch):
    calls, finish = [], threading.Event()

    def interrupt_and_wait(self, waveform_BxS, n_samples_B):
        calls.append(len(n_samples_B))
        if len(calls) == 1:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        finish.wait()
        return np.full((1, len(n_samples_B), 2), 0.5, np.float32)

    monkeypatch.setattr(LoudOrQuiet, "__call__", interrupt_and_wait)
    monkeypatch.setattr(backends, "batching", lambda: ((1, 8), 2))
    path = write(tmp_path / "long.wav", tone(600, 0.5))
    with pytest.raises(KeyboardInterrupt):
        run(path, "--window=2", "--hop=1", out=tmp_path / "rows")
    finish.set()
    time.sleep(0.5)  # enough for all 75 batches
    assert len(calls) <= 2


WRONG = {
    "--window=0": "'0' is not a number of seconds",
    "--window=nan": "'nan' is not a number of seconds",
    "--window=1 --hop=-1": "'-1' is not a number of seconds",
    "--window=1 --hop=1.5": "--hop=1.5 is longer than --window=1",
    "--hop=1": "--hop needs --window",
    "--segments": "--segments needs --window",
    "--format=xml": "invalid choice",
}


@pytest.mark.parametrize("flags", WRONG)
def test_wrong_usage_is_one_sentence(flags, recording, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(recording, *flags.split())
    assert stopped.value.code == 2
    assert WRONG[flags] in capsys.readouterr().err.splitlines()[-1]


def test_a_window_that_is_longer_than_the_input_is_refused(recording):
    with pytest.raises(UserError, match="--window=3 is longer than the 2.00 s of the model"):
        run(recording, "--window=3")


def test_a_failed_output_leaves_no_file(recording, tmp_path, monkeypatch):
    out = tmp_path / "out" / "rows.csv"

    def full_disk(self, row):
        assert list(out.parent.iterdir())  # the temporary file
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(__main__.Csv, "line", full_disk)
    with pytest.raises(UserError, match=r"cannot write .*rows.csv \(No space"):
        run(recording, "--format=csv", out=out)
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize(("bound", "value"), [("_AHEAD_BYTES", 1000), ("_AHEAD", 10)])
def test_reading_ahead_keeps_the_order_and_a_bound(tmp_path, monkeypatch, bound, value):
    monkeypatch.setattr(files, bound, value)
    paths = [tmp_path / f"{i}" for i in range(40)]
    for path in paths:
        path.write_bytes(bytes(100))
    started, n_done = set(), 0

    def load(path: Path) -> int:
        started.add(int(path.name))
        if path.name == "7":
            raise RuntimeError("an error of the decoder")
        return int(path.name)

    audio_files = [files.AudioFile(str(path)) for path in paths]
    for i, (file, value) in enumerate(files.load_ahead(audio_files, load)):
        assert value == (None if i == 7 else i)
        assert bool(file.error) == (i == 7)
        n_done += 1
        assert len(started) <= n_done + 10
    assert n_done == 40


def shell(command: str) -> subprocess.CompletedProcess:
    return subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)  # noqa: S603


def test_help_needs_no_jax():
    program = (
        "import runpy, sys; sys.argv = ['predict', '--help']\n"
        "try: runpy.run_module('ser_jax.predict', run_name='__main__')\n"
        "except SystemExit: sys.exit('jax' in sys.modules or 'soundfile' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0


def test_a_closed_pipe_is_no_error(recording, tmp_path):
    # head -c0 exits without reading a row.
    program = (
        "import sys; sys.argv = ['predict', '--workdir=x', sys.argv[1]]\n"
        "from ser_jax.predict import __main__, backends\n"
        "from tests.predict_test import LoudOrQuiet\n"
        "backends.load = lambda source: LoudOrQuiet()\n"
        "__main__.exit_with_message(__main__.main)"
    )
    (tmp_path / "program.py").write_text(program)
    done = shell(
        f"PYTHONPATH=. {sys.executable} {tmp_path}/program.py {recording} | head -c0;"
        "exit ${PIPESTATUS[0]}"
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def no_cache(monkeypatch, tmp_path):
    """JAX without a configured cache."""
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.delenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    keys = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {key: getattr(jax.config, key) for key in keys}
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for key, value in before.items():
        jax.config.update(key, value)


def test_the_compilation_cache_is_in_the_users_cache_unless_configured(
    no_cache, tmp_path, monkeypatch
):
    runtime.use_compilation_cache()
    folder = tmp_path / "cache" / "ser_jax" / "compiled"
    assert jax.config.jax_compilation_cache_dir == str(folder) and folder.is_dir()
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 0
    jax.config.update("jax_compilation_cache_dir", "elsewhere")
    runtime.use_compilation_cache()
    assert jax.config.jax_compilation_cache_dir == "elsewhere"
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    runtime.use_compilation_cache()
    assert jax.config.jax_compilation_cache_dir is None


def test_without_a_writable_folder_nothing_is_cached(no_cache, tmp_path):
    (tmp_path / "cache").write_text("in the way")
    runtime.use_compilation_cache()
    assert jax.config.jax_compilation_cache_dir is None
