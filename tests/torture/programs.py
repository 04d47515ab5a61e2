"""The commands that are stopped or run on a full disk: how each starts, and what it promises."""

import contextlib
import hashlib
import http.server
import json
import re
import shutil
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.torture import commands

# What a command leaves: {name: a text or digest that is equal whenever the result is}.
State = dict[str, str]

_N_FILES, _FILE_BYTES = 150, 40_000  # of a download
_DOWNLOAD = """
import signal
signal.signal(signal.SIGINT, signal.SIG_DFL)  # as the command's own module does
import sys
from pathlib import Path
from data_prep import download
from ser_jax.common.cli import exit_with_message
manifest = download.read_manifest(Path(sys.argv.pop(1)))
download.read_manifest = lambda path: manifest
exit_with_message(download.main)
"""
_STUDY = """
from configs import study

RUNS = ("cnn2d_seen", "cnn2d_unseen", "cnn2d_seen_again")

def get_config(variant=""):
    config = study.get_config("demo")
    for name in set(config.runs) - set(RUNS):
        del config.runs[name]
    config.table1 = RUNS[:2]
    config.comparisons = tuple(
        {**section, "pairs": pairs}
        for section in config.comparisons
        if (pairs := tuple(p for p in section["pairs"] if set(p[:2]) <= set(RUNS)))
    )
    config.claims = ({"claim": "It learns.", "run": "cnn2d_seen", "reported": 0.2},)
    return config
"""


@dataclass(frozen=True)
class Program:
    """A command.

    Attributes:
      needs: the folder in `base` that it starts from, copied as `run`; "" for none.
      arguments: of Python, from the folder of all programs and that of the trial.
      state: what it has left in the trial's folder.
    """

    needs: str
    arguments: Callable[[Path, Path], list[str]]
    state: Callable[[Path], State]

    def set_up(self, base: Path, folder: Path) -> None:
        """Make the trial's folder."""
        folder.mkdir(parents=True, exist_ok=True)
        if self.needs:
            shutil.copytree(base / self.needs, folder / "run")


def make_base(base: Path) -> None:
    """Prepare what the programs start from: records, a training and its evaluation."""
    base.mkdir()
    commands.must(commands.launch(base, "train"), base)
    shutil.copytree(base / "run", base / "trained")
    commands.must(commands.launch(base, "evaluate"), base)
    (base / "run").rename(base / "evaluated")
    (base / "study.py").write_text(_STUDY)
    lines = [f"{_digest(_body(name))}  {name}\n" for name in _names()]
    (base / "manifest").write_text("".join(sorted(lines)))


def _names() -> list[str]:
    return [f"AudioWAV/{number:03}.wav" for number in range(_N_FILES)]


def _body(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest() * (_FILE_BYTES // 32)


def _text(path: Path, folder: Path) -> str:
    """Return a file's text without the trial's folder."""
    return path.read_text().replace(f"{folder}", "")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextlib.contextmanager
def server(base: Path) -> Iterator[None]:
    """Serve the files to download; the address is in base/url."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = _body(self.path.removeprefix("/"))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(OSError):  # the client may have been killed
                for start in range(0, len(body), 8192):
                    self.wfile.write(body[start : start + 8192])
                    stop.wait(0.005)

        def log_message(self, *args: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *args: object) -> None:
            pass

    stop = threading.Event()
    with Server(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True).start()
        (base / "url").write_text(f"http://127.0.0.1:{running.server_port}")
        try:
            yield
        finally:
            stop.set()
            running.shutdown()


def _download(base: Path, folder: Path) -> list[str]:
    url = (base / "url").read_text()
    flags = [f"--root={folder / 'corpus'}", f"--base_url={url}", "--jobs=4"]
    return ["-c", _DOWNLOAD, str(base / "manifest"), *flags]


def _launch(mode: str, *further: str) -> Callable[[Path, Path], list[str]]:
    """Return the arguments of a mode on the corpus and the records in `base`."""

    def arguments(base: Path, folder: Path) -> list[str]:
        return [*commands.launch(base, mode), f"--workdir={folder / 'run'}", *further]

    return arguments


def _prepare(base: Path, folder: Path) -> list[str]:
    del base
    return commands.launch(folder, "prepare")


def _export(base: Path, folder: Path) -> list[str]:
    del base
    return ["-m", "ser_jax.export", f"--workdir={folder / 'run'}", f"--out={folder / 'out/m.zip'}"]


def _study(base: Path, folder: Path) -> list[str]:
    start, _, *flags = _launch("all")(base, folder)
    further = ["--config.replicas.seeds=1", "--config.split.val_fraction=0.3"]
    epochs = ["--config.train.epochs=2", "--config.runs.cnn2d_seen_again.train.epochs=2"]
    return [start, f"--config={base / 'study.py'}", *flags, *further, *epochs]


def files_below(*names: str) -> Callable[[Path], State]:
    """Return a state: the bytes of all files in these folders."""

    def state(folder: Path) -> State:
        return {
            path.relative_to(folder).as_posix(): _digest(path.read_bytes())
            for name in names
            for path in sorted((folder / name).rglob("*"))
            if path.is_file()
        }

    return state


def training(folder: Path) -> State:
    """Return a run's history and weights."""
    from orbax.checkpoint import v1 as ocp

    state: State = {}
    for workdir in sorted(path.parent for path in folder.rglob("metrics.jsonl")):
        name = workdir.relative_to(folder).as_posix()
        for file in ("config.json", "split.json"):
            state[f"{name}/{file}"] = _text(workdir / file, folder)
        lines = (workdir / "metrics.jsonl").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        timeless = [{k: v for k, v in row.items() if "second" not in k} for row in rows]
        state[f"{name}/metrics.jsonl"] = json.dumps(timeless)
        for part in ("last", "best"):
            folder_of_part = workdir.absolute() / "checkpoints" / part
            with ocp.training.Checkpointer(folder_of_part) as saved, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it restores to the devices that are there
                digest = _digest(_leaves(saved.load(None)))
                state[f"{name}/{part}"] = digest
    return state


def _leaves(tree: object) -> bytes:
    """Return all arrays of a tree as bytes, with their places in it."""
    import jax

    parts = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        is_key = hasattr(leaf, "dtype") and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        array = np.asarray(jax.random.key_data(leaf) if is_key else leaf)
        parts.append(f"{path} {array.dtype} {array.shape}".encode() + array.tobytes())
    return b"".join(parts)


def report(folder: Path) -> State:
    """Return the bytes of a run report, whichever number its folder of clips has."""
    state = {}
    for path in sorted((folder / "run" / "report").rglob("*")):
        if path.is_file():
            name = re.sub(r"clips-\d+", "clips", path.relative_to(folder).as_posix())
            state[name] = _digest(re.sub(rb"clips-\d+", b"clips", path.read_bytes()))
    return state


def evaluation(folder: Path) -> State:
    """Return test results and predictions."""
    return {
        path.relative_to(folder).as_posix(): _text(path, folder)
        for name in ("results.json", "predictions.csv")
        for path in sorted(folder.rglob(name))
    }


def study(folder: Path) -> State:
    """Return everything that a study leaves, without times."""
    pages = files_below("run")(folder)
    page = _text(folder / "run" / "report.md", folder)
    page = re.sub(r"[\d.]+ \| (?=\d+ × )", "", page)  # minutes, before the devices
    pages = {name: text for name, text in pages.items() if re.fullmatch(r"run/[^/]*\.png", name)}
    return {**training(folder), **evaluation(folder), **pages, "report.md": page}


PROGRAMS = {
    "download": Program("", _download, files_below("corpus")),
    "prepare": Program("", _prepare, files_below("corpus", "records")),
    "train": Program("", _launch("train"), training),
    "evaluate": Program("trained", _launch("evaluate"), evaluation),
    "report": Program("evaluated", _launch("report"), report),
    "study": Program("", _study, study),
    "export": Program("evaluated", _export, files_below("out")),
}
