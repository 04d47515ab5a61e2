"""Faults put into small corpora are found, and kept apart from published defects."""

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_prep import corpora
from data_prep.corpora.synthetic import MARKER
from data_prep.verify import __main__
from data_prep.verify.corpus import verify
from data_prep.verify.findings import Finding, render
from ser_jax.audio import decoder
from ser_jax.common.errors import UserError

RATE = 16_000
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 72862\n"


def voice(seed: int, level: float = 0.1) -> np.ndarray:
    return level * np.random.default_rng(seed).standard_normal(RATE // 4)


def write(path: Path, samples: np.ndarray, **kwargs) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, RATE, **kwargs)
    return path


def as_set(findings: tuple[Finding, ...]) -> set[tuple[str, tuple[str, ...]]]:
    return {(f.kind, f.files) for f in findings}


@pytest.fixture
def ravdess(tmp_path) -> Path:
    """Three sound clips of a corpus without published checksums."""
    for i in (1, 2, 3):
        write(tmp_path / "Actor_01" / f"03-01-0{i}-01-01-01-01.wav", voice(i))
    return tmp_path


@pytest.fixture
def crema_d(tmp_path, monkeypatch) -> Path:
    """A complete, byte-exact corpus of five clips, most of them published with defects."""
    clips = {
        "1001_DFA_ANG_XX": voice(1),
        "1002_DFA_ANG_XX": np.zeros(RATE // 2),  # silent, and not a known defect
        "1076_MTI_SAD_XX": np.zeros(RATE),
        "1006_TIE_HAP_XX": voice(2),
        "1006_TIE_NEU_XX": voice(2),
    }
    manifest = {}
    for name, samples in clips.items():
        path = write(tmp_path / f"AudioWAV/{name}.wav", samples)
        manifest[f"AudioWAV/{name}.wav"] = hashlib.sha256(path.read_bytes()).hexdigest()
    table = tmp_path / "VideoDemographics.csv"
    table.write_text("ActorID,Age,Sex\n1001,51,Male\n")
    manifest[table.name] = hashlib.sha256(table.read_bytes()).hexdigest()
    sums = tmp_path / "crema_d.sha256"
    sums.write_text("".join(f"{sha256}  {name}\n" for name, sha256 in manifest.items()))
    spec = corpora.CORPORA["crema_d"]
    release = dataclasses.replace(spec.release, manifest=sums)
    spec = dataclasses.replace(spec, release=release)
    monkeypatch.setitem(corpora.CORPORA, "crema_d", spec)
    return tmp_path


def test_sound_corpus_passes(ravdess):
    report = verify(ravdess, "ravdess")
    assert (report.files, report.wrong, report.known, report.noted) == (3, (), (), ())
    assert report.seconds == pytest.approx(0.75)
    assert report.checksums_right is None
    assert "nothing is wrong" in render(report)


def test_every_fault_is_found_and_none_hides_another(ravdess):
    actor = ravdess / "Actor_02"
    faults = {  # what is written → what is found
        "lfs": "Git LFS pointer",
        "text": "unreadable",
        "zero": "empty",
        "zero_too": "empty",
        "header": "empty",
        "nan": "not finite",
        "silent": "silent",
        "offset": "silent",
        "whisper": "silent",
        "cut": "cut short",
        "link": "unreadable",
    }
    write(actor / "nan.wav", np.array([0.1, np.nan, 0.2]), subtype="FLOAT")
    write(actor / "silent.wav", np.zeros(RATE))
    write(actor / "offset.wav", np.full(RATE, 0.25))
    write(actor / "whisper.wav", voice(4, level=5e-5), subtype="PCM_24")
    write(actor / "header.wav", np.zeros(0))
    (actor / "lfs.wav").write_bytes(POINTER)
    (actor / "text.wav").write_text("<html>not here</html>")
    (actor / "zero.wav").write_bytes(b"")
    (actor / "zero_too.wav").write_bytes(b"")
    (actor / "link.wav").symlink_to("nowhere.wav")
    (actor / "cut.wav").write_bytes(write(actor / "whole.wav", voice(5)).read_bytes()[:-100])

    report = verify(ravdess, "ravdess")

    assert as_set(report.wrong) == {
        (kind, (f"Actor_02/{stem}.wav",)) for stem, kind in faults.items()
    }
    assert report.files == 3 + len(faults) + 1
    assert "git lfs pull" in render(report)


def test_quiet_speech_is_not_silence(ravdess):
    write(ravdess / "quiet.wav", voice(4, level=5e-4))  # −66 dB
    assert not verify(ravdess, "ravdess").wrong


def test_clipping_is_noted_and_not_wrong(ravdess):
    peak, clipped = voice(6), voice(7)
    peak[100] = -1.0  # a normalised peak
    clipped[100:103] = 1.0
    write(ravdess / "peak.wav", peak)
    write(ravdess / "clipped.wav", clipped)
    write(ravdess / "stereo.flac", np.stack([peak, clipped], axis=1))
    report = verify(ravdess, "ravdess")
    assert as_set(report.noted) == {("clipped", ("clipped.wav",)), ("clipped", ("stereo.flac",))}
    assert not report.wrong


def test_clipping_across_decoded_blocks_is_found(ravdess, monkeypatch):
    monkeypatch.setattr(decoder, "_BLOCK", 100)
    samples = voice(8)
    samples[99:102] = 1.0
    write(ravdess / "clipped.wav", samples)
    assert as_set(verify(ravdess, "ravdess").noted) == {("clipped", ("clipped.wav",))}


def test_identical_clips_form_one_group(ravdess):
    for name in ("a.wav", "b.wav", "c.wav"):
        write(ravdess / name, voice(9))
    report = verify(ravdess, "ravdess")
    assert as_set(report.wrong) == {("identical", ("a.wav", "b.wav", "c.wav"))}


def test_byte_exact_corpus_passes_with_its_published_defects(crema_d):
    report = verify(crema_d)
    assert report.wrong == ()
    assert report.checksums_right == 5
    twins = tuple(f"AudioWAV/1006_TIE_{code}_XX.wav" for code in ("HAP", "NEU"))
    assert as_set(report.known) == {
        ("silent", ("AudioWAV/1002_DFA_ANG_XX.wav",)),
        ("silent", ("AudioWAV/1076_MTI_SAD_XX.wav",)),
        ("identical", twins),
    }


def test_what_differs_from_the_published_corpus_is_wrong(crema_d):
    (crema_d / "AudioWAV/1076_MTI_SAD_XX.wav").unlink()
    write(crema_d / "AudioWAV/1001_DFA_ANG_XX.wav", voice(10))
    write(crema_d / "AudioWAV/1092_DFA_ANG_XX.wav", voice(11))
    (crema_d / "AudioWAV/1006_TIE_NEU_XX.wav").write_bytes(POINTER)
    (crema_d / "VideoDemographics.csv").write_text("ActorID,Age,Sex\n1001,15,Male\n")
    report = verify(crema_d)
    assert as_set(report.wrong) == {
        ("missing", ("AudioWAV/1076_MTI_SAD_XX.wav",)),
        ("unexpected", ("AudioWAV/1092_DFA_ANG_XX.wav",)),
        ("wrong checksum", ("AudioWAV/1001_DFA_ANG_XX.wav",)),
        ("wrong checksum", ("VideoDemographics.csv",)),
        ("Git LFS pointer", ("AudioWAV/1006_TIE_NEU_XX.wav",)),
    }
    assert report.checksums_right == 2


def test_clips_are_matched_by_name_in_any_folder_and_format(crema_d):
    wav = crema_d / "AudioWAV"
    (crema_d / "deep/er").mkdir(parents=True)
    (wav / "1001_DFA_ANG_XX.wav").rename(crema_d / "deep/er/1001_DFA_ANG_XX.WAV")
    samples, _ = soundfile.read(wav / "1076_MTI_SAD_XX.wav")
    write(crema_d / "1076_MTI_SAD_X.flac", samples)  # under its name in old copies
    (wav / "1076_MTI_SAD_XX.wav").unlink()
    write(crema_d / "AudioMP3/1006_TIE_HAP_XX.mp3", voice(2))  # beside a better copy
    report = verify(crema_d)
    assert report.wrong == ()
    assert report.checksums_right == 4
    assert ("silent", ("1076_MTI_SAD_X.flac",)) in as_set(report.known)
    assert [fact for fact in report.facts if "1 clips are .flac" in fact]
    assert [fact for fact in report.facts if "1 MP3s were skipped" in fact]


def test_copy_of_a_clip_is_wrong_although_its_bytes_are_right(crema_d):
    (crema_d / "copy").mkdir()
    copy = crema_d / "copy/1001_DFA_ANG_XX.wav"
    copy.write_bytes((crema_d / "AudioWAV/1001_DFA_ANG_XX.wav").read_bytes())
    report = verify(crema_d)
    names = ("AudioWAV/1001_DFA_ANG_XX.wav", "copy/1001_DFA_ANG_XX.wav")
    assert ("identical", names) in as_set(report.wrong)
    assert report.checksums_right == 5


def test_take_that_ravdess_published_twice_is_known_and_other_copies_are_wrong(ravdess):
    pair = tuple(f"Actor_07/03-01-03-01-02-0{i}-07.flac" for i in (1, 2))
    for name in pair:
        write(ravdess / name, voice(10))
    report = verify(ravdess, "ravdess")
    assert (as_set(report.known), report.wrong) == ({("identical", pair)}, ())
    stranger = write(ravdess / "Actor_07/03-01-04-01-02-01-07.flac", voice(10))
    assert not verify(ravdess, "ravdess").known
    (ravdess / pair[0]).unlink()
    twins = (pair[1], stranger.relative_to(ravdess).as_posix())
    assert as_set(verify(ravdess, "ravdess").wrong) == {("identical", twins)}


def test_faults_of_the_copy_are_wrong_in_crema_d_too(crema_d):
    write(crema_d / "AudioWAV/1001_DFA_ANG_XX.wav", np.zeros(RATE // 3))
    wrong = as_set(verify(crema_d).wrong)
    assert ("silent", ("AudioWAV/1001_DFA_ANG_XX.wav",)) in wrong


def test_reader_errors_are_reported(tmp_path):
    write(tmp_path / "a.wav", voice(1))
    write(tmp_path / "03-01-99-01-01-01-01.wav", voice(2))
    (finding,) = verify(tmp_path, "ravdess").wrong
    assert finding.kind == "reader"
    assert "unknown emotion code 99" in finding.detail


def test_files_that_a_csv_lists_but_are_missing_are_wrong(tmp_path):
    write(tmp_path / "clips/a.wav", voice(1))
    table = tmp_path / "corpus.csv"
    table.write_text("path,emotion,speaker\nclips/a.wav,joy,anna\nclips/b.wav,joy,anna\n")
    for root in (tmp_path, table):
        assert as_set(verify(root, "csv").wrong) == {("missing", ("clips/b.wav",))}


def test_a_file_that_a_csv_lists_in_a_format_that_is_not_read_is_wrong(tmp_path):
    write(tmp_path / "a.wav", voice(1))
    (tmp_path / "b.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(400))
    table = tmp_path / "corpus.csv"
    table.write_text("path,emotion,speaker\na.wav,joy,anna\nb.m4a,joy,anna\n")
    assert as_set(verify(table, "csv").wrong) == {("unreadable", ("b.m4a",))}


def test_synthetic_voices_are_verified_as_such(tmp_path):
    (tmp_path / MARKER).write_text("1")
    with pytest.raises(UserError, match=r"synthetic voices .*; add --corpus=synthetic"):
        verify(tmp_path)


@pytest.mark.parametrize("corpus", ["crema_d", "ravdess", "csv", "synthetic"])
def test_folder_without_audio_is_refused(tmp_path, corpus):
    with pytest.raises(UserError, match="no audio"):
        verify(tmp_path, corpus)
    with pytest.raises(UserError, match="does not exist"):
        verify(tmp_path / "nowhere", corpus)


def test_text_is_abridged_and_json_is_complete(crema_d, monkeypatch, capsys):
    for i in range(10):
        write(crema_d / f"extra/{i}.wav", voice(20 + i))
    out = crema_d / "report.json"
    monkeypatch.setattr("sys.argv", ["verify", f"--root={crema_d}", f"--json={out}"])
    assert __main__.main() == 1
    assert "unexpected" in (text := capsys.readouterr().out)
    assert "and 7 more" in text
    assert "extra/9.wav" not in text
    saved = json.loads(out.read_text())
    assert len([f for f in saved["wrong"] if f["kind"] == "unexpected"]) == 10
    report = verify(crema_d)
    assert saved == json.loads(json.dumps(dataclasses.asdict(report)))
    for i in range(10):
        (crema_d / f"extra/{i}.wav").unlink()
    assert __main__.main() == 0


def test_real_clips_pass_by_checksum(shared_data):
    report = verify(shared_data / "crema_d")
    assert report.files == report.checksums_right == 16
    assert {f.kind for f in report.wrong} == {"missing"}
    assert len(report.wrong) == 7_442 - 16
    assert report.facts == ("16 of 7,442 clips have the published checksum.",)  # and the tables


def test_audio_that_is_not_whole_or_not_alone_is_found_in_every_format(ravdess):
    folder, expected = ravdess / "Actor_02", set()
    for suffix in ("ogg", "flac", "mp3", "aiff", "caf", "au", "w64"):
        path = write(folder / f"whole.{suffix}", np.tile(voice(9), 24))
        whole = path.read_bytes()
        (folder / f"cut.{suffix}").write_bytes(whole[: len(whole) * 6 // 10])
        expected.add(("cut short", (f"Actor_02/cut.{suffix}",)))
    short = write(folder / "short.ogg", voice(10)).read_bytes()  # its samples are in one page
    (folder / "stub.ogg").write_bytes(short[: len(short) * 6 // 10])
    (folder / "twice.ogg").write_bytes(2 * short)
    killed = write(folder / "killed.wav", voice(11)).read_bytes()
    (folder / "killed.wav").write_bytes(killed[:40] + bytes(4) + killed[44:])
    (folder / "killed.wav").write_bytes(
        b"RIFF" + bytes(4) + (folder / "killed.wav").read_bytes()[8:]
    )
    write(folder / "gsm.wav", voice(12), subtype="GSM610")

    report = verify(ravdess, "ravdess")

    assert as_set(report.wrong) == expected | {("cut short", ("Actor_02/stub.ogg",))}
    remarks = {f.files[0]: f.detail for f in report.noted if f.kind == "remark"}
    assert remarks.keys() == {"Actor_02/twice.ogg", "Actor_02/killed.wav"}
    assert remarks["Actor_02/twice.ogg"] == "2 recordings in one file"
    assert "twice.ogg: 2 recordings in one file" in render(report)


def test_a_dc_offset_is_noted_and_not_wrong(ravdess):
    write(ravdess / "offset.wav", voice(13) + 0.4)
    report = verify(ravdess, "ravdess")
    assert as_set(report.noted) == {("DC offset", ("offset.wav",))} and not report.wrong
    assert "remove it" in render(report)


def test_formats_that_are_not_read_are_counted(ravdess):
    (ravdess / "Actor_01" / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
    (fact,) = verify(ravdess, "ravdess").facts
    assert fact.startswith("1 file passed over") and "ffmpeg -i a.m4a a.wav" in fact


def test_segments_outside_their_files_and_missing_files_are_found(tmp_path):
    write(tmp_path / "a.wav", voice(1))  # 0.25 s
    rows = "a.wav,joy,x,0,0.1 a.wav,joy,x,0.1,0.9 b.wav,joy,x,0,1 b.wav,joy,x,1,2".split()
    (tmp_path / "corpus.csv").write_text("\n".join(["path,emotion,speaker,start,end", *rows]))
    findings = verify(tmp_path, "csv").wrong
    assert as_set(findings) == {("segment", ("a.wav",)), ("missing", ("b.wav",))}
    assert "corpus.csv, line 3 is 0.250 s long, and a segment of it is 0.1-0.9" in [
        f.detail for f in findings
    ]
