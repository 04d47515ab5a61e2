"""The audit before every training: nothing that is tested on may have been learnt from."""

from collections.abc import Mapping, Sequence

import numpy as np

from ser_jax.common.errors import UserError
from ser_jax.data.splits import Clips, Split


class LeakageError(UserError):
    """Training would see what it is tested on."""


def audit(split: Split, clips: Clips, *, trained_on: np.ndarray, normalised_on: np.ndarray) -> None:
    """Stops a training that would see what it is tested on.

    Args:
      split: the three parts.
      clips: the corpus.
      trained_on: row of the clip behind each training example, views included.
      normalised_on: row of the clip behind each example that the normalisation was fitted on.

    Raises:
      LeakageError: naming the first clip, audio, speaker or sentence at fault.
    """
    parts = split.parts()
    mend = "Remove one copy, or set --config.corpus.drop_defects."
    _disjoint(parts, clips.ids, "the clip", mend)
    _disjoint(parts, clips.sha256, "the audio with SHA-256", mend)
    mend = f"Mend the protocol {split.protocol}, which promises otherwise."
    if split.unseen_speakers:
        _disjoint(parts, clips.speakers, "the speaker", mend)
    if split.unseen_sentences:
        _disjoint(parts, clips.sentences, "the sentence", mend)
    train = set(split.train.tolist())
    for rows, what in (
        (trained_on, "a view of it is trained on"),
        (normalised_on, "the normalisation is fitted on it"),
    ):
        strangers = sorted(set(np.asarray(rows).tolist()) - train)
        if strangers:
            raise LeakageError(
                f"leakage: {clips.ids[strangers[0]]} is not a training clip, yet {what}; "
                "nothing was trained."
            )


def _disjoint(parts: Mapping[str, np.ndarray], values: Sequence[str], what: str, mend: str) -> None:
    where: dict[str, str] = {}
    for part, rows in parts.items():
        for row in rows:
            other = where.setdefault(values[row], part)
            if other != part:
                raise LeakageError(
                    f"leakage: {what} {values[row]} is in {other} and in {part}; nothing was "
                    f"trained. {mend}"
                )
