"""Writes a run report: metrics.jsonl + results.json + predictions.csv → figures and two pages."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ser_jax.common import files
from ser_jax.common.errors import UserError
from ser_jax.evaluate import finished_run
from ser_jax.evaluate.finished_run import chosen_replicas, read_epochs
from ser_jax.pages import figure, markdown
from ser_jax.report import content, html_page, wording
from ser_jax.report.figures import breakdown, confusion, reliability, training


def write(
    workdir: Path,
    utterances: Mapping[str, Any] | None = None,
    clips_per_cell: int = 10,
    command: str = "",
) -> Path:
    """Write report/index.html, report/report.md and the figures that both show.

    Args:
      workdir: the folder of a trained and evaluated run.
      utterances: by clip id, objects with path, votes and attributes, to be shown and played; None
        if the audio is not available.
      clips_per_cell: the most clips listed per cell of the confusion matrix; 0 lists all.
      command: that repeats the run, but for --workdir; "" if it is not known.

    Returns:
      The path of index.html.

    Raises:
      UserError: a file of the run is missing, damaged or from an older version, or
        predictions.csv and results.json are from different evaluations.
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
    figures = {
        "confusion.png": confusion.draw(results),
        "reliability.png": reliability.draw(results),
        "breakdown.png": breakdown.draw(results),
    }
    if not wording.is_fitted(epochs):
        figures["curves.png"] = training.draw(epochs, results)
    if "human" in results:
        figures["human.png"] = confusion.draw_listeners(results)
    folder, title = workdir / "report", wording.titles(results)[0]
    for name, sheet in figures.items():
        figure.save(sheet, folder / name)
    blocks = content.blocks(epochs, results, command)
    files.write_text(folder / "report.md", markdown.document(title, blocks))
    return html_page.write(workdir, title, blocks, results, predictions, utterances, clips_per_cell)
