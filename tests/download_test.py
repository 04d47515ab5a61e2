"""The downloader against a local server that fails in every way that servers do."""

import dataclasses
import hashlib
import http.server
import itertools
import signal
import subprocess
import sys
import threading
import time
import types
from collections import Counter
from pathlib import Path

import pytest

from data_prep import corpora
from data_prep import download as data_prep_download
from data_prep.corpora.release import read_manifest
from data_prep.download import Outcome, download, mirror
from ser_jax.common.errors import UserError
from tests.serving import serving

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 72862\n"
BODIES = {f"AudioWAV/{i}.wav": bytes([i]) * 100_000 for i in range(1, 5)}
BODIES["processedResults/votes.csv"] = b"a,b\n1,2\n"
MANIFEST = {name: hashlib.sha256(body).hexdigest() for name, body in BODIES.items()}
CLIP = "AudioWAV/1.wav"


class Server(http.server.ThreadingHTTPServer):
    """Serves BODIES below /base/. `faults[name]` lists what the next responses do instead."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.faults: dict[str, list[str]] = {}
        self.asked: Counter[str] = Counter()
        self.stall = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/base"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        name = self.path.removeprefix("/base/")
        self.server.asked[name] += 1
        faults = self.server.faults.get(name, self.server.faults.get("*", []))
        fault = faults[0] if len(faults) == 1 else faults.pop(0) if faults else ""
        body = BODIES.get(name)
        if fault == "drop":
            return self.connection.close()
        if fault == "busy":
            self.send_response(429)
            self.send_header("Retry-After", "7")
            return self.end_headers()
        if fault.isdecimal() or body is None:
            return self.send_error(int(fault or 404))
        if fault.startswith("to "):
            self.send_response(302)
            self.send_header("Location", fault.removeprefix("to "))
            return self.end_headers()
        bodies = {"pointer": POINTER, "corrupt": body[:-1] + b"?", "other": body[:50]}
        sent = bodies.get(fault, body)
        self.send_response(200)
        if fault != "no length":
            self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        if fault == "truncate":
            sent = sent[: len(sent) // 2]
        if fault == "stall":
            self.wfile.write(sent[:1000])
            self.server.stall.wait(10)
        return self.wfile.write(sent)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving(Server()) as running:
        yield running


def get(root: Path, server: Server, manifest=MANIFEST, **kwargs) -> Outcome:
    quick = {"delay_s": 0.001, "attempts": 3, "timeout_s": 5.0, "jobs": 3}
    return download(root, manifest, mirror(server.url), **{**quick, **kwargs})


def names(root: Path) -> set[str]:
    """Every file below root, including partial ones left behind."""
    return {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()}


def test_fetches_everything_under_its_name(server, tmp_path):
    assert get(tmp_path, server) == Outcome(kept=0, fetched=5, failed={})
    assert names(tmp_path) == set(BODIES)
    assert all((tmp_path / n).read_bytes() == body for n, body in BODIES.items())


@pytest.mark.parametrize("fault", ["drop", "truncate", "corrupt", "other", "503", "500", "429"])
def test_transient_faults_are_retried(server, tmp_path, fault):
    server.faults = {CLIP: [fault, fault, ""]}
    assert get(tmp_path, server).failed == {}
    assert server.asked[CLIP] == 3
    assert (tmp_path / CLIP).read_bytes() == BODIES[CLIP]


def test_response_without_a_length_is_accepted_by_its_checksum(server, tmp_path):
    server.faults = {"*": ["no length"]}
    assert get(tmp_path, server).fetched == 5


@pytest.mark.parametrize(
    ("fault", "asked", "reason"),
    [
        ("404", 1, "HTTP 404"),
        ("403", 1, "HTTP 403"),
        ("pointer", 1, "Git LFS pointer"),
        ("to file:///etc/hostname", 1, "file:///etc/hostname"),
        ("to ftp://127.0.0.1/x", 1, "ftp://127.0.0.1/x"),
        ("to http://[::1", 3, "Invalid IPv6 URL"),
        ("503", 3, "HTTP 503"),
        ("drop", 3, "closed"),
        ("truncate", 3, "50000 bytes read"),
        ("corrupt", 3, "another checksum"),
        ("other", 3, "another checksum"),
    ],
)
def test_permanent_faults_fail_one_file_only_and_leave_nothing_behind(
    server, tmp_path, fault, asked, reason
):
    server.faults = {CLIP: [fault]}
    outcome = get(tmp_path, server)
    assert outcome.fetched == 4
    assert outcome.failed.keys() == {CLIP}
    assert reason in outcome.failed[CLIP]
    assert server.asked[CLIP] == asked
    assert names(tmp_path) == set(BODIES) - {CLIP}


def test_stalled_connection_is_closed_and_retried(server, tmp_path):
    server.faults = {CLIP: ["stall", ""]}
    assert get(tmp_path, server, timeout_s=0.2).failed == {}
    assert server.asked[CLIP] == 2


def test_delay_doubles_unless_the_server_asks_for_longer(server, tmp_path, monkeypatch):
    waits = []

    class Hasty(threading.Event):
        def wait(self, seconds):
            waits.append(seconds)

    monkeypatch.setattr(data_prep_download, "threading", types.SimpleNamespace(Event=Hasty))
    server.faults = {CLIP: ["503", "503", "busy", "503"]}
    get(tmp_path, server, attempts=5, delay_s=1.0)
    assert waits == [1.0, 2.0, 7, 8.0]


def test_audio_and_tables_are_on_separate_hosts(server, tmp_path):
    release = dataclasses.replace(
        corpora.CORPORA["crema_d"].release,
        audio_url=server.url,
        tables_url=server.url + "/tables",
    )
    outcome = download(tmp_path, MANIFEST, release.base_url)
    assert outcome.fetched == 4
    assert server.asked["tables/processedResults/votes.csv"] == 1


def test_resume_fetches_only_what_is_missing(server, tmp_path):
    server.faults = {CLIP: ["404"], "AudioWAV/2.wav": ["404"]}
    get(tmp_path, server)
    before = {n: (tmp_path / n).stat().st_ino for n in names(tmp_path)}
    server.faults, server.asked = {}, Counter()
    assert get(tmp_path, server) == Outcome(kept=3, fetched=2, failed={})
    assert server.asked == {CLIP: 1, "AudioWAV/2.wav": 1}
    assert {n: (tmp_path / n).stat().st_ino for n in before} == before
    server.asked = Counter()
    assert get(tmp_path, server) == Outcome(kept=5, fetched=0, failed={})
    assert not server.asked


def test_wrong_file_is_replaced_only_by_the_right_one(server, tmp_path):
    (tmp_path / "AudioWAV").mkdir()
    (tmp_path / CLIP).write_bytes(POINTER)
    server.faults = {CLIP: ["corrupt"]}
    get(tmp_path, server)
    assert (tmp_path / CLIP).read_bytes() == POINTER
    server.faults = {}
    get(tmp_path, server)
    assert (tmp_path / CLIP).read_bytes() == BODIES[CLIP]


def test_unreachable_server_is_given_up(server, tmp_path):
    many = {f"AudioWAV/x{i}.wav": "0" * 64 for i in range(200)}
    server.faults = {"*": ["drop"]}
    outcome = get(tmp_path, server, many, jobs=2)
    assert outcome.failed.keys() == many.keys()
    assert sum(server.asked.values()) < 3 * 2 * data_prep_download.GIVE_UP
    assert "not tried" in outcome.failed["AudioWAV/x199.wav"]
    # Files that the server does not have do not count.
    server.faults, server.asked = {}, Counter()
    get(tmp_path, server, many)
    assert server.asked.keys() == many.keys()


@pytest.mark.parametrize("name", ["../x.wav", "/etc/x.wav", "a/../../x.wav", ".hidden", "a//b"])
def test_no_name_leads_out_of_the_folder(server, tmp_path, name):
    with pytest.raises(UserError, match="not a plain relative path"):
        get(tmp_path, server, {name: "0" * 64})
    (tmp_path / "manifest").write_text(f"{'0' * 64}  {name}\n")
    with pytest.raises(UserError, match="not a plain relative path"):
        read_manifest(tmp_path / "manifest")
    assert not server.asked


@pytest.mark.parametrize("url", ["file:///etc", "ftp://host/x", "/etc", "https://", ""])
def test_mirror_must_be_a_web_address(url):
    with pytest.raises(UserError, match="not a web address"):
        mirror(url)


def test_folder_that_cannot_be_written_is_a_user_error(server, tmp_path):
    (tmp_path / "AudioWAV").write_text("a file where the folder should be")
    with pytest.raises(UserError, match="cannot write"):
        get(tmp_path, server)
    (tmp_path / "taken" / CLIP).mkdir(parents=True)
    with pytest.raises(UserError, match="cannot write"):
        get(tmp_path / "taken", server)


def test_shipped_manifest_is_complete():
    manifest = read_manifest(corpora.CORPORA["crema_d"].release.manifest)
    clips = [name for name in manifest if name.startswith("AudioWAV/")]
    assert len(clips) == 7_442
    assert list(manifest) == sorted(manifest)
    assert {Path(name).name for name in manifest.keys() - set(clips)} == {
        "VideoDemographics.csv",
        "SentenceFilenames.csv",
        "summaryTable.csv",
        "tabulatedVotes.csv",
    }


def test_command_reports_failures_and_how_to_continue(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(data_prep_download, "read_manifest", lambda path: MANIFEST)
    monkeypatch.setattr("sys.argv", ["download", f"--root={tmp_path}", f"--base_url={server.url}"])
    server.faults = {CLIP: ["404"]}
    assert data_prep_download.main() == 1
    text = capsys.readouterr().out
    assert "4 were downloaded, 1 failed" in text
    assert "HTTP 404" in text
    assert "Run it again" in text
    server.faults = {}
    assert data_prep_download.main() == 0
    text = capsys.readouterr().out
    assert "4 files were already there, 1 were downloaded" in text
    assert "ODbL" in text


def test_ctrl_c_leaves_no_partial_file(server, tmp_path, monkeypatch):
    """The real command, stopped while each of its connections is halfway through a file."""
    for name in itertools.islice(read_manifest(corpora.CORPORA["crema_d"].release.manifest), 50):
        monkeypatch.setitem(BODIES, name, b"slow" * 1000)
    server.faults = {"*": ["stall"]}
    # A shell that runs the tests in the background has them, and their children, ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-m", "data_prep.download", f"--root={tmp_path}", "--jobs=4"]
        + [f"--base_url={server.url}"],
        cwd=Path(__file__).parents[1],
        stderr=subprocess.PIPE,
        text=True,
    )
    signal.signal(signal.SIGINT, before)
    deadline = time.monotonic() + 30
    while len(names(tmp_path)) < 4 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(names(tmp_path)) == 4  # under their temporary names
    while sum(server.asked.values()) < 4 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    while "stopping" not in process.stderr.readline():  # a busy machine takes a while
        assert process.poll() is None
    server.stall.set()
    _, text = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "resume" in text
    assert "Traceback" not in text
    assert names(tmp_path) == set()
    assert sum(server.asked.values()) == 4  # no further file was started
