"""Sound and pictures for a result page, or the reason why there are none."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from tqdm import tqdm

from ser_jax.common import files
from ser_jax.common.errors import UserError
from ser_jax.features import FeatureSpec
from ser_jax.predict import trained_model
from ser_jax.predict.trained_model import Trained
from ser_jax.report.cells import Listed
from ser_jax.report.clip_media import BATCH, Maker, Media


def make(
    folder: Path,
    workdir: Path,
    listed: Sequence[Listed],
    labels: Sequence[str],
    utterances: Mapping[str, Any] | None,
) -> Media:
    """Writes a player's file a clip and a picture a clip and predicted class.

    Args:
      folder: where they go, inside the page's.
      workdir: of the run.
      listed: the clips.
      labels: class names.
      utterances: by clip id, objects with a `path`; None if the audio is not at hand.

    Returns:
      Them, or without audio the reason why there is none.
    """
    why = _why_none(utterances)
    if why:
        return Media(notes=[f"There are no players, pictures and saliency: {why}"])
    found, notes = _trained(workdir, labels)
    numbers = {clip: n for n, clip in enumerate(dict.fromkeys(one.clip for one in listed))}
    maker = Maker(folder, numbers, labels, found, _spec(workdir, found))
    with tqdm(total=len(listed), desc="clips of the report", unit="clip", disable=None) as progress:
        for number, batch in _batches(listed, found):
            maker.add(number, batch, utterances)
            progress.update(len(batch))
    maker.media.notes = notes + maker.remarks()
    return maker.media


def _why_none(utterances: Mapping[str, Any] | None) -> str:
    if not utterances:
        return (
            "the recordings were not at hand when this page was written. --mode=report writes it "
            "anew where corpus.root is."
        )
    # The others wait for this one to end, and a checkpoint is read by all or by none.
    if jax.process_count() > 1:
        return "one of several processes wrote this page. --mode=report alone writes it anew."
    return ""


def _trained(workdir: Path, labels: Sequence[str]) -> tuple[Trained | None, list[str]]:
    """The run's networks, or a sentence why there are none."""
    try:
        found = trained_model.load(workdir)
        if list(found.labels) != list(labels):
            raise UserError("the checkpoint knows other classes than results.json.")
    except UserError as error:
        return None, [f"There is no saliency: {error}"]
    return found, []


def _spec(workdir: Path, found: Trained | None) -> FeatureSpec:
    """The run's features, also where no checkpoint is left to ask."""
    if found:
        return found.spec
    path = workdir / "config.json"
    return FeatureSpec(**files.read_json(path)["features"]) if path.exists() else FeatureSpec()


def _batches(
    listed: Sequence[Listed], found: Trained | None
) -> Iterator[tuple[int | None, list[Listed]]]:
    """Clips by the first replica that put them where they are and whose weights are there."""
    groups: dict[int | None, list[Listed]] = {}
    for one in listed:
        known = [n for n in one.confidence_of if found and n in found.numbers]
        groups.setdefault(known[0] if known else None, []).append(one)
    for number, group in groups.items():
        for start in range(0, len(group), BATCH):
            yield number, group[start : start + BATCH]
