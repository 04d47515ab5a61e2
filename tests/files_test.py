"""Files and folders are replaced completely or not at all, and foreign content is kept."""

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ser_jax.common import files
from ser_jax.common.errors import UserError

ROOT = Path(__file__).parents[1]


def is_own(path: Path) -> bool:
    return path.suffix == ".txt" or path == Path("sub")


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def write(folder: Path, text: str, name: str = "page.txt") -> None:
    with files.replacing_folder(folder, is_own) as new:
        assert new != folder and not any(new.iterdir())
        (new / name).write_text(text)


def test_a_folder_is_made_and_replaced(tmp_path):
    folder = tmp_path / "above" / "page"
    write(folder, "first")
    (folder / "sub").mkdir()
    (folder / "sub" / "more.txt").write_text("more")
    mode = folder.stat().st_mode
    write(folder, "second", "other.txt")
    assert contents(tmp_path) == {"above/page/other.txt": "second"}
    assert folder.stat().st_mode == mode == (tmp_path / "above").stat().st_mode


def test_a_folder_is_kept_when_the_block_fails(tmp_path):
    write(tmp_path / "page", "first")
    with pytest.raises(ZeroDivisionError), files.replacing_folder(tmp_path / "page", is_own) as new:
        (new / "page.txt").write_text("half")
        assert contents(tmp_path / "page") == {"page.txt": "first"}
        _ = 1 / 0
    assert contents(tmp_path) == {"page/page.txt": "first"}


def test_a_folder_is_kept_when_the_new_one_cannot_be_moved(tmp_path, monkeypatch):
    write(tmp_path / "page", "first")
    rename = Path.rename

    def fail_for_the_new_one(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError("no")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_the_new_one)
    with pytest.raises(OSError, match="no"):
        write(tmp_path / "page", "second")
    assert contents(tmp_path) == {"page/page.txt": "first"}


@pytest.mark.parametrize("name", ["notes.md", "sub/notes.md", "other"])
def test_a_folder_with_foreign_content_is_refused_before_the_work(tmp_path, name):
    folder = tmp_path / "page"
    (folder / name).parent.mkdir(parents=True)
    (folder / name).mkdir() if name == "other" else (folder / name).write_text("mine")
    with pytest.raises(UserError, match=f"cannot replace .*{name} does not belong to it"):
        write(folder, "new")
    assert (folder / name).exists() and [p.name for p in tmp_path.iterdir()] == ["page"]


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path):
    (tmp_path / "page").write_text("mine")
    with pytest.raises(UserError, match="is not a folder"):
        write(tmp_path / "page", "new")
    with pytest.raises(UserError, match="cannot write .*below"):
        write(tmp_path / "page" / "below", "new")
    assert contents(tmp_path) == {"page": "mine"}


KILLED = """
import os, signal, sys
from pathlib import Path
from ser_jax.common import files
with files.replacing(Path("a.txt")) as one, files.replacing_folder(Path("page"), bool) as two:
    for path in (one, two / "page.txt"):
        path.write_text("half of something long")
    print("written", flush=True)
    if sys.argv[1:]:
        sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def start(folder: Path, *arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-c", KILLED, *arguments]
    environment, pipe = {**os.environ, "PYTHONPATH": str(ROOT)}, subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=environment, stdin=pipe, stdout=pipe)


def test_what_a_killed_process_has_left_is_taken_over(tmp_path):
    for _ in range(2):
        start(tmp_path).communicate()
        assert len(list(tmp_path.iterdir())) == 2
    mine = ".a.other.tmp.txt", ".a.txt", ".page.other"
    for name in mine:
        (tmp_path / name).write_text("mine")
    files.write_text(tmp_path / "a.txt", "whole")
    write(tmp_path / "page", "whole")
    assert contents(tmp_path) == {
        "a.txt": "whole",
        "page/page.txt": "whole",
        **dict.fromkeys(mine, "mine"),
    }


def test_what_a_running_process_writes_is_left_to_it(tmp_path):
    with start(tmp_path, "wait") as process:
        process.stdout.readline()
        before = contents(tmp_path)
        assert len(before) == 2
        with files.replacing(tmp_path / "a.txt") as one, files.replacing(tmp_path / "a.txt") as two:
            assert one != two and not {one.name, two.name} & before.keys()
            one.write_text("one")
            two.write_text("two")
        write(tmp_path / "page", "whole")
        assert contents(tmp_path) == {**before, "a.txt": "one", "page/page.txt": "whole"}
        process.communicate()


def test_a_folder_whose_process_was_killed_while_it_took_its_place_is_kept(tmp_path):
    write(tmp_path / "page", "first")
    with pytest.raises(ZeroDivisionError), files.replacing_folder(tmp_path / "page", is_own) as new:
        unfinished = new.parent
        _ = 1 / 0
    unfinished.mkdir()
    (tmp_path / "page").rename(unfinished / "old")
    with pytest.raises(ZeroDivisionError), files.replacing_folder(tmp_path / "page", is_own):
        _ = 1 / 0
    assert contents(tmp_path) == {"page/page.txt": "first"}


def test_file_systems_without_locks_are_written(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    start(tmp_path).communicate()
    before = contents(tmp_path)
    monkeypatch.setattr("fcntl.flock", no_locks)
    for name in ("a", "b"):
        files.write_text(tmp_path / f"{name}.txt", name)
        write(tmp_path / f"page{name}", name)
    made = {"a.txt": "a", "b.txt": "b", "pagea/page.txt": "a", "pageb/page.txt": "b"}
    assert contents(tmp_path) == {**before, **made}


def test_a_link_is_kept_and_its_target_replaced(tmp_path):
    for target, link in (("folder", "to_folder"), ("file", "to_file")):
        os.symlink(tmp_path / target, tmp_path / link)
    (tmp_path / "file").write_text("first")
    write(tmp_path / "to_folder", "first")
    write(tmp_path / "to_folder", "second")
    files.write_text(tmp_path / "to_file", "second")
    assert (tmp_path / "to_folder").is_symlink() and (tmp_path / "to_file").is_symlink()
    assert contents(tmp_path / "folder") == {"page.txt": "second"}
    assert (tmp_path / "file").read_text() == "second"


def test_a_file_is_kept_when_the_block_fails(tmp_path):
    files.write_text(tmp_path / "a.txt", "first")
    with pytest.raises(ZeroDivisionError), files.replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        _ = 1 / 0
    assert contents(tmp_path) == {"a.txt": "first"}


# The limit on a file's size fails in the middle of a write, as a full disk does.
FULL = """
import resource, sys
from pathlib import Path
from ser_jax.common import cli, files
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
cli.exit_with_message(lambda: files.write_text(Path(sys.argv[1]), "x" * 100_000))
"""


def test_a_full_disk_names_the_file(tmp_path):
    files.write_text(tmp_path / "a.txt", "first")
    run = subprocess.run(
        [sys.executable, "-c", FULL, tmp_path / "a.txt"], capture_output=True, text=True
    )
    assert run.returncode == 1
    assert run.stderr.startswith(f"error: cannot write {tmp_path}/a.txt (File too large); make")
    assert contents(tmp_path) == {"a.txt": "first"}


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        ValueError("RESOURCE_EXHAUSTED: Failed to write 9 bytes: No space left on device [28]"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
    ],
)
def test_full_disks_are_recognised_in_errors_of_any_library(error, tmp_path):
    with (
        pytest.raises(UserError, match=f"cannot write {tmp_path}/page"),
        files.replacing_folder(tmp_path / "page", is_own),
    ):
        raise error
    assert not any(tmp_path.iterdir())


def test_who_waits_for_a_folder_says_so(tmp_path, capsys):
    with files.locked(tmp_path):
        thread = threading.Thread(target=lambda: files.locked(tmp_path).__enter__(), daemon=True)
        thread.start()
        while "Waiting for another process" not in capsys.readouterr().out:
            assert thread.is_alive()
            time.sleep(0.01)
    thread.join()


def test_a_folder_is_locked_by_one_at_a_time(tmp_path):
    with (
        files.locked(tmp_path),
        pytest.raises(UserError, match="in use"),
        files.locked(tmp_path, refusal="in use"),
    ):
        pytest.fail("not refused")
    with files.locked(tmp_path, refusal="in use"):
        pass
