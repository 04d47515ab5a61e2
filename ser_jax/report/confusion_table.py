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
    """Return all matrices that results.json holds.

    If `clickable`, each of the model's cells with predictions is a button.
    """
    labels, model, counts_CxC = results["labels"], results["model"], np.array(results["confusion"])
    share_CxC = _normalise(counts_CxC)
    title = f"{model}, {wording.test_clips(results)}"
    tables = [_matrix(labels, title, share_CxC, _share, _blue, counts_CxC, clickable)]
    if "human" in results:
        human = results["human"]
        human_CxC = _normalise(np.array(human["confusion"]))
        title = f"listeners, {human['n_ratings']:,} ratings"
        tables.append(_matrix(labels, title, human_CxC, _share, _blue))
        title = f"difference, {model} − listeners, in percentage points"
        tables.append(_matrix(labels, title, share_CxC - human_CxC, _points, _diverging))
    return f'<div class="matrices">{"".join(tables)}</div>'


def _matrix(
    labels: list[str],
    title: str,
    value_CxC: np.ndarray,
    text: Callable[[float], str],
    colour: Callable[[float], str],
    counts_CxC: np.ndarray | None = None,
    clickable: bool = False,
) -> str:
    """Return a table; `text` and `colour` give the text and the class of a value."""
    columns = labels if counts_CxC is None else [*labels, "all"]
    heads = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    rows = []
    for i, label in enumerate(labels):
        cells = ""
        for j, value in enumerate(value_CxC[i]):
            cell = text(value)
            if counts_CxC is not None:
                n = int(counts_CxC[i, j])
                name = f"{label} predicted as {labels[j]}: {cell}, {n:,} prediction{'s' * (n != 1)}"
                cell += f"<small>{n:,}</small>"
                if clickable and n:
                    cell = (
                        f'<button type="button" data-cell="{i},{j}" aria-pressed="false" '
                        f'aria-label="{escape(name)}">{cell}</button>'
                    )
            cells += f'<td class="{colour(value)}">{cell}</td>'
        if counts_CxC is not None:
            cells += f'<td class="total">{counts_CxC[i].sum():,}</td>'
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
    return points(more, "+.0f") if abs(more) >= 0.005 else "0"


def _blue(share: float) -> str:
    """Return one of ten steps of page.css."""
    return "" if np.isnan(share) else f"blue{round(10 * share)}"


def _diverging(more: float) -> str:
    """Return one of five steps of ten points each way; the last covers all beyond."""
    step = 0 if np.isnan(more) else min(5, round(10 * abs(more)))
    return f"{'more' if more > 0 else 'less'}{step}" if step else ""
