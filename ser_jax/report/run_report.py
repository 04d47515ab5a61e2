"""metrics.jsonl + results.json + predictions.csv → pictures and two pages, of Markdown and HTML."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ser_jax.common import files
from ser_jax.common.errors import UserError
from ser_jax.evaluate import finished_run
from ser_jax.evaluate.finished_run import chosen_replicas, read_epochs
from ser_jax.pages import figure
from ser_jax.report import html_page
from ser_jax.report.figures import breakdown, confusion, reliability, training
from ser_jax.report.markdown_page import page


def write(
    workdir: Path, utterances: Mapping[str, Any] | None = None, clips_a_cell: int = 10
) -> Path:
    """Writes report/index.html, report/report.md and the pictures that both show.

    Args:
      workdir: the folder of a run that was trained and evaluated.
      utterances: by clip id, objects with a path, votes and attributes, for the page to show and
        play; None if the audio is not at hand.
      clips_a_cell: so many clips of a cell of the confusion matrix are listed at most; 0 lists all.

    Returns:
      The page's path, index.html.

    Raises:
      UserError: a file of the run is missing, damaged, of an older version, or predictions.csv is
        of another evaluation than results.json.
    """
    epochs = read_epochs(workdir / "metrics.jsonl")
    results = finished_run.read_results(workdir / "results.json")
    for replica in chosen_replicas(results):
        if replica["replica"] not in epochs:
            raise UserError(
                f"{workdir / 'metrics.jsonl'} holds no epoch of replica {replica['replica']} of "
                "results.json; run --mode=train and --mode=evaluate with this --workdir."
            )
    predictions = None
    if (workdir / "predictions.csv").exists():
        predictions = finished_run.load(workdir).predictions
    pictures = {
        "curves.png": training.curves(epochs, results),
        "confusion.png": confusion.confusion(results),
        "reliability.png": reliability.reliability(results),
        "breakdown.png": breakdown.breakdown(results),
    }
    if "human" in results:
        pictures["human.png"] = confusion.human(results)
    folder = workdir / "report"
    for name, picture in pictures.items():
        figure.save(picture, folder / name)
    files.write_text(folder / "report.md", page(epochs, results))
    return html_page.write(workdir, epochs, results, predictions, utterances, clips_a_cell)
