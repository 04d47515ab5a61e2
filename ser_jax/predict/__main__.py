"""Predict the emotion of audio files with a trained run or an exported one.

python -m ser_jax.predict --workdir=runs/cnn2d-tfds clip.wav folder/ 'more/*.wav'
python -m ser_jax.predict --workdir=runs/cnn2d-tfds long.wav --window=2.5 --hop=1.0
python -m ser_jax.predict --workdir=runs/cnn2d-tfds table.csv --format=csv
"""

if __name__ == "__main__":  # before imports that take a while
    from ser_jax.common import interrupts

    interrupts.end_at_once()

import argparse
import contextlib
import math
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from ser_jax.audio.files import AudioFile, find, foreign_note, lines_of_stdin
from ser_jax.audio.listing import audio_in
from ser_jax.audio.waveform import WHOLE
from ser_jax.common import interrupts
from ser_jax.common.cli import exit_with_message, path_flag, program
from ser_jax.common.errors import UserError
from ser_jax.common.files import replacing
from ser_jax.common.runtime import quiet_compiler, require_devices, use_compilation_cache
from ser_jax.predict import embeddings
from ser_jax.predict.formats import ERROR, Audacity, Csv, Format, JsonLines, Table
from ser_jax.predict.predictor import Predictor
from ser_jax.predict.rows import Windowing, predict_files

FORMATS = {"table": Table, "csv": Csv, "jsonl": JsonLines, "audacity": Audacity}
_SHORTEST = 0.01  # s, of --window and --hop
_TABLES = (".csv", ".tsv")
_COLUMNS = 160  # of a table written to a file


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 1 if a file could not be read, else 0."""
    begin = time.perf_counter()
    flags = _flags(arguments)
    foreign: list[str] = []
    files = _files(flags.audio, foreign)
    if not files:
        raise UserError("the list on stdin names no file; give one path per line.")
    listed = any(file.segment != WHOLE for file in files)
    timed = listed or bool(flags.window)
    if flags.format == "audacity" and not timed:
        raise UserError(
            "--format=audacity needs --window, the length of a window in seconds, or a table with "
            "start and end."
        )
    n_files = len({file.path for file in files}) if listed else len(files)
    if flags.format == "audacity" and n_files > 1:
        raise UserError(
            f"--format=audacity is the label track of one recording, and these are {n_files} "
            "files; give one, or another --format."
        )
    if foreign:
        print(f"note: {foreign_note(foreign)}", file=sys.stderr)
    quiet_compiler()
    use_compilation_cache()
    require_devices()
    n_unread, embedded = 0, []
    no_bar = not sys.stderr.isatty() or (flags.out is None and sys.stdout.isatty())
    try:
        with (
            interrupts.deferred(),
            _output(flags.out) as out,
            contextlib.closing(
                Predictor(flags.workdir, keep_features=bool(flags.embeddings))
            ) as predictor,
            tqdm(total=len(files), unit="file", disable=no_bar, leave=False) as progress,
        ):
            for replica in predictor.backend.failed:
                print(f"note: left out, since its training failed: {replica}", file=sys.stderr)
            windowing = _windowing(flags, predictor)
            text = _format(flags, timed, predictor.labels, [file.path for file in files])
            out.write(text.header())
            for n_files, rows in predict_files(predictor, files, windowing):
                out.writelines(map(text.line, rows))
                out.flush()
                embedded += [row for row in rows if flags.embeddings and row.prediction]
                progress.update(n_files)
                errors = [row for row in rows if row.status == ERROR]
                n_unread += len(errors)
                if flags.format == "audacity":  # a label track has no place for errors
                    sys.stderr.writelines(f"error: {row.note}\n" for row in errors)
            if flags.embeddings:
                embeddings.write(flags.embeddings, embedded)
    except BrokenPipeError:  # as with `| head`; the interpreter's last flush must not fail either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    seconds = time.perf_counter() - begin
    unread = f", {n_unread:,} of them could not be read" if n_unread else ""
    noun = "segment" if listed else "file"
    print(
        f"{len(files):,} {noun}{'s' * (len(files) > 1)}{unread}, {seconds:.1f} s, "
        f"{len(files) / seconds:.3g} {noun}s/s",
        file=sys.stderr,
    )
    return 1 if n_unread else 0


def _files(arguments: Sequence[str], foreign: list[str]) -> list[AudioFile]:
    """Return the files that the arguments name, and those that their tables list, in order."""
    files: list[AudioFile] = []
    for argument in arguments:
        if argument.lower().endswith(_TABLES) and os.path.isfile(argument):
            files += audio_in(Path(argument))
        else:
            files += find([argument], lines_of_stdin(), foreign)
    return files


def _flags(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=program("ser_jax.predict"),
        description=__doc__.splitlines()[0],
        epilog="The exit code is 1 if a file could not be read, else 0. Compiled programs are "
        "cached in the user's cache folder, or in JAX_COMPILATION_CACHE_DIR.",
    )
    parser.add_argument(
        "audio",
        nargs="*",
        help="files, folders, quoted patterns, tables (.csv, .tsv) with a column path and, for "
        "segments, start and end in seconds, or - for a list on stdin, one path per line",
    )
    parser.add_argument(
        "--workdir",
        type=path_flag,
        required=True,
        help="folder of a trained run, or a file written by ser_jax.export",
    )
    parser.add_argument("--format", choices=FORMATS, default="table", help="default: %(default)s")
    parser.add_argument("--out", type=path_flag, help="file to write; default: stdout")
    parser.add_argument(
        "--embeddings",
        type=path_flag,
        help="also write what the network saw of each file to this .npz: path, start and end of "
        "segments, embedding (files × frames × columns)",
    )
    parser.add_argument(
        "--window", type=_seconds, help="split recordings into windows of this many seconds"
    )
    parser.add_argument(
        "--hop", type=_seconds, help="seconds from one window to the next; default: half a window"
    )
    parser.add_argument(
        "--segments", action="store_true", help="merge windows into segments of one emotion"
    )
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    # argparse loses the "--" in front of names that begin with "-".
    end = arguments.index("--") if "--" in arguments else len(arguments)
    flags = parser.parse_intermixed_args(arguments[:end])
    flags.audio += arguments[end + 1 :]
    if not flags.audio:
        parser.error("name an audio file, a folder, or - for a list on stdin")
    if not flags.window:
        for given, name in ((flags.hop, "--hop"), (flags.segments, "--segments")):
            if given:
                parser.error(f"{name} needs --window, the length of a window in seconds")
    if flags.embeddings and flags.window:
        parser.error("--embeddings are of whole files or of a table's segments, not of windows")
    flags.hop = flags.hop or (flags.window or 0) / 2
    if flags.window and flags.hop > flags.window:
        parser.error(
            f"--hop={flags.hop:g} is longer than --window={flags.window:g}, which would leave gaps "
            "between windows; lower it"
        )
    return flags


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not _SHORTEST <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds ≥ {_SHORTEST}")
    return value


def _windowing(flags: argparse.Namespace, predictor: Predictor) -> Windowing | None:
    if not flags.window:
        return None
    if flags.window > predictor.seconds:
        raise UserError(
            f"--window={flags.window:g} is longer than the "
            f"{math.floor(100 * predictor.seconds) / 100:.2f} s of the model's input; lower it."
        )
    if flags.window < predictor.least_seconds:
        print(
            f"note: windows of {flags.window:g} s are shorter than any training clip "
            f"({predictor.least_seconds:.2f} s or more).",
            file=sys.stderr,
        )
    return Windowing(flags.window, flags.hop, flags.segments or flags.format == "audacity")


def _format(
    flags: argparse.Namespace, timed: bool, labels: Sequence[str], paths: Sequence[str]
) -> Format:
    if flags.format == "table":
        on_terminal = not flags.out and sys.stdout.isatty()
        width = shutil.get_terminal_size().columns if on_terminal else _COLUMNS
        return Table(labels, timed, paths, width)
    return FORMATS[flags.format](labels, timed)


@contextlib.contextmanager
def _output(path: Path | None) -> Iterator[TextIO]:
    """Yield stdout, or a file that appears once it is complete; file names may be any bytes."""
    if path is None:
        yield sys.stdout
        return
    with (
        replacing(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        yield file


if __name__ == "__main__":
    exit_with_message(main)
