"""How many clips have each value of each attribute: counts, charts and tables."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.inspect import figures
from ser_jax.pages import html
from ser_jax.pages.blocks import Block, Html, Table
from ser_jax.pages.numbers import percent

MAX_VALUES = 30  # an attribute with more distinct numbers is counted by tens
MAX_ROWS = 200  # an attribute with more values, such as a transcript, has no chart and no table
MAX_COLUMNS = 15  # an attribute with more values is not crossed with the emotions


def blocks(folder: Path, clips: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> list[Block]:
    """Return charts, written to `folder`, and tables of the counts of each attribute."""
    charts, tables, notes = [], [], []
    for number, (name, counts) in enumerate(count_values(clips, labels).items()):
        if set(counts) == {""}:
            continue
        title = name.replace("_", " ")
        if len(counts) > MAX_ROWS:
            notes.append(f"{title}: {len(counts):,} different values.")
            continue
        named = {value or "not given": n for value, n in counts.items()}
        chart = figures.bar_chart(title, named)
        most, least = max(named, key=named.get), min(named, key=named.get)
        alt = (
            f"Bar chart of clips by {title}: {len(named)} values, from {named[least]:,} "
            f"({least}) to {named[most]:,} ({most})."
        )
        charts.append(figures.save(chart, folder, f"counts-{number}.png", alt))
        rows = [[value, f"{n:,}", percent(n / len(clips))] for value, n in named.items()]
        tables.append(_folded(title, Table([title, "clips", "share"], rows, f"Clips by {title}")))
    tables += [
        _cross_table(clips, labels, name)
        for name in clips[0]["attributes"]
        if 1 < len({clip["attributes"][name] for clip in clips}) <= MAX_COLUMNS
    ]
    return [figures.grid(charts), *notes, *tables]


def count_values(
    clips: Sequence[Mapping[str, Any]], labels: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Return {attribute: {value: number of clips}}, numbers in numerical order, many by tens."""
    emotions, speakers = ([clip[key] for clip in clips] for key in ("emotion", "speaker"))
    counts = {"emotion": _count(emotions, labels), "speaker": _count(speakers, sorted({*speakers}))}
    for name in clips[0]["attributes"]:
        values = [clip["attributes"][name] for clip in clips]
        order = sorted(set(values))
        if all(value.isdecimal() for value in values if value):
            if len(order) > MAX_VALUES:
                values = [value and _ten(int(value)) for value in values]
            order = sorted(set(values), key=lambda value: int(value.split()[0]) if value else -1)
        counts[name] = _count(values, order)
    return counts


def _count(values: Sequence[str], order: Sequence[str]) -> dict[str, int]:
    counter = Counter(values)
    return {value: counter[value] for value in order}


def _ten(number: int) -> str:
    first = 10 * (number // 10)
    return f"{first} to {first + 9}"


def _cross_table(clips: Sequence[Mapping[str, Any]], labels: Sequence[str], name: str) -> Html:
    """Return a table of clips by emotion and by an attribute's value."""
    counter = Counter((clip["emotion"], clip["attributes"][name]) for clip in clips)
    values = sorted({clip["attributes"][name] for clip in clips})
    rows = [[label, *(f"{counter[label, value]:,}" for value in values)] for label in labels]
    title = name.replace("_", " ")
    columns = ["emotion", *(value or "not given" for value in values)]
    table = Table(columns, rows, f"Clips by emotion and {title}")
    return _folded(f"emotion and {title}", table)


def _folded(title: str, table: Table) -> Html:
    summary = f"<summary>{html.escape(title)} as a table</summary>"
    return Html(f"<details>{summary}{html.render(table)}</details>")
