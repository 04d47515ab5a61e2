"""The numbers of an inspection as HTML: counts of clips, and how measures are distributed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.inspect import figures as inspect_figures
from data_prep.inspect import measure
from ser_jax.pages import figure, html
from ser_jax.pages.blocks import Block, Figure, Html, Paragraph, Table
from ser_jax.pages.numbers import percent

MEASURES = {
    "seconds": ("Duration", "s", 2),
    "sampling_rate": ("Sampling rate", "Hz", 0),
    "peak_db": ("Peak level", "dB", 1),
    "rms_db": ("RMS level", "dB", 1),
    "silence": ("Silence", "%", 1),
}
MOST_VALUES = 30  # of an attribute; more distinct numbers than this are counted by the ten
MOST_ROWS = 200  # an attribute of more values, as a transcript has, is neither drawn nor listed


def counts_of(clips: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> dict[str, Counter]:
    """{attribute: how many clips have each of its values}, numbers in order, many by the ten."""
    names = ["emotion", "speaker", *(clips[0]["attributes"] if clips else {})]
    found = {}
    for name in names:
        # A user's table may have a column of any name, "seconds" or "id" too.
        own = name in ("emotion", "speaker")
        values = [(clip if own else clip["attributes"])[name] for clip in clips]
        numbers = not own and all(value.isdecimal() for value in values if value)
        if name == "emotion":
            order = list(labels)
        elif numbers:
            if len(set(values)) > MOST_VALUES:
                values = [value and _ten(int(value)) for value in values]
            order = sorted(set(values), key=lambda value: int(value.split()[0]) if value else -1)
        else:
            order = sorted(set(values))
        counter = Counter(values)
        found[name] = Counter({value: counter[value] for value in order})
    return found


def _ten(number: int) -> str:
    first = 10 * (number // 10)
    return f"{first} to {first + 9}"


def counts(folder: Path, clips: Sequence[Mapping], labels: Sequence[str]) -> list[Block]:
    """Charts and tables of how many clips have each value of each attribute."""
    figures, tables, notes = [], [], []
    for number, (name, counter) in enumerate(counts_of(clips, labels).items()):
        if set(counter) == {""}:
            continue  # an attribute that nothing is known of
        title = name.replace("_", " ")
        if len(counter) > MOST_ROWS:
            notes.append(Paragraph(f"{title}: {len(counter):,} different values."))
            continue
        file = f"counts-{number}.png"
        named = {value or "not known": n for value, n in counter.items()}
        figure.save(inspect_figures.counts(title, named), folder / file, dpi=110)
        most, least = max(named, key=named.get), min(named, key=named.get)
        alt = (
            f"Bar chart of clips by {title}: {len(named)} values, from {named[least]:,} "
            f"({least}) to {named[most]:,} ({most})."
        )
        figures.append(Figure(file, alt))
        rows = [[value, f"{n:,}", percent(n / len(clips))] for value, n in named.items()]
        tables.append(_folded(title, Table([title, "clips", "share"], rows, f"Clips by {title}")))
    cross = [
        _cross(clips, labels, name)
        for name in clips[0]["attributes"]
        if 1 < len({clip["attributes"][name] for clip in clips}) <= 15
    ]
    return [_charts(figures), *notes, *tables, *cross]


def _charts(figures: Sequence[Figure]) -> Html:
    return Html(f'<div class="charts">{"".join(map(html.render, figures))}</div>')


def _folded(title: str, table: Table) -> Html:
    summary = f"<summary>{html.escape(title)} as a table</summary>"
    return Html(f"<details>{summary}{html.render(table)}</details>")


def _cross(clips: Sequence[Mapping], labels: Sequence[str], name: str) -> Html:
    """How the emotions are spread over an attribute's values."""
    counter = Counter((clip["emotion"], clip["attributes"][name]) for clip in clips)
    values = sorted({clip["attributes"][name] for clip in clips})
    rows = [[label, *(f"{counter[label, value]:,}" for value in values)] for label in labels]
    title = name.replace("_", " ")
    columns = ["emotion", *(value or "not known" for value in values)]
    table = Table(columns, rows, f"Clips by emotion and {title}")
    return _folded(f"emotion and {title}", table)


def distributions(folder: Path, clips: Sequence[Mapping]) -> list[Block]:
    """Charts and a table of what was measured."""
    figures, rows = [], []
    for key, (title, unit, digits) in MEASURES.items():
        values = np.array([clip[key] for clip in clips if clip[key] is not None], float)
        if not len(values):
            continue
        scale = 100 if unit == "%" else 1
        quantiles = np.quantile(values, [0, 0.05, 0.5, 0.95, 1]) * scale
        cells = [f"{round(value, digits) + 0.0:,.{digits}f}" for value in quantiles]  # no −0
        rows.append([f"{title}, {unit}", *cells])
        if unit == "dB":  # a clip of zeros would press all others into one bar
            values = values[values > measure.FLOOR_DB]
        if not len(values) or values.min() == values.max():
            continue  # the table says it
        file = f"distribution-{key}.png"
        figure.save(inspect_figures.histogram(title, key, values), folder / file, dpi=110)
        alt = (
            f"Histogram of {title.lower()}: median {cells[2]} {unit}, nine tenths of the clips "
            f"between {cells[1]} and {cells[3]} {unit}."
        )
        figures.append(Figure(file, alt))
    columns = ["", "least", "5 %", "median", "95 %", "greatest"]
    floor = measure.FLOOR_DB
    zeros = sum(clip["peak_db"] == floor for clip in clips)
    clips_of_zeros = "1 clip of zeros counts" if zeros == 1 else f"{zeros:,} clips of zeros count"
    return [
        Paragraph(
            "Of the files as they are, channels averaged. Levels are dB re full scale. Silence is "
            f"{measure.SILENCE}."
            + (f" {clips_of_zeros} as {floor:.0f} dB, outside the charts." if zeros else "")
        ),
        _charts(figures),
        Table(columns, rows, "Quantiles over the clips"),
    ]
