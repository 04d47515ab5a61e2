"""What all pictures share: their style and sheet, and how they name a run.

Only the plots*.py import matplotlib here, and only inside functions.
"""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ser_jax.common import files
from ser_jax.train.replicas import chosen_replicas

# Okabe and Ito's colours, which every kind of colour vision tells apart.
BLUE, VERMILION = "#0072B2", "#D55E00"
GREY, PALE = "#595959", "#D9D9D9"
STYLE = {
    "font.size": 10,
    "text.parse_math": False,  # a label with two dollar signs is no formula
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": PALE,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.8,
    "lines.markersize": 4,
}


def figure(width: float, height: float, **options: Any) -> Any:
    """A figure (inches) of its own: pyplot would keep it and its backend for the whole process."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sheet = Figure(figsize=(width, height), **options)
    FigureCanvasAgg(sheet)
    return sheet


def save(sheet: Any, path: Path, dpi: int = 150) -> None:
    """Writes a figure as PNG, the same bytes for the same figure, with room for all its texts."""
    with files.replacing(path) as temporary:
        sheet.savefig(temporary, dpi=dpi, bbox_inches="tight", metadata={"Software": None})


def titles(results: dict[str, Any]) -> tuple[str, str]:
    """What was tested, and under which protocol."""
    heard = "unseen" if results["unseen_speakers"] else "seen"
    test = "test speakers and sentences" if results["unseen_sentences"] else "test speakers"
    return (
        f"{results['model']} on {results['corpus']}",
        f"split {results['protocol']}, {test} {heard} in training",
    )


def heading(results: dict[str, Any]) -> tuple[str, str]:
    """`titles` with the number of clips, two lines."""
    tested, protocol = titles(results)
    return tested, f"{protocol} · {test_clips(results)}"


def test_clips(results: dict[str, Any]) -> str:
    """How many clips were tested, and by how many replicas."""
    n_test, n_predictions = results["n_test"], sum(map(sum, results["confusion"]))
    n_replicas = len(chosen_replicas(results))
    text = f"{n_test:,} test clips"
    if n_predictions == n_test * n_replicas:
        return text if n_replicas == 1 else f"{text} × {n_replicas} replicas"
    return f"{text}, {n_replicas} replicas, {n_predictions:,} predictions"


def setting_text(setting: dict[str, Any]) -> str:
    """Swept values, such as "optimizer.learning_rate = 0.001"."""
    return ", ".join(f"{key} = {value}" for key, value in setting.items())


def wrap(lines: Sequence[str], width: float) -> str:
    """Breaks lines of 11-point text to `width` inches."""
    return "\n".join(textwrap.fill(line, int(11 * width)) for line in lines)


def shorten(names: Sequence[Any], length: int = 22) -> list[str]:
    """Names that are cut to a length."""
    return [s if len(s) <= length else s[: length - 1] + "…" for s in map(str, names)]


def percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def percent_axis(axis: Any) -> None:
    """Ticks of fractions, written as per cent."""
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
