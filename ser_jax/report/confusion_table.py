"""Confusion matrices as HTML tables: the model's, the listeners', and their difference.

Axes: C classes; a row is a true class.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from ser_jax.pages.html import escape
from ser_jax.pages.numbers import percent, points
from ser_jax.report import wording


def matrices(results: dict[str, Any], *, clickable: bool) -> str:
    """Return all matrices that the results hold.

    Args:
      results: contents of results.json.
      clickable: make each of the model's cells with predictions a button.
    """
    labels, model, counts_CxC = results["labels"], results["model"], np.array(results["confusion"])
    share_CxC = _normalise(counts_CxC)

    def button(i: int, j: int) -> str:
        n, share = int(counts_CxC[i, j]), _share(share_CxC[i, j])
        text = f"{share}<small>{n:,}</small>"
        if not clickable or not n:
            return text
        name = f"{labels[i]} predicted as {labels[j]}: {share}, {n:,} prediction{'s' * (n != 1)}"
        return (
            f'<button type="button" data-cell="{i},{j}" aria-pressed="false" '
            f'aria-label="{escape(name)}">{text}</button>'
        )

    totals = [f"{n:,}" for n in counts_CxC.sum(1).tolist()]
    title = f"{model}, {wording.test_clips(results)}"
    tables = [_matrix(labels, title, button, lambda i, j: _blue(share_CxC[i, j]), totals)]
    if "human" in results:
        human = results["human"]
        human_CxC = _normalise(np.array(human["confusion"]))
        more_CxC = share_CxC - human_CxC
        for title, content, colour in (
            (
                f"listeners, {human['n_ratings']:,} ratings",
                lambda i, j: _share(human_CxC[i, j]),
                lambda i, j: _blue(human_CxC[i, j]),
            ),
            (
                f"difference, {model} − listeners, in percentage points",
                lambda i, j: _points(more_CxC[i, j]),
                lambda i, j: _diverging(more_CxC[i, j]),
            ),
        ):
            tables.append(_matrix(labels, title, content, colour))
    return f'<div class="matrices">{"".join(tables)}</div>'


def _matrix(
    labels: list[str],
    title: str,
    content: Callable[[int, int], str],
    colour: Callable[[int, int], str],
    totals: list[str] | None = None,
) -> str:
    """Return a table; `content` gives the HTML of a cell, `colour` its class."""
    heads = "".join(f'<th scope="col">{escape(label)}</th>' for label in labels)
    heads += '<th scope="col">all</th>' if totals else ""
    rows = []
    for i, label in enumerate(labels):
        cells = "".join(
            f'<td class="{colour(i, j)}">{content(i, j)}</td>' for j in range(len(labels))
        )
        cells += f'<td class="total">{totals[i]}</td>' if totals else ""
        rows.append(f'<tr><th scope="row">{escape(label)}</th>{cells}</tr>\n')
    return (
        f'<div class="scroll" role="region" aria-label="Confusion matrix, {escape(title)}" '
        f'tabindex="0"><table class="matrix">\n<caption><span>{escape(title)}</span></caption>\n'
        f'<thead><tr><td class="soft">true ↓<br>predicted →</td>{heads}</tr></thead>\n'
        f"<tbody>\n{''.join(rows)}</tbody></table></div>"
    )


def _normalise(counts_CxC: np.ndarray) -> np.ndarray:
    """Return each row as shares of its sum, NaN for a row without clips."""
    support_Cx1 = counts_CxC.sum(1, keepdims=True).astype(float)
    return counts_CxC / np.where(support_Cx1, support_Cx1, np.nan)


def _share(share: float) -> str:
    return "–" if np.isnan(share) else percent(share, ".0f")


def _points(more: float) -> str:
    if np.isnan(more):
        return "–"
    return points(more, "+.0f").replace("-", "−") if abs(more) >= 0.005 else "0"


def _blue(share: float) -> str:
    """Return one of ten steps of page.css."""
    return "" if np.isnan(share) else f"blue{round(10 * share)}"


def _diverging(more: float) -> str:
    """Return one of five steps of ten points each way; the last covers all beyond."""
    step = 0 if np.isnan(more) else min(5, round(10 * abs(more)))
    return f"{'more' if more > 0 else 'less'}{step}" if step else ""
