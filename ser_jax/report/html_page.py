"""A run's page of HTML: its scores, and the clips behind each cell of its confusion matrix."""

import contextlib
import itertools
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ser_jax.metrics.predictions import Predictions
from ser_jax.pages import html
from ser_jax.pages.numbers import percent
from ser_jax.report import cells as report_cells
from ser_jax.report import clip_media, confusion_table, markdown_page
from ser_jax.report.cells import Cell
from ser_jax.report.clip_media import ClipMedia
from ser_jax.report.markdown_page import Epochs
from ser_jax.report.result_sections import render

SCRIPT = Path(__file__).parent / "assets" / "result.js"
# Folders of sound and pictures, and what is in them. Nothing else is ever removed.
_FOLDER, _FILE = re.compile(r"clips-\d+"), re.compile(r"\d+(-\d+)?\.(flac|png)")


def write(
    workdir: Path,
    epochs: Epochs,
    results: dict[str, Any],
    predictions: Predictions | None,
    utterances: Mapping[str, Any] | None,
    clips_a_cell: int,
) -> Path:
    """Writes report/index.html and what it shows beside report.md's pictures.

    The old page stays whole until the new one is.

    Args:
      workdir: of the run.
      epochs: each replica's.
      results: what results.json holds.
      predictions: of the chosen replicas; None if there is no predictions.csv.
      utterances: by clip id, objects with path, votes, attributes; None without audio.
      clips_a_cell: so many are listed at most; 0 lists all.
    """
    cells = report_cells.cells(predictions, clips_a_cell) if predictions else {}
    listed = [one for cell in cells.values() for one in cell.listed]
    with _new_folder(workdir / "report") as folder:
        begin = time.monotonic()
        media = clip_media.make(folder, workdir, listed, results["labels"], utterances)
        if media.players:
            seconds = time.monotonic() - begin
            print(f"Sound and pictures of {len(listed)} clips took {seconds:.0f} s.")
        text = page(epochs, results, cells, media, utterances or {})
        return html.write(folder.parent, text, [SCRIPT])


def page(
    epochs: Epochs,
    results: dict[str, Any],
    cells: Mapping[tuple[int, int], Cell],
    media: ClipMedia,
    utterances: Mapping[str, Any],
) -> str:
    """The page's text; see `write`."""
    parts = {
        name: render(name, text) for name, text in markdown_page.parts(epochs, results).items()
        if name not in ("confusion", "human")  # tables here, and pictures there
    }  # fmt: skip
    first = [block for name in ("headline", "meaning", "facts") for block in parts.pop(name)[1]]
    sections = {
        "Scores": first,
        "Confusion": _confusion(results, cells, media),
        **dict(parts.values()),
    }
    names = {title: title.lower().replace(" ", "-") for title in sections}
    return html.document(
        f"{results['model']} on {results['corpus']}",
        html.contents({name: title for title, name in names.items()}),
        *(html.section(title, *sections[title], name=names[title]) for title in sections),
        html.data("cells-data", _data(results, cells, media, utterances)) if cells else "",
        scripts=[SCRIPT.name] if cells else [],
    )


def _confusion(results: dict[str, Any], cells: Mapping, media: ClipMedia) -> list[str]:
    if not cells:
        return [
            confusion_table.matrices(results, listed=False),
            html.paragraph(
                "The clips of a cell are not listed, for there is no predictions.csv; "
                "--mode=evaluate writes it."
            ),
        ]
    return [
        html.paragraph(
            "A row is a true class and sums to 100 %; below each share is the number of "
            "predictions. Choose a cell to see and hear its clips."
        ),
        confusion_table.matrices(results, listed=True),
        *map(html.paragraph, media.notes),
        '<section id="clips" aria-labelledby="clips-heading" hidden>\n'
        '<h3 id="clips-heading" tabindex="-1">Clips</h3>\n<p id="clips-summary"></p>\n'
        '<p><button type="button" id="clips-back">Back to the matrix (Escape)</button></p>\n'
        '<ol id="clips-list" class="clips"></ol>\n'
        '<p><button type="button" id="clips-more" hidden>More</button></p>\n</section>',
    ]


def _data(
    results: dict[str, Any], cells: Mapping, media: ClipMedia, utterances: Mapping[str, Any]
) -> dict[str, Any]:
    """What result.js reads; each clip once, however many cells it is in."""
    clips, found = {}, {}
    for (true, predicted), cell in cells.items():
        listed = []
        for one in cell.listed:
            utterance = utterances.get(one.clip)
            clips[one.clip] = {
                "id": one.clip,
                "speaker": one.speaker,
                "attributes": _attributes(one.speaker, utterance),
                "votes": _votes(utterance, len(results["labels"])),
                "player": media.players.get(one.clip, ""),
                "failure": media.failures.get(one.clip, ""),
            }
            picture = media.pictures.get((one.clip, predicted), ("", ""))
            probabilities = [round(float(p), 6) for p in one.probability_C]
            listed.append([one.clip, probabilities, _said(one, results["labels"]), *picture])
        found[f"{true},{predicted}"] = {
            "true": true,
            "predicted": predicted,
            "n_predictions": cell.n_predictions,
            "n_clips": cell.n_clips,
            "listed": listed,
        }
    several = any(one.n_replicas > 1 for cell in cells.values() for one in cell.listed)
    mean = "Probabilities, mean of the replicas" if several else "Probabilities"
    return {"labels": results["labels"], "mean": mean, "clips": clips, "cells": found}


def _attributes(speaker: str, utterance: Any) -> dict[str, str]:
    """What the corpus knows of a clip and its speaker's name does not say."""
    known = dict(utterance.attributes) if utterance else {}
    return {k.replace("_", " "): str(v) for k, v in known.items() if v and str(v) != speaker}


def _votes(utterance: Any, n_classes: int) -> list[int]:
    """None, too, if the corpus is now read with other classes."""
    votes = [int(n) for n in utterance.votes] if utterance else []
    return votes if len(votes) == n_classes else []


def _said(one: report_cells.CellClip, labels: list[str]) -> str:
    sure = f"{percent(one.confidence)} sure"
    if one.n_replicas == 1:
        return f"Taken for {labels[one.predicted]}, {sure}."
    n = len(one.confidence_of)
    return f"Taken for {labels[one.predicted]} by {n} of {one.n_replicas} replicas, {sure}."


@contextlib.contextmanager
def _new_folder(report: Path) -> Iterator[Path]:
    """An empty folder, kept if the block succeeds, when older ones go, and else removed."""
    old = [p for p in report.glob("clips-*") if _FOLDER.fullmatch(p.name) and p.is_dir()]
    new = next(p for n in itertools.count(1) if not (p := report / f"clips-{n}").exists())
    new.mkdir()
    try:
        yield new
    except BaseException:
        _remove(new)
        raise
    for path in old:
        _remove(path)
    with contextlib.suppress(OSError):
        new.rmdir()  # of a page without sound


def _remove(folder: Path) -> None:
    """Removes what this module writes, and the folder if nothing else is in it."""
    for path in folder.iterdir():
        if _FILE.fullmatch(path.name):
            path.unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()
