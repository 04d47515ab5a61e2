"""CSV tables of a corpus, damaged at random."""

import csv
import dataclasses
import gzip
import io
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np

# The files that tables list, beside them.
FILES = ("a.wav", "b.wav", "c.wav", "sub/d.wav", "Zoë.wav", "f 1.wav")
_EMOTIONS, _SPEAKERS = ("anger", "joy", "Überraschung"), ("anna", "ben", "Zoë", "7")
_NASTY = [
    *("", " ", "nan", "NaN", "None", "null", "NaT", "N/A", "#N/A", "-", ".", "..", "/", "~", "*"),
    *("0", "1", "1.0", "01", "+1", "1e3", "1e400", "-1", "-0.0", "inf", "-inf", "0x10", "1,5", "١"),
    *(
        "\u200b",
        "\ufeff",
        "\u202eabc",
        "e\u0301",
        "é",
        "ﬁ",
        "İ",
        "ß",
        "SS",
        "😀",
        "\x07",
        "\x1b[2J",
    ),
    *("a/b", "../a.wav", "/etc/passwd", "sub", "sub/", "C:\\a.wav", "sub\\d.wav", "A.WAV", "a.wav"),
    *(
        "a.wav/",
        "./a.wav",
        "a.mp3",
        "a",
        "-a.wav",
        "http://x/a.wav",
        "%s%n",
        "{}",
        "=1+1",
        "'",
        "`",
    ),
    *(
        "True",
        "train",
        "test",
        "dev",
        "Train ",
        "val",
        "x" * 300,
        "a\tb",
        "a\nb",
        "a\x85b",
        "a\u2028b",
    ),
    *("\\N", "\\x00", "\ud800".encode("utf-8", "surrogatepass").decode("utf-8", "replace"), "a\rb"),
]
Rows = list[list[str]]


@dataclasses.dataclass(frozen=True)
class Spreadsheet:
    """A damaged table.

    Attributes:
      damage: what was done to it.
      content: its bytes.
      whole: the undamaged table, if it must be read as that one; else None.
    """

    damage: str
    content: bytes
    whole: bytes | None


def make(seed: int) -> Spreadsheet:
    """Return the table that belongs to a seed."""
    random = np.random.default_rng(seed)
    rows = _rows(random)
    whole = _write(rows)
    name = str(random.choice([*HARMLESS, *HARMFUL]))
    if name in HARMLESS:
        return Spreadsheet(name, HARMLESS[name](random, rows), whole)
    content = HARMFUL[name](random, rows)
    if random.random() < 0.2:
        content = _flip(random, content)
    return Spreadsheet(name, content, None)


def _rows(random: np.random.Generator) -> Rows:
    """Return the header and rows of a sound table, with some of the optional columns."""
    header = ["path", "emotion", "speaker"]
    timed = random.random() < 0.5
    header += ["start", "end"] if timed else []
    header += [name for name in ("split", "sentence", "note") if random.random() < 0.5]
    rows = [header]
    for number, file in enumerate(FILES * (3 if timed else 1)):
        start = 0.1 * (number // len(FILES))
        cells = {
            "path": file,
            "emotion": _EMOTIONS[number % 3],
            "speaker": _SPEAKERS[number % 4],
            "start": f"{start:.1f}",
            "end": "" if start > 0.15 else f"{start + 0.1:.1f}",
            "split": ("train", "dev", "test")[number % 3],
            "sentence": f"s{number % 2}",
            "note": ('said "no"', "a, b; c", "")[number % 3],
        }
        rows.append([cells[name] for name in header])
    return rows


def _write(rows: Rows, delimiter: str = ",", end: str = "\n", quoting: int = 0) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=quoting).writerows(rows)
    return text.getvalue().encode()


def _flip(random: np.random.Generator, content: bytes) -> bytes:
    data = bytearray(content)
    for _ in range(int(2 ** random.uniform(0, 5)) if data else 0):
        data[int(random.integers(len(data)))] = int(random.integers(256))
    return bytes(data)


def _cell(random: np.random.Generator, rows: Rows) -> tuple[int, int]:
    row = int(random.integers(len(rows)))
    return row, int(random.integers(len(rows[row])))


def semicolons(random: np.random.Generator, rows: Rows) -> bytes:
    return _write(rows, delimiter=";")


def tabs(random: np.random.Generator, rows: Rows) -> bytes:
    return _write(rows, delimiter="\t")


def byte_order_mark(random: np.random.Generator, rows: Rows) -> bytes:
    return b"\xef\xbb\xbf" + _write(rows)


def windows_line_ends(random: np.random.Generator, rows: Rows) -> bytes:
    return _write(rows, end="\r\n")


def all_quoted(random: np.random.Generator, rows: Rows) -> bytes:
    return _write(rows, quoting=csv.QUOTE_ALL)


def other_names_of_columns(random: np.random.Generator, rows: Rows) -> bytes:
    names = {"path": "File Name", "emotion": "LABEL", "speaker": "Spk", "start": "START"}
    return _write([[names.get(cell, cell) for cell in rows[0]], *rows[1:]])


def blanks_and_empty_lines(random: np.random.Generator, rows: Rows) -> bytes:
    padded = [[f"{' ' * int(random.integers(3))}{cell} " for cell in row] for row in rows]
    return b"\n" + _write(padded) + b"\n,,\n" * int(random.integers(3))


def rows_in_another_order(random: np.random.Generator, rows: Rows) -> bytes:
    return _write([rows[0], *(rows[1:][i] for i in random.permutation(len(rows) - 1))])


def decomposed_letters(random: np.random.Generator, rows: Rows) -> bytes:
    return _write([[unicodedata.normalize("NFD", cell) for cell in row] for row in rows])


def nasty_cells(random: np.random.Generator, rows: Rows) -> bytes:
    for _ in range(int(2 ** random.uniform(0, 2.5))):
        row, column = _cell(random, rows)
        rows[row][column] = str(random.choice(_NASTY))
    return _write(rows)


def a_nasty_column(random: np.random.Generator, rows: Rows) -> bytes:
    _, column = _cell(random, rows[:1])
    for row in rows[1:]:
        row[column] = str(random.choice(_NASTY))
    return _write(rows)


def bytes_changed(random: np.random.Generator, rows: Rows) -> bytes:
    return _flip(random, _write(rows))


def characters_inserted(random: np.random.Generator, rows: Rows) -> bytes:
    data = bytearray(_write(rows))
    for _ in range(int(2 ** random.uniform(0, 4))):
        piece = str(
            random.choice(['"', '""', "'", "\0", "\n", "\r", ",", ";", "\t", "\\", "\u2028"])
        )
        place = int(random.integers(len(data) + 1))
        data[place:place] = piece.encode()
    return bytes(data)


def quote_not_closed(random: np.random.Generator, rows: Rows) -> bytes:
    data = bytearray(_write(rows))
    commas = [i for i, byte in enumerate(data) if byte in b",\n"]
    place = int(random.choice(commas)) + 1
    data[place:place] = b'"'
    return bytes(data)


def truncated(random: np.random.Generator, rows: Rows) -> bytes:
    data = _write(rows)
    return data[: int(random.integers(len(data)))]


def huge_field(random: np.random.Generator, rows: Rows) -> bytes:
    row, column = _cell(random, rows)
    rows[row][column] = str(random.choice(["x", '"', "é", "1", " ", "a\n"])) * int(
        10 ** random.uniform(3, 6)
    )
    return _write(rows)


def columns_lost(random: np.random.Generator, rows: Rows) -> bytes:
    kept = [i for i in range(len(rows[0])) if random.random() < 0.7]
    return _write([[row[i] for i in kept] for row in rows])


def column_twice(random: np.random.Generator, rows: Rows) -> bytes:
    _, column = _cell(random, rows[:1])
    return _write([[*row, row[column]] for row in rows])


def rows_repeated(random: np.random.Generator, rows: Rows) -> bytes:
    again = [rows[int(random.integers(len(rows)))] for _ in range(3)]
    return _write([*rows, *again])


def ragged_rows(random: np.random.Generator, rows: Rows) -> bytes:
    for row in rows:
        if random.random() < 0.2:
            row[:] = row[:-1] if random.random() < 0.5 else [*row, "x"]
    return _write(rows)


def another_encoding(random: np.random.Generator, rows: Rows) -> bytes:
    encodings = ["utf-16", "utf-16-le", "utf-32", "latin-1", "cp437", "utf-7", "mac-roman"]
    return _write(rows).decode().encode(str(random.choice(encodings)), "replace")


def compressed(random: np.random.Generator, rows: Rows) -> bytes:
    return gzip.compress(_write(rows), mtime=0)


def no_header(random: np.random.Generator, rows: Rows) -> bytes:
    return _write(rows[1:])


def mixed_delimiters(random: np.random.Generator, rows: Rows) -> bytes:
    return b"".join(_write([row], delimiter=str(random.choice([",", ";", "\t"]))) for row in rows)


def random_times(random: np.random.Generator, rows: Rows) -> bytes:
    rows[0] += [name for name in ("start", "end") if name not in rows[0]]
    for row in rows[1:]:
        row += [""] * (len(rows[0]) - len(row))
        for name in ("start", "end") if random.random() < 0.2 else ():
            time = random.choice([-1, 0, 0.05, 0.3, 1, 1e-9, 1e9, 1e300, random.uniform(0, 0.5)])
            row[rows[0].index(name)] = f"{time:g}"
    return _write(rows)


def nothing(random: np.random.Generator, rows: Rows) -> bytes:
    return random.bytes(int(random.integers(3)))


def _named(functions: Sequence[Callable]) -> dict[str, Callable]:
    return {function.__name__.replace("_", " "): function for function in functions}


HARMLESS = _named(
    [semicolons, tabs, byte_order_mark, windows_line_ends, all_quoted, other_names_of_columns]
    + [blanks_and_empty_lines, rows_in_another_order, decomposed_letters]
)
HARMFUL = _named(
    [nasty_cells, a_nasty_column, bytes_changed, characters_inserted, quote_not_closed, truncated]
    + [huge_field, columns_lost, column_twice, rows_repeated, ragged_rows, another_encoding]
    + [compressed, no_header, mixed_delimiters, random_times, nothing]
)
