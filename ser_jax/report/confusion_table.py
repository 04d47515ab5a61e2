"""Confusion matrices as HTML tables: the model's, the listeners', and how they differ.

Axes: C classes; a row is a true class.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from ser_jax.pages.html import escape
from ser_jax.pages.numbers import percent, points
from ser_jax.report import wording


def matrices(results: dict[str, Any], *, clickable: bool) -> str:
    """All that the results have. Of the model's, each cell with predictions is a button.

    Args:
      results: what results.json holds.
      clickable: make each of the model's cells with predictions a button that lists its clips.
    """
    labels, counts_CxC = results["labels"], np.array(results["confusion"])
    share_CxC = _shares(counts_CxC)

    def button(i: int, j: int) -> str:
        n = int(counts_CxC[i, j])
        text = f"{_share(share_CxC[i, j])}<small>{n:,}</small>"
        if not clickable or not n:
            return text
        name = f"{labels[i]} taken for {labels[j]}: {_share(share_CxC[i, j])}, {_predictions(n)}"
        return (
            f'<button type="button" data-cell="{i},{j}" aria-pressed="false" '
            f'aria-label="{escape(name)}">{text}</button>'
        )

    totals = [f"{n:,}" for n in counts_CxC.sum(1).tolist()]
    found = [
        _matrix(labels, f"{results['model']}, {wording.test_clips(results)}", "all", button,
                lambda i, j: _blue(share_CxC[i, j]), totals)
    ]  # fmt: skip
    if "human" in results:
        human = results["human"]
        heard_CxC = _shares(np.array(human["confusion"]))
        title = f"listeners, {human['n_ratings']:,} ratings"
        found.append(
            _matrix(labels, title, "", lambda i, j: _share(heard_CxC[i, j]),
                    lambda i, j: _blue(heard_CxC[i, j]))
        )  # fmt: skip
        more_CxC = share_CxC - heard_CxC
        title = f"difference, {results['model']} − listeners, in points of per cent"
        found.append(
            _matrix(labels, title, "", lambda i, j: _points(more_CxC[i, j]),
                    lambda i, j: _diverging(more_CxC[i, j]))
        )  # fmt: skip
    return f'<div class="matrices">{"".join(found)}</div>'


def _matrix(
    labels: list[str],
    title: str,
    total: str,
    content: Callable[[int, int], str],
    colour: Callable[[int, int], str],
    totals: list[str] | None = None,
) -> str:
    """A table; `content` is a cell's HTML, `colour` its class."""
    heads = "".join(f'<th scope="col">{escape(label)}</th>' for label in labels)
    heads += f'<th scope="col">{total}</th>' if total else ""
    rows = []
    for i, label in enumerate(labels):
        cells = "".join(
            f'<td class="{colour(i, j)}">{content(i, j)}</td>' for j in range(len(labels))
        )
        cells += f'<td class="total">{totals[i]}</td>' if totals else ""
        rows.append(f'<tr><th scope="row">{escape(label)}</th>{cells}</tr>')
    return (
        f'<div class="scroll" role="region" aria-label="Confusion matrix, {escape(title)}" '
        f'tabindex="0"><table class="matrix">\n<caption><span>{escape(title)}</span></caption>\n'
        f'<thead><tr><td class="soft">true ↓<br>taken for →</td>{heads}</tr></thead>\n<tbody>\n'
        + "\n".join(rows)
        + "\n</tbody></table></div>"
    )


def _shares(counts_CxC: np.ndarray) -> np.ndarray:
    """Each row as shares of its sum; NaN in a row without clips."""
    support_Cx1 = counts_CxC.sum(1, keepdims=True).astype(float)
    return counts_CxC / np.where(support_Cx1, support_Cx1, np.nan)


def _share(share: float) -> str:
    return "–" if np.isnan(share) else percent(share, ".0f")


def _points(more: float) -> str:
    if np.isnan(more):
        return "–"
    return points(more, "+.0f").replace("-", "−") if abs(more) >= 0.005 else "0"


def _blue(share: float) -> str:
    """A step of ten, as page.css colours it."""
    return "" if np.isnan(share) else f"blue{round(10 * share)}"


def _diverging(more: float) -> str:
    """Five steps each way, of ten points; the last is all beyond."""
    step = 0 if np.isnan(more) else min(5, round(10 * abs(more)))
    return f"{'more' if more > 0 else 'less'}{step}" if step else ""


def _predictions(n: int) -> str:
    return f"{n:,} prediction{'s' * (n != 1)}"
