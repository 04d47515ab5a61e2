"""The download of an encoder from a local server with ranges, without, and with faults."""

import hashlib
import http.server
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from data_prep import download_encoder
from data_prep.download_encoder import ENCODERS, RECORD, Outcome, Published, download
from ser_jax.common.errors import UserError
from ser_jax.encoders import network, weights
from tests.serving import serving

SIZE = network.Size(n_mels=80, width=64, n_layers=2, mlp_width=128, n_positions=100)
NAME = "whisper-tiny"
HALF = 2**17  # bytes; a whole number of chunks, since the last one of a cut body is lost


def encoder_file(seed: int) -> bytes:
    random = np.random.default_rng(seed)
    return save(
        {
            f"model.encoder.{name}": random.standard_normal(shape).astype(np.float32)
            for name, shape in weights._expected_shapes(SIZE).items()
        }
    )


BODY, OTHER = encoder_file(0), encoder_file(1)
SHA256 = hashlib.sha256(BODY).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves `body` as every file. `faults` lists what the next responses do instead."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.etag, self.has_ranges = BODY, '"1"', True
        self.faults: list[str] = []
        self.asked: list[tuple[str, str]] = []  # path and Range
        self.stall = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        """Say nothing of clients that have gone."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        server, asked = self.server, self.headers.get("Range", "")
        server.asked.append((self.path, asked))
        fault = server.faults.pop(0) if server.faults else ""
        if fault.isdecimal():
            return self.send_error(int(fault))
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and server.has_ranges else 0
        n_bytes = len(server.body)
        if start >= n_bytes:
            return self.send_error(416)
        self.send_response(206 if start else 200)
        start += fault == "shifted"
        if start:
            self.send_header("Content-Range", f"bytes {start}-{n_bytes - 1}/{n_bytes}")
        if fault == "page":
            self.send_header("Content-Type", "text/html; charset=utf-8")
        if fault == "long":
            self.send_header("Content-Length", str(10**15))
        elif fault != "no length":
            self.send_header("Content-Length", str(n_bytes - start))
        self.send_header("ETag", server.etag)
        self.end_headers()
        sent = server.body[start:]
        if fault == "cut":
            sent = sent[:HALF]
        if fault == "stall":
            self.wfile.write(sent[:HALF])
            server.stall.wait(30)
        return self.wfile.write(sent)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving(Server()) as running:
        yield running


@pytest.fixture
def pinned(monkeypatch):
    monkeypatch.setitem(ENCODERS, NAME, Published(len(BODY), SHA256))


@pytest.fixture
def unpinned(monkeypatch):
    monkeypatch.setitem(ENCODERS, NAME, Published(len(BODY)))


def get(root: Path, server: Server, **kwargs) -> Outcome:
    return download(NAME, root, server.url, **{"delay_s": 0.001, "attempts": 3, **kwargs})


def names(root: Path) -> list[str]:
    return sorted(path.name for path in (root / NAME).iterdir())


def leave_half(root: Path, server: Server) -> None:
    """A download that ended halfway."""
    server.faults = ["cut"]
    with pytest.raises(UserError, match="run it again to resume"):
        get(root, server, attempts=1)
    assert names(root) != [weights.FILE]
    server.asked.clear()


def ranges(server: Server) -> list[str]:
    return [asked for _, asked in server.asked]


def test_file_is_kept_and_checked_by_the_published_checksum(server, pinned, tmp_path):
    path = tmp_path / NAME / weights.FILE
    assert get(tmp_path, server) == Outcome(path, False, SHA256, "published")
    assert server.asked == [("/openai/whisper-tiny/resolve/main/model.safetensors", "")]
    assert path.read_bytes() == BODY
    assert names(tmp_path) == [weights.FILE]
    assert get(tmp_path, server).kept
    assert len(server.asked) == 1
    path.write_bytes(OTHER)
    with pytest.raises(UserError, match="move it away"):
        get(tmp_path, server)
    assert path.read_bytes() == OTHER


def test_unpublished_checksum_is_recorded_once_and_checked_ever_after(server, unpinned, tmp_path):
    assert get(tmp_path, server).checksum == ""
    assert (tmp_path / NAME / RECORD).read_text() == f"{SHA256}  model.safetensors\n"
    assert get(tmp_path, server).checksum == "recorded"
    (tmp_path / NAME / weights.FILE).write_bytes(OTHER)
    with pytest.raises(UserError, match="of its first download"):
        get(tmp_path, server)
    (tmp_path / NAME / weights.FILE).unlink()
    server.body = OTHER
    with pytest.raises(UserError, match="recorded in .*sha256"):
        get(tmp_path, server)
    assert names(tmp_path) == [RECORD]


@pytest.mark.parametrize("fault", ["cut", "stall"])
def test_broken_connection_goes_on_where_it_broke(server, pinned, tmp_path, fault):
    server.faults = [fault]
    get(tmp_path, server, timeout_s=0.5)
    assert ranges(server)[0] == ""
    assert re.fullmatch(r"bytes=[1-9]\d+-", ranges(server)[1])
    assert (tmp_path / NAME / weights.FILE).read_bytes() == BODY


def test_attempts_that_bring_bytes_are_not_counted(server, pinned, tmp_path):
    server.faults = ["cut", "cut"]
    get(tmp_path, server, attempts=2)
    assert len(server.asked) == 3
    (tmp_path / NAME / weights.FILE).unlink()
    server.faults = ["cut", "503", "503"]
    with pytest.raises(UserError, match="HTTP 503"):
        get(tmp_path, server, attempts=2)


@pytest.mark.parametrize("has_ranges", [True, False])
def test_next_run_resumes_or_starts_over_where_ranges_are_ignored(
    server, pinned, tmp_path, has_ranges
):
    leave_half(tmp_path, server)
    server.has_ranges = has_ranges
    get(tmp_path, server)
    assert ranges(server) == [f"bytes={HALF - 1}-"]
    assert (tmp_path / NAME / weights.FILE).read_bytes() == BODY
    assert names(tmp_path) == [weights.FILE]


def test_part_that_lacks_nothing_is_finished(server, pinned, tmp_path):
    leave_half(tmp_path, server)
    [part] = (tmp_path / NAME).iterdir()
    part.write_bytes(BODY)
    get(tmp_path, server)
    assert ranges(server) == [f"bytes={len(BODY) - 1}-"]
    assert names(tmp_path) == [weights.FILE]


@pytest.mark.parametrize("damage", ["of another file", "too long"])
def test_damaged_part_is_downloaded_anew(server, pinned, tmp_path, damage):
    leave_half(tmp_path, server)
    [part] = (tmp_path / NAME).iterdir()
    part.write_bytes(OTHER[:HALF] if damage == "of another file" else BODY + b"more")
    get(tmp_path, server)
    assert ranges(server)[1:] == [""]
    assert (tmp_path / NAME / weights.FILE).read_bytes() == BODY


def test_pieces_of_two_versions_are_never_joined(server, unpinned, tmp_path):
    leave_half(tmp_path, server)
    server.body, server.etag = OTHER, '"2"'
    get(tmp_path, server)
    assert (tmp_path / NAME / weights.FILE).read_bytes() == OTHER
    (tmp_path / NAME / weights.FILE).unlink()
    (tmp_path / NAME / RECORD).unlink()
    leave_half(tmp_path, server)
    server.faults = ["shifted"]
    get(tmp_path, server)
    assert (tmp_path / NAME / weights.FILE).read_bytes() == OTHER
    (tmp_path / NAME / weights.FILE).unlink()
    leave_half(tmp_path, server)
    server.etag, server.has_ranges = '"3"', False
    get(tmp_path, server)
    assert names(tmp_path) == [weights.FILE, RECORD]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("404", "HTTP 404.*--base_url"),
        ("page", "web page"),
        ("long", "1,000,000,000,000,000 bytes, not"),
    ],
)
def test_other_answers_are_one_sentence_and_leave_the_part(server, pinned, tmp_path, fault, reason):
    leave_half(tmp_path, server)
    before = names(tmp_path)
    server.faults, server.has_ranges = [fault], False
    with pytest.raises(UserError, match=reason):
        get(tmp_path, server)
    assert len(server.asked) == 1
    assert names(tmp_path) == before


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (OTHER, f"instead of {SHA256[:12]}"),
        (b"?" * len(BODY), "http.* is not a complete safetensors file"),
        (save({"x": np.zeros((len(BODY) - 64) // 4, np.float32)}), "is not Whisper's"),
    ],
)
def test_wrong_file_is_one_sentence_and_not_kept(server, monkeypatch, tmp_path, body, reason):
    monkeypatch.setitem(ENCODERS, NAME, Published(len(body), SHA256))
    server.body = body
    with pytest.raises(UserError, match=reason):
        get(tmp_path, server)
    assert names(tmp_path) == []
    assert len(server.asked) == 1


def test_body_without_a_length_cannot_fill_the_disk(server, pinned, tmp_path):
    server.body, server.faults = BODY * 3, ["no length"]
    with pytest.raises(UserError, match="more than"):
        get(tmp_path, server)
    server.body, server.faults = BODY, ["no length"]
    assert get(tmp_path, server).sha256 == SHA256


def test_full_disk_is_a_sentence_before_and_during(server, pinned, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
        with pytest.raises(UserError, match="1,000 are free; make room"):
            get(tmp_path, server)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (HALF, limits[1]))
    try:
        with pytest.raises(UserError, match="cannot write .*make room"):
            get(tmp_path, server)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    server.asked.clear()
    get(tmp_path, server)
    assert ranges(server) == [f"bytes={HALF - 1}-"]


@pytest.mark.parametrize("name", ["../x", "/etc", "whisper-huge", "openai/whisper-base", ""])
def test_only_names_of_the_list(server, tmp_path, name):
    with pytest.raises(UserError, match="not among the encoders: whisper-tiny"):
        download(name, tmp_path / "root", server.url)
    assert not server.asked
    assert not (tmp_path / "root").exists()


def test_shipped_list_is_well_formed():
    known = {name for name, published in ENCODERS.items() if published.sha256}
    assert ENCODERS.keys() - known == {"whisper-medium.en"}
    for name in known:
        assert re.fullmatch("[0-9a-f]{64}", ENCODERS[name].sha256), name
    for size, width in {"tiny": 384, "base": 512, "small": 768, "medium": 1024}.items():
        one_row = 4 * width  # the vocabularies of both languages differ by one
        multilingual = ENCODERS[f"whisper-{size}"].n_bytes
        assert ENCODERS[f"whisper-{size}.en"].n_bytes == multilingual - one_row


def test_command_says_what_was_checked(server, unpinned, tmp_path, monkeypatch, capsys):
    arguments = [f"--name={NAME}", f"--root={tmp_path}", f"--base_url={server.url}/"]
    monkeypatch.setattr("sys.argv", ["download_encoder", *arguments])
    download_encoder.main()
    text = capsys.readouterr().out
    assert "No published checksum" in text and SHA256 in text and "from now on" in text
    assert "MIT" in text and "Apache-2.0" in text
    assert f"--config.encoder.path={tmp_path / NAME}" in text
    download_encoder.main()
    assert "Its SHA-256 is the recorded one." in capsys.readouterr().out


def test_ctrl_c_keeps_the_part(server, tmp_path):
    """The real command, stopped halfway."""
    server.body = bytes(ENCODERS[NAME].n_bytes)
    server.faults = ["stall"]
    # A shell that runs the tests in the background has them, and their children, ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-m", "data_prep.download_encoder", f"--name={NAME}"]
        + [f"--root={tmp_path}", f"--base_url={server.url}"],
        cwd=Path(__file__).parents[1],
        stderr=subprocess.PIPE,
        text=True,
    )
    signal.signal(signal.SIGINT, before)
    deadline = time.monotonic() + 60
    parts: list[Path] = []
    while not (parts and parts[0].stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
        parts = list((tmp_path / NAME).glob(".*.part"))
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "run it again to resume" in text
    assert "Traceback" not in text
    assert parts[0].stat().st_size in (HALF // 2, HALF)
    assert names(tmp_path) == [parts[0].name]
