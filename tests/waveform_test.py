"""Audio that users really have: what is there is read, what is not there is said, always alike."""

import contextlib
import hashlib
import math
import os
import struct
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser_jax.audio import containers, file_bytes, files, mpeg, waveform
from ser_jax.audio.decoder import AudioError
from ser_jax.audio.quiet import quiet_stderr

ROOT = Path(__file__).parents[1]
CASES = ROOT.parent / "shared" / "cases" / "audio"
RATE = 16_000


def tone(seconds: float, rate: int = RATE, seed: int = 0) -> np.ndarray:
    t = np.arange(round(seconds * rate)) / rate
    noise = 0.01 * np.random.default_rng(seed).standard_normal(len(t))
    return 0.3 * np.sin(2 * np.pi * 200 * t * (1 + t)) + noise


def encoded(path: Path, seconds: float = 1.0, **kwargs) -> bytes:
    soundfile.write(path, tone(seconds), RATE, **kwargs)
    return path.read_bytes()


def load(path: Path, content: bytes | None = None) -> tuple[np.ndarray, str]:
    if content is not None:
        path.write_bytes(content)
    notes: list[str] = []
    return waveform.load(path, RATE, notes=notes), "; ".join(notes)


@pytest.mark.parametrize(
    "case, n_samples, note",
    [
        # Cut by half; its header promises 1 s.
        ("cut.mp3", 6_383, "cut short: "),
        ("gsm_telephone.wav", RATE, ""),
        ("piped.flac", RATE, ""),
        ("arecord_2g.wav", RATE, "its header was never finished"),
        ("recorder_killed.wav", RATE, "its header was never finished"),
    ],
)
def test_shared_cases(case, n_samples, note):
    if not CASES.is_dir():
        pytest.skip("the shared cases are not on this machine")
    waveform_S, actual = load(CASES / case)
    assert len(waveform_S) == n_samples
    assert actual.startswith(note) and bool(actual) == bool(note)


@pytest.mark.parametrize("suffix", ["mp3", "caf", "flac", "ogg"])
def test_a_cut_file_is_decoded_alike_whatever_was_in_memory(tmp_path, suffix):
    path = tmp_path / f"cut.{suffix}"
    whole = encoded(path, 5.0)
    path.write_bytes(whole[: len(whole) * 7 // 10])
    program = (
        "import sys, hashlib, pathlib, numpy as np; from ser_jax.audio import waveform\n"
        "junk = [np.full(2**k, float(sys.argv[2]), np.float32) for k in range(8, 20)]; del junk\n"
        "samples = waveform.load(pathlib.Path(sys.argv[1]), 16000)\n"
        "print(len(samples), hashlib.sha256(samples.tobytes()).hexdigest())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program, str(path), str(fill)],
            cwd=ROOT,
            env={**os.environ, "MALLOC_PERTURB_": str(perturb)},
            capture_output=True,
            check=True,
        ).stdout
        for fill, perturb in ((0.25, 85), (-0.5, 170))
    }
    assert len(outputs) == 1
    n_samples = int(outputs.pop().split()[0])
    assert 2.5 * RATE < n_samples < 3.7 * RATE


CUT = [
    *[(f"a.{suffix}", {}) for suffix in "wav aiff au caf w64 rf64 flac mp3 ogg".split()],
    ("opus.ogg", {"subtype": "OPUS"}),
    ("gsm.wav", {"subtype": "GSM610"}),
    ("adpcm.wav", {"subtype": "MS_ADPCM"}),
    ("big.wav", {"endian": "BIG"}),
    ("a.nist", {}),
    ("a.voc", {}),
    ("a.svx", {"subtype": "PCM_16"}),
]


@pytest.mark.parametrize("name, kwargs", CUT)
def test_a_file_shorter_than_its_header_is_cut_short_in_every_format(tmp_path, name, kwargs):
    path = tmp_path / name
    whole = encoded(path, 6.0, **kwargs)
    full_S, note = load(path)
    assert note == "" and len(full_S) >= 6 * RATE
    waveform_S, note = load(path, whole[: len(whole) * 6 // 10])
    assert note.startswith("cut short: ")
    assert 0.3 * len(full_S) < len(waveform_S) < 0.7 * len(full_S)
    n = len(waveform_S) - 2_000  # the last block may be half there
    np.testing.assert_array_equal(waveform_S[:n], full_S[:n])


@pytest.mark.parametrize("name", ["a.ogg", "opus.ogg"])
def test_ogg_without_its_last_page_is_cut_short(tmp_path, name):
    path = tmp_path / name
    whole = encoded(path, 6.0, subtype="OPUS" if name == "opus.ogg" else None)
    assert load(path, whole[: whole.rindex(b"OggS")])[1].startswith("cut short: ")


def test_a_file_cut_before_its_first_sample_is_refused_and_said_to_be_cut(tmp_path):
    whole = encoded(tmp_path / "a.ogg")
    with pytest.raises(AudioError, match="holds no samples .*cut short: its last page"):
        load(tmp_path / "a.ogg", whole[: len(whole) * 6 // 10])


def test_damage_inside_ends_the_audio_there(tmp_path):
    path = tmp_path / "a.flac"
    whole = bytearray(encoded(path, 6.0))
    full_S, _ = load(path)
    middle = len(whole) // 2
    whole[middle : middle + 5_000] = bytes(5_000)
    waveform_S, note = load(path, bytes(whole))
    assert "cut short: " in note and RATE < len(waveform_S) < 4 * RATE
    np.testing.assert_array_equal(waveform_S, full_S[: len(waveform_S)])


@pytest.mark.parametrize("subtype", ["GSM610", "G721_32", "NMS_ADPCM_16"])
def test_codecs_that_cannot_seek_are_read_front_to_back(tmp_path, subtype):
    path = tmp_path / "a.wav"
    encoded(path, 20.0, subtype=subtype)  # more than one decoded block
    waveform_S, note = load(path)
    assert len(waveform_S) == 20 * RATE and not note
    assert np.corrcoef(waveform_S[1_000:9_000], tone(20)[1_000:9_000])[0, 1] > 0.9
    np.testing.assert_array_equal(waveform.load(path, RATE, 1.0), waveform_S[: 2 * RATE])


def test_flac_of_unknown_length_is_read_to_its_end(tmp_path):
    path = tmp_path / "a.flac"
    content = bytearray(encoded(path, 20.0))
    full_S, _ = load(path)
    content[21] &= 0xF0  # the total of samples in STREAMINFO
    content[22:26] = bytes(4)
    waveform_S, note = load(path, bytes(content))
    np.testing.assert_array_equal(waveform_S, full_S)
    assert not note


LENGTHS = {  # RIFF, data
    "killed": (0, 0),
    "killed, with a header of 44 bytes": (36, 0),
    "killed, with both": (36, 36),
    "a pipe": (2**32 - 1, 2**32 - 1),
    "sox": (2**31 - 0x1000 + 36, 2**31 - 0x1000),
    "arecord": (2**31 + 36, 2**31),
}


@pytest.mark.parametrize("riff, data", LENGTHS.values(), ids=LENGTHS)
def test_wav_with_placeholders_for_lengths_holds_the_audio_that_is_there(tmp_path, riff, data):
    content = bytearray(encoded(tmp_path / "a.wav"))
    full_S, _ = load(tmp_path / "a.wav")
    assert content[36:40] == b"data"
    content[4:8], content[40:44] = struct.pack("<I", riff), struct.pack("<I", data)
    waveform_S, note = load(tmp_path / "a.wav", bytes(content))
    np.testing.assert_array_equal(waveform_S, full_S)
    assert note == ("" if data == 2**32 - 1 else "its header was never finished, so its length is "
                    "that of the file")  # fmt: skip


def test_a_file_of_less_than_a_sample_at_the_wanted_rate_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", [0.1], 48_000)
    with pytest.raises(AudioError, match="a.wav is shorter than one sample at 16,000 Hz"):
        waveform.load(tmp_path / "a.wav", 16_000)


def test_a_wav_file_without_samples_is_not_taken_for_unfinished(tmp_path):
    empty = encoded(tmp_path / "a.wav", 0.0) + b"LIST\x04\0\0\0INFO"
    with pytest.raises(AudioError, match="holds no samples"):
        load(tmp_path / "a.wav", empty[:4] + struct.pack("<I", len(empty) - 8) + empty[8:])


@pytest.mark.parametrize(
    "name, marker, offset, value",
    [
        ("a.au", b".snd", 8, bytes(4)),
        ("a.au", b".snd", 8, b"\xff" * 4),
        ("a.caf", b"data", 4, b"\xff" * 8),
        ("a.caf", b"data", 4, struct.pack(">q", 4)),
        ("a.w64", b"data\xf3\xac", 16, struct.pack("<Q", 24)),
        ("a.rf64", b"ds64", 16, bytes(8)),
        ("a.aiff", b"SSND", 4, bytes(4)),
    ],
)
def test_other_formats_with_placeholders(tmp_path, name, marker, offset, value):
    content = bytearray(encoded(tmp_path / name))
    full_S, _ = load(tmp_path / name)
    at = content.index(marker) + offset
    content[at : at + len(value)] = value
    if name == "a.aiff":
        content[4:8] = bytes(4)
    waveform_S, note = load(tmp_path / name, bytes(content))
    np.testing.assert_array_equal(waveform_S[: len(full_S)], full_S)
    assert len(waveform_S) - len(full_S) < 10 and "cut short" not in note


@pytest.mark.parametrize("name", ["a.mp3", "a.ogg", "opus.ogg", "a.flac", "a.wav", "a.aiff"])
def test_several_recordings_in_one_file_are_all_decoded(tmp_path, name):
    path = tmp_path / name
    content = encoded(path, 1.5, subtype="OPUS" if name == "opus.ogg" else None)
    one_S, note = load(path)
    assert not note
    all_S, note = load(path, content * 3)
    assert note == "3 recordings in one file"
    np.testing.assert_array_equal(all_S, np.tile(one_S, 3))
    some_S = waveform.load(path, RATE, 1.0)
    np.testing.assert_array_equal(some_S, all_S[: len(some_S)])
    assert len(some_S) == 2 * RATE


def test_a_recording_of_another_rate_in_the_same_file_is_noted(tmp_path):
    first = encoded(tmp_path / "a.ogg")
    soundfile.write(tmp_path / "b.ogg", tone(1, 22_050), 22_050)
    waveform_S, note = load(tmp_path / "c.ogg", first + (tmp_path / "b.ogg").read_bytes())
    assert len(waveform_S) == RATE and "number 2 has another sampling rate" in note


def without_xing(content: bytes) -> bytes:
    """Drop the first frame of an MP3, which states the number of frames."""
    assert b"Xing" in content[:200] or b"Info" in content[:200]
    return content[content.index(content[:2], 4) :]


@pytest.mark.parametrize("times", [1, 2])
def test_mp3_of_variable_bitrate_without_a_length_is_read_to_its_end(tmp_path, times):
    path, seconds = tmp_path / "a.mp3", 10
    waveform_S = tone(seconds)
    waveform_S[RATE:] *= np.linspace(1, 0.001, len(waveform_S) - RATE)  # less and less bits
    waveform_S[:RATE] *= 0.001
    options = {"bitrate_mode": "VARIABLE", "compression_level": 0.3}
    soundfile.write(path, waveform_S, RATE, **options)
    whole = path.read_bytes()
    decoded_S, note = load(path, without_xing(whole) * times)
    n_frames = mpeg.runs(path.read_bytes())[0].n_frames
    assert not note and abs(len(decoded_S) - n_frames * 576) < 1_200
    assert abs(len(decoded_S) - times * seconds * RATE) < 2_400 * times


def test_samples_of_whole_files_equal_those_of_soundfile(tmp_path):
    for name in ("a.wav", "a.flac", "a.ogg", "a.aiff", "a.caf", "a.au", "a.mp3", "a.w64"):
        encoded(tmp_path / name, 3.0)
        waveform_S, note = load(tmp_path / name)
        expected_S, _ = soundfile.read(tmp_path / name, dtype="float32")
        assert not note
        atol = 2e-7 if name == "a.mp3" else 0  # soundfile seeks before it reads
        np.testing.assert_allclose(waveform_S, expected_S, rtol=0, atol=atol)


FOREIGN = {
    "a.m4a": b"\0\0\0\x20ftypM4A \0\0\2\0",
    "voice.wav": b"\0\0\0\x20ftypisom\0\0\2\0",
    "a.webm": b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\1",
    "a.wma": b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9",
    "a.aac": b"\xff\xf1\x50\x80\x21\xbf\xfc",
    "a.amr": b"#!AMR\n",
    "a.mp4": b"nothing known",
}


@pytest.mark.parametrize("name", FOREIGN)
def test_formats_that_are_not_read_name_a_way_to_convert(tmp_path, name):
    stem = Path(name).stem + "_converted" * (Path(name).suffix == ".wav")
    with pytest.raises(AudioError, match=rf"not read here; .*ffmpeg -i {name} {stem}.wav"):
        load(tmp_path / name, FOREIGN[name] + bytes(1_000))


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("ein Ton.m4a", "ffmpeg -i 'ein Ton.m4a' 'ein Ton.wav'"),
        ("a.sd2", "sndfile-convert a.sd2 a.wav"),
    ],
)
def test_the_way_to_convert_can_be_pasted(tmp_path, name, advice):
    with pytest.raises(AudioError, match=f"not read here; convert it, for instance: {advice}$"):
        load(tmp_path / name, bytes(1_000))


def test_formats_whose_length_cannot_be_checked_are_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(1), RATE, format="AVR", subtype="PCM_16")
    with pytest.raises(
        AudioError, match="cannot be checked .*: sndfile-convert a.wav a_converted.wav"
    ):
        load(tmp_path / "a.wav")
    assert soundfile.available_formats().keys() >= containers.UNCHECKED


def test_foreign_files_in_folders_and_patterns_are_counted(tmp_path):
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "c.m4a").write_bytes(FOREIGN["a.m4a"])
    encoded(tmp_path / "a.wav")
    (tmp_path / "b.webm").write_bytes(FOREIGN["a.webm"])
    foreign: list[str] = []
    names = [file.path for file in files.find([str(tmp_path)], foreign=foreign)]
    assert names == [str(tmp_path / "a.wav")] and len(foreign) == 2
    note = files.foreign_note(foreign)
    assert note.startswith("2 files passed over") and ".m4a .webm" in note and "ffmpeg" in note
    for argument in (tmp_path / "only", tmp_path / "only" / "*"):
        (file,) = files.find([str(argument)])
        assert "ffmpeg -i c.m4a c.wav" in file.error
    assert files.foreign_note([]) == ""


def test_audio_from_a_pipe(tmp_path):
    content = encoded(tmp_path / "a.ogg")
    expected_S, _ = load(tmp_path / "a.ogg")
    reading, writing = os.pipe()
    writer = threading.Thread(target=lambda: (os.write(writing, content), os.close(writing)))
    writer.start()
    waveform_S, note = load(Path(f"/dev/fd/{reading}"))
    writer.join()
    os.close(reading)
    np.testing.assert_array_equal(waveform_S, expected_S)
    assert not note


def test_devices_folders_and_named_pipes_are_refused(tmp_path):
    os.mkfifo(tmp_path / "a.wav")  # nobody will ever write to it
    for path in (tmp_path / "a.wav", tmp_path, Path("/dev/zero")):
        with pytest.raises(AudioError, match="is not a file"):
            load(path)
    with pytest.raises(AudioError, match="does not exist"):
        load(tmp_path / "nothing.wav")


def test_a_large_dc_offset_is_noted(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(1) + 0.4, RATE)
    assert "DC offset of +0.4 of full scale" in load(tmp_path / "a.wav")[1]
    soundfile.write(tmp_path / "a.wav", tone(1) - 0.01, RATE)
    assert not load(tmp_path / "a.wav")[1]


def test_much_clipping_is_noted(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.clip(8 * tone(1), -1, 1), RATE)
    assert "clipped: " in load(tmp_path / "a.wav")[1]
    few = tone(1)
    few[100:105] = 1
    soundfile.write(tmp_path / "a.wav", few, RATE)
    assert not load(tmp_path / "a.wav")[1]


def test_no_chatter_of_the_decoder_on_stderr(tmp_path, capfd):
    content = bytearray(encoded(tmp_path / "a.mp3", 3.0))
    content[2_000:2_400] = os.urandom(400)
    load(tmp_path / "a.mp3", bytes(content[: len(content) // 2]))
    assert capfd.readouterr().err == ""
    # It does chatter.
    soundfile.info(tmp_path / "a.mp3")
    assert "Warning: Xing stream size" in capfd.readouterr().err
    # Neither where libsndfile takes for MP3 what has no right frame at its start.
    content[2] &= 0x0F
    with contextlib.suppress(AudioError):
        load(tmp_path / "b.mp3", bytes(content[:3000]))
    assert capfd.readouterr().err == ""


def test_a_midi_sample_dump_is_not_opened_since_libsndfile_writes_to_stdout(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.sds", tone(1), RATE, format="SDS", subtype="PCM_16")
    monkeypatch.setattr("soundfile.SoundFile.__init__", None)
    with pytest.raises(AudioError, match="a.sds is MIDI sample dump .*; convert it"):
        load(tmp_path / "a.sds")


def test_other_lines_on_stderr_are_passed_on(capfd):
    with quiet_stderr():
        with quiet_stderr():
            os.write(2, b"Note: Trying to resync...\nout of memory\n")
        os.write(2, b"[src/libmpg123/layer3.c:1] error: no\ngone\n")
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "out of memory\ngone\nafter\n"


def test_threads_decode_alike_and_leave_stderr_as_it_was(tmp_path, capfd):
    whole = encoded(tmp_path / "a.mp3", 3.0)
    (tmp_path / "a.mp3").write_bytes(whole[: len(whole) // 2])
    digests: list[str] = []

    def decode() -> None:
        for _ in range(10):
            digests.append(hashlib.sha256(load(tmp_path / "a.mp3")[0].tobytes()).hexdigest())
            os.write(2, b".\n")

    threads = [threading.Thread(target=decode) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(digests) == 40 and len(set(digests)) == 1
    assert capfd.readouterr().err == ".\n" * 40


def test_damaged_files_are_decoded_or_refused(tmp_path):
    """A small share of the long mutation test."""
    random = np.random.default_rng(7)
    originals = [encoded(tmp_path / name, 0.4, **kwargs) for name, kwargs in CUT]
    for number in range(150):
        content = bytearray(originals[number % len(originals)])
        for _ in range(random.integers(1, 30)):
            content[random.integers(len(content) if number % 2 else 100)] = random.integers(256)
        content = content[: random.integers(1, len(content) + 1)]
        results = []
        for _ in range(2):
            try:
                results.append(load(tmp_path / "mutated", bytes(content)))
            except AudioError as error:
                results.append((np.zeros(0), str(error)))
        assert results[0][1] == results[1][1]
        np.testing.assert_array_equal(results[0][0], results[1][0])


def test_a_large_file_has_the_same_bytes_and_markers_as_in_memory(tmp_path, monkeypatch):
    content = np.random.default_rng(0).integers(0, 4, 5_000).astype(np.uint8).tobytes()
    (tmp_path / "a").write_bytes(content)
    monkeypatch.setattr(file_bytes, "_WINDOW", 64)
    monkeypatch.setattr(file_bytes, "_BEHIND", 16)
    with (tmp_path / "a").open("rb") as file:
        actual = file_bytes.bytes_of(file.fileno())
        assert isinstance(actual, file_bytes.FileBytes) and len(actual) == len(content)
        for start in [*range(0, 5_000, 37), 4_999, 5_000, 6_000]:
            assert actual[start : start + 50] == content[start : start + 50]
            for marker in (b"\1", b"\1\2\3", b"\0\1\2\3\0", b"none"):
                assert actual.find(marker, start) == content.find(marker, start)
        assert [actual[i] for i in (4_999, 0, 70)] == [content[i] for i in (4_999, 0, 70)]
    for name in ("large.mp3", "large.ogg", "large.caf"):
        encoded(tmp_path / name, 3.0)
        expected_S, note = load(tmp_path / name)
        np.testing.assert_array_equal(load(tmp_path / name)[0], expected_S)
        assert not note


def test_a_segment_is_cut_to_the_sample(tmp_path):
    samples = tone(2.0)
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    for start, end in ((0.5, 1.25), (1.0, math.inf), (0.0, 2.01), (0.25, 0.25001)):
        segment = waveform.Segment(start, end)
        expected = samples[
            round(start * RATE) : max(round(start * RATE) + 1, round(min(end, 2) * RATE))
        ]
        np.testing.assert_array_equal(
            waveform.load(tmp_path / "a.wav", RATE, segment=segment), expected.astype(np.float32)
        )
    half = waveform.load(tmp_path / "a.wav", RATE // 2, segment=waveform.Segment(0.5, 1.0))
    assert len(half) == RATE // 4


@pytest.mark.parametrize("segment", [(2.0, math.inf), (1.0, 2.5), (9.0, 10.0)])
def test_a_segment_outside_its_file_is_refused(tmp_path, segment):
    soundfile.write(tmp_path / "a.wav", tone(2.0), RATE)
    with pytest.raises(AudioError, match="is 2.000 s long, and a segment of it is"):
        waveform.load(tmp_path / "a.wav", RATE, segment=waveform.Segment(*segment))
