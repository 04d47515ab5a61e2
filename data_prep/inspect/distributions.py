"""How the measurements of the clips are distributed: histograms and a table of quantiles."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.inspect import figures
from data_prep.inspect.measure import FLOOR_DB, QUANTITIES, SILENCE
from ser_jax.pages.blocks import Block, Table
from ser_jax.pages.numbers import number


def blocks(folder: Path, clips: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Return histograms, written to `folder`, and a table of quantiles."""
    histograms, rows = [], []
    for key, quantity in QUANTITIES.items():
        values = np.array([clip[key] for clip in clips if clip[key] is not None], float)
        if not len(values):
            continue
        cells = [
            number(quantity.shown(value), f",.{quantity.digits}f")
            for value in np.quantile(values, [0, 0.05, 0.5, 0.95, 1])
        ]
        rows.append([f"{quantity.title}, {quantity.unit}", *cells])
        if quantity.unit == "dB":  # a clip of zeros would compress all others into one bar
            values = values[values > FLOOR_DB]
        if not len(values) or values.min() == values.max():
            continue
        histogram = figures.histogram(quantity, values)
        alt = (
            f"Histogram of {quantity.title.lower()}: median {cells[2]} {quantity.unit}, 90 % of "
            f"the clips between {cells[1]} and {cells[3]} {quantity.unit}."
        )
        histograms.append(figures.save(histogram, folder, f"distribution-{key}.png", alt))
    floor, zeros = number(FLOOR_DB, ".0f"), sum(clip["peak_db"] == FLOOR_DB for clip in clips)
    clips_of_zeros = "1 clip of zeros counts" if zeros == 1 else f"{zeros:,} clips of zeros count"
    return [
        "Measured on the original files, channels averaged. Levels are in dB re full scale. "
        f"Silence is {SILENCE}."
        + (f" {clips_of_zeros} as {floor} dB, outside the charts." if zeros else ""),
        figures.grid(histograms),
        Table(
            ["", "minimum", "5 %", "median", "95 %", "maximum"], rows, "Quantiles over the clips"
        ),
    ]
