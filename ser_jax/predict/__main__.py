"""Emotions of audio files, by a trained run or an exported one.

python -m ser_jax.predict --workdir=runs/cnn2d-tfds clip.wav folder/ 'more/*.wav'
python -m ser_jax.predict --workdir=runs/cnn2d-tfds long.wav --window=2.5 --hop=1.0
"""

import argparse
import contextlib
import math
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ser_jax.audio import files as audio_files
from ser_jax.common import files, runtime
from ser_jax.common.cli import exit_with_message
from ser_jax.common.errors import UserError
from ser_jax.predict.formats import ERROR, Audacity, Csv, Format, JsonLines, Table

if TYPE_CHECKING:
    from ser_jax.predict.predictor import Predictor
    from ser_jax.predict.rows import Windowing

FORMATS = ("table", "csv", "jsonl", "audacity")
_SHORTEST = 0.01  # s, of --window and --hop
_NO_TERMINAL = (160, 24)  # columns and lines of a table that goes to a file


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code, 1 if a file could not be read."""
    begin = time.perf_counter()
    flags = _flags(arguments)
    found = audio_files.find(flags.audio, audio_files.lines_of_stdin())
    if not found:
        raise UserError("the list on stdin names no file; give it a path a line.")
    if flags.format == "audacity" and len(found) > 1:
        raise UserError(
            f"--format=audacity is the label track of one recording, and these are {len(found)} "
            "files; give one, or another --format."
        )
    runtime.use_compilation_cache()
    # JAX takes a while, and neither --help nor a wrong flag should.
    from ser_jax.predict import rows as predict_rows
    from ser_jax.predict.predictor import Predictor

    n_bad = 0
    try:
        with (
            _output(flags.out) as out,
            contextlib.closing(Predictor(flags.workdir)) as predictor,
            _progress(len(found), flags.out) as progress,
        ):
            cut = _cut(flags, predictor)
            style = _style(flags, predictor.labels, [one.path for one in found])
            out.write(style.begin())
            for n_files, rows in predict_rows.rows(predictor, found, cut):
                out.writelines(map(style.line, rows))
                out.flush()
                progress.update(n_files)
                bad = [row for row in rows if row.status == ERROR]
                n_bad += len(bad)
                if flags.format == "audacity":  # its rows have no place for this
                    sys.stderr.writelines(f"error: {row.note}\n" for row in bad)
    except BrokenPipeError:  # `| head` has seen enough; the interpreter's last flush must not fail
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    seconds = time.perf_counter() - begin
    unread = f", {n_bad:,} of them could not be read" if n_bad else ""
    print(
        f"{len(found):,} file{'s' * (len(found) > 1)}{unread}, {seconds:.1f} s, "
        f"{len(found) / seconds:.3g} files/s",
        file=sys.stderr,
    )
    return 1 if n_bad else 0


def _flags(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m ser_jax.predict",
        description=__doc__.splitlines()[0],
        epilog="The exit code is 1 if a file could not be read, and 0 otherwise. Programs that are "
        "compiled are kept in the user's cache folder, or where JAX_COMPILATION_CACHE_DIR says.",
    )
    parser.add_argument(
        "audio",
        nargs="*",
        help="files, folders, patterns in quotes, or - for a list on stdin, a path a line",
    )
    parser.add_argument(
        "--workdir", type=Path, required=True, help="of a trained run, or its exported file"
    )
    parser.add_argument("--format", choices=FORMATS, default="table", help="default: %(default)s")
    parser.add_argument("--out", type=Path, help="the file to write; stdout by default")
    parser.add_argument("--window", type=_seconds, help="hear recordings in windows of so many s")
    parser.add_argument(
        "--hop", type=_seconds, help="s from a window to the next; half a window by default"
    )
    parser.add_argument(
        "--segments", action="store_true", help="merge windows into stretches of one emotion"
    )
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    # argparse loses the "--" that names which begin with "-" stand behind.
    end = arguments.index("--") if "--" in arguments else len(arguments)
    flags = parser.parse_intermixed_args(arguments[:end])
    flags.audio += arguments[end + 1 :]
    if not flags.audio:
        parser.error("name an audio file, a folder, or - for a list on stdin")
    if not flags.window:
        for given, name in (
            (flags.hop, "--hop"),
            (flags.segments, "--segments"),
            (flags.format == "audacity", "--format=audacity"),
        ):
            if given:
                parser.error(f"{name} needs --window, the seconds that are heard at once")
    flags.hop = flags.hop or (flags.window or 0) / 2
    if flags.window and flags.hop > flags.window:
        parser.error(
            f"--hop={flags.hop:g} is longer than --window={flags.window:g}, so that some of it "
            "would not be heard; lower it"
        )
    return flags


def _cut(flags: argparse.Namespace, predictor: "Predictor") -> "Windowing | None":
    from ser_jax.predict.rows import Windowing

    if not flags.window:
        return None
    if flags.window > predictor.seconds:
        raise UserError(
            f"--window={flags.window:g} is longer than the "
            f"{math.floor(100 * predictor.seconds) / 100:.2f} s that the model hears at once; "
            "lower it."
        )
    if flags.window < predictor.least_seconds:
        print(
            f"note: windows of {flags.window:g} s are shorter than any training clip, "
            f"{predictor.least_seconds:.2f} s.",
            file=sys.stderr,
        )
    return Windowing(flags.window, flags.hop, flags.segments or flags.format == "audacity")


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not _SHORTEST <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from {_SHORTEST} up")
    return value


def _style(flags: argparse.Namespace, labels: Sequence[str], paths: Sequence[str]) -> Format:
    timed = bool(flags.window)
    if flags.format == "table":
        on_terminal = not flags.out and sys.stdout.isatty()
        width = (shutil.get_terminal_size() if on_terminal else os.terminal_size(_NO_TERMINAL))[0]
        return Table(labels, timed, paths, width)
    if flags.format == "audacity":
        return Audacity()
    return {"csv": Csv, "jsonl": JsonLines}[flags.format](labels, timed)


@contextlib.contextmanager
def _output(path: Path | None) -> Iterator[TextIO]:
    """stdout, or a file that is there only once it is whole. Names may be any bytes."""
    if path is None:
        yield sys.stdout
        return
    with (
        files.replacing(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        yield file


def _progress(n_files: int, out: Path | None):
    """A bar on a terminal where no rows appear."""
    from tqdm import tqdm

    hidden = not sys.stderr.isatty() or (out is None and sys.stdout.isatty())
    return tqdm(total=n_files, unit="file", disable=hidden, leave=False)


def command() -> None:
    """Run `main`; ser-predict starts here."""
    exit_with_message(main)


if __name__ == "__main__":
    command()
