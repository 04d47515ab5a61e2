"""A run report as HTML, with the clips behind each cell of the confusion matrix."""

import contextlib
import itertools
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ser_jax.metrics.predictions import Predictions
from ser_jax.pages import html
from ser_jax.pages.blocks import Block, Heading, Html
from ser_jax.pages.numbers import percent
from ser_jax.report import clip_media, confusion_table, content
from ser_jax.report.cells import Cell, CellClip, find_cells
from ser_jax.report.clip_media import ClipMedia

SCRIPT = Path(__file__).parent / "assets" / "result.js"
# The folders of audio and pictures, and their files. Nothing else is ever removed.
_FOLDER, _FILE = re.compile(r"clips-\d+"), re.compile(r"\d+(-\d+)?\.(flac|png)")


def write(
    workdir: Path,
    title: str,
    blocks: Sequence[Block],
    results: dict[str, Any],
    predictions: Predictions | None,
    utterances: Mapping[str, Any] | None,
    clips_per_cell: int,
) -> Path:
    """Write report/index.html and the audio and pictures of its clips.

    The previous page stays complete until the new one is. See run_report.write; `blocks` is the
    content that report.md has too, `predictions` are those of the chosen replicas, if any.
    """
    cells = find_cells(predictions, clips_per_cell) if predictions else {}
    clips = [clip for cell in cells.values() for clip in cell.listed]
    with _new_folder(workdir / "report") as folder:
        start = time.monotonic()
        media = clip_media.write(folder, workdir, clips, results["labels"], utterances)
        if media.players:
            seconds = time.monotonic() - start
            print(f"Audio and pictures of {len(clips)} clips took {seconds:.0f} s.")
        # Both confusion matrices are tables here, in a section of their own.
        others = [block for block in blocks if block not in (content.CONFUSION, content.HUMAN)]
        scores = list(itertools.takewhile(lambda block: not isinstance(block, Heading), others))
        page = [Heading("Scores"), *scores, Heading("Confusion")]
        page += [*_confusion(results, cells, media), *others[len(scores) :]]
        if cells:
            page.append(html.data("cells-data", _data(results, cells, media, utterances or {})))
        return html.write(folder.parent, title, page, [SCRIPT] if cells else [])


def _confusion(results: dict[str, Any], cells: Mapping, media: ClipMedia) -> list[Block]:
    matrices = Html(confusion_table.matrices(results, clickable=bool(cells)))
    if not cells:
        missing = "there is no predictions.csv; --mode=evaluate writes it."
        return [matrices, f"The clips of a cell are not listed because {missing}"]
    return [
        "Each row is a true class and sums to 100 %; below each percentage is the number of "
        "predictions. Choose a cell to see and hear its clips.",
        matrices,
        *media.notes,
        Html(
            '<section id="clips" aria-labelledby="clips-heading" hidden>\n'
            '<h3 id="clips-heading" tabindex="-1">Clips</h3>\n<p id="clips-summary"></p>\n'
            '<p><button type="button" id="clips-back">Back to the matrix (Escape)</button></p>\n'
            '<ol id="clips-list" class="clips"></ol>\n'
            '<p><button type="button" id="clips-more" hidden>More</button></p>\n</section>'
        ),
    ]


def _data(
    results: dict[str, Any],
    cells: Mapping[tuple[int, int], Cell],
    media: ClipMedia,
    utterances: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what result.js reads; a clip in several cells is stored once."""
    labels, clips, cell_data = results["labels"], {}, {}
    for (true, predicted), cell in cells.items():
        listed = []
        for clip in cell.listed:
            utterance = utterances.get(clip.id)
            clips[clip.id] = {
                "id": clip.id,
                "speaker": clip.speaker,
                "attributes": _attributes(clip.speaker, utterance),
                "votes": _votes(utterance, len(labels)),
                "player": media.players.get(clip.id, ""),
                "failure": media.failures.get(clip.id, ""),
            }
            picture = media.pictures.get((clip.id, predicted), ("", ""))
            probabilities = [round(float(p), 6) for p in clip.probability_C]
            listed.append([clip.id, probabilities, _sentence(clip, labels), *picture])
        cell_data[f"{true},{predicted}"] = {
            "true": true,
            "predicted": predicted,
            "n_predictions": cell.n_predictions,
            "n_clips": cell.n_clips,
            "listed": listed,
        }
    several = any(clip.n_replicas > 1 for cell in cells.values() for clip in cell.listed)
    mean = "Probabilities, mean of the replicas" if several else "Probabilities"
    return {"labels": labels, "mean": mean, "clips": clips, "cells": cell_data}


def _attributes(speaker: str, utterance: Any) -> dict[str, str]:
    """Return the corpus's attributes of a clip, except one that repeats the speaker's name."""
    attributes = utterance.attributes if utterance else {}
    return {k.replace("_", " "): str(v) for k, v in attributes.items() if v and str(v) != speaker}


def _votes(utterance: Any, n_classes: int) -> list[int]:
    """Return [] also if the corpus is now read with other classes."""
    votes = [int(n) for n in utterance.votes] if utterance else []
    return votes if len(votes) == n_classes else []


def _sentence(clip: CellClip, labels: Sequence[str]) -> str:
    label, n = labels[clip.predicted], clip.n_replicas
    replicas = f" by {len(clip.confidences)} of {n} replicas" if n > 1 else ""
    return f"Predicted as {label}{replicas}, confidence {percent(clip.confidence)}."


@contextlib.contextmanager
def _new_folder(report: Path) -> Iterator[Path]:
    """Yield a new folder; on success it replaces the previous ones, otherwise it is removed."""
    previous = [p for p in report.glob("clips-*") if _FOLDER.fullmatch(p.name) and p.is_dir()]
    new = next(p for n in itertools.count(1) if not (p := report / f"clips-{n}").exists())
    new.mkdir()
    try:
        yield new
    except BaseException:
        _remove(new)
        raise
    for path in previous:
        _remove(path)
    with contextlib.suppress(OSError):
        new.rmdir()  # empty if there is no audio


def _remove(folder: Path) -> None:
    """Remove the files that this module writes, and the folder if nothing else is in it."""
    for path in folder.iterdir():
        if _FILE.fullmatch(path.name):
            path.unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()
