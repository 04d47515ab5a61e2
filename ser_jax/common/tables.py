"""Rows of a CSV table: delimiter and header recognised, text cleaned, faults named by line."""

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from ser_jax.common.errors import UserError

_DELIMITERS = ",;\t"
# Not a regular expression: those take quadratic time for blanks within a text.
_BLANKS = "".join(filter(str.isspace, map(chr, range(0x3001)))) + "\u200b\u2060\ufeff"
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?")
_MISSING = ("", "nan", "na", "n/a", "#n/a", "<na>", "null", "nat")  # as spreadsheets and pandas say
_LONGEST = 1_000  # characters of a field that is used, and may be shown in messages


class Row(NamedTuple):
    """A row of a table."""

    line: int  # where it starts, from 1
    values: dict[str, str]  # {column: cleaned text}


def clean(text: str) -> str:
    """Return text in Unicode's form NFC without surrounding blanks."""
    return unicodedata.normalize("NFC", text).strip(_BLANKS)


def is_missing(text: str) -> bool:
    return text.casefold() in _MISSING


def read_rows(
    table: Path,
    required: Sequence[str],
    synonyms: Mapping[str, Sequence[str]] | None = None,
    optional: Sequence[str] = (),
) -> list[Row]:
    """Return the rows of a CSV file whose fields are separated by comma, semicolon or tab.

    Args:
      table: the file.
      required: columns that it must have, in any case.
      optional: columns that it may have, in any case.
      synonyms: {required column: other names, in lower case with "_" for blanks and hyphens}.

    Raises:
      UserError: the file is not UTF-8, has no rows, lacks a required column or has it twice, or a
        row has more or fewer fields than the header, a quote that is not closed, or a name or
        field of a known column is too long or has several lines.
    """
    try:
        text = table.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{table} is not UTF-8; save it in that encoding.") from error
    except OSError as error:
        raise UserError(f"{table} cannot be read ({error.strerror}).") from error
    if "\0" in text:
        raise UserError(f"{table} is not a text file: it has zero bytes; save it as CSV, UTF-8.")

    header = next(filter(None, map(clean, text.splitlines())), "")[: csv.field_size_limit()]
    delimiter = max(_DELIMITERS, key=lambda d: len(next(csv.reader([header], delimiter=d), [])))
    records = list(_records(table, text, delimiter))
    columns = (
        _rename(table, records[0][1], (*required, *optional), synonyms or {}) if records else []
    )
    if not set(columns) >= set(required) or len(records) < 2:
        raise UserError(
            f"{table} needs a header with {', '.join(required)}, and at least one row; its first "
            f"line is {header[:200]!r}."
        )
    for number, name in enumerate(columns, start=1):
        _refuse_long(f"{table}: the name of column {number}", name)
    rows = []
    for line, fields in records[1:]:
        while len(fields) > len(columns) and not fields[-1]:  # a spreadsheet's empty columns
            fields.pop()
        if len(fields) != len(columns):
            raise UserError(
                f"{table}, line {line} has {len(fields)} fields, and the header has "
                f"{len(columns)}; correct the row."
            )
        row = Row(line, dict(zip(columns, fields, strict=True)))
        for name in (*required, *optional):
            _refuse_long(f"{table}, line {line}: {name}", row.values.get(name, ""))
        rows.append(row)
    return rows


def _refuse_long(noun: str, text: str) -> None:
    """Refuse text that would make messages and tables unreadable."""
    n_lines = len(text.splitlines())
    if len(text) > _LONGEST or n_lines > 1:
        raise UserError(
            f"{noun} has {len(text):,} characters and {n_lines:,} lines; correct it: one line of "
            f"{_LONGEST:,} characters at most."
        )


def _records(table: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, cleaned fields) of each row that is not blank, the header included."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    n_columns = 0
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise UserError(
                f"{table}: the row that starts in line {line} cannot be read ({error}); is a quote "
                "not closed?"
            ) from error
        if fields is None:
            return
        n_columns = n_columns or len(fields)
        lines = [part for field in fields if "\n" in field for part in field.split("\n")]
        if any(part.count(delimiter) >= max(1, n_columns - 1) for part in lines):
            raise UserError(
                f"{table}: a quoted field in the row that starts in line {line} contains other "
                "rows; is a quote not closed? If it is right, remove its line breaks."
            )
        cleaned = [clean(field) for field in fields]
        if any(cleaned):
            yield line, cleaned


def _rename(
    table: Path, header: list[str], known: Sequence[str], synonyms: Mapping[str, Sequence[str]]
) -> list[str]:
    """Return the names of the columns, with the known names in place of their synonyms."""
    simple = [re.sub(r"[\s-]+", "_", name.casefold()) for name in header]
    columns = list(header)
    for name in known:
        ways = (
            [i for i, column in enumerate(header) if column == name],
            [i for i, column in enumerate(simple) if column == name.casefold()],
            [i for i, column in enumerate(simple) if column in synonyms.get(name, ())],
        )
        places = next(filter(None, ways), [])
        if len(places) > 1:
            raise UserError(
                f"{table} has several columns for {name}: {', '.join(header[i] for i in places)}; "
                f"name the right one {name}, and the others differently."
            )
        for place in places:
            columns[place] = name
    repeated = [name for i, name in enumerate(columns) if name and name in columns[:i]]
    if repeated:
        raise UserError(f"{table} has two columns {repeated[0]}; rename one.")
    return columns


def refuse_alike(
    noun: str, places: Mapping[str, str], *, exact_digits: bool = False, remedy: str = ""
) -> None:
    """Ask about texts that differ only in case, Unicode form or the spelling of a number.

    Args:
      noun: what the texts are, such as "speakers".
      places: {text: where it stands}.
      exact_digits: numbers that are written differently are different, as in file names.
      remedy: a way to merge them other than writing them alike.

    Raises:
      UserError: there are two such texts.
    """
    first: dict[str, str] = {}
    pairs = []
    for text in places:
        key = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
        if not exact_digits and _NUMBER.fullmatch(key):
            key = str(Decimal(key).normalize())
        other = first.setdefault(key, text)
        if other != text:
            pairs.append(f"{other!r} ({places[other]}) and {text!r} ({places[text]})")
    if pairs:
        raise UserError(
            f"are the {noun} {listed(pairs)} the same? They differ only in case, Unicode form or "
            f"the spelling of a number. Write them alike if they are{remedy}, and give them "
            "different names if not."
        )


def listed(places: Iterable[str]) -> str:
    """Return places as text, the first few of them."""
    places = list(places)
    rest = f" and {len(places) - 5:,} more" if len(places) > 5 else ""
    return ", ".join(places[:5]) + rest
