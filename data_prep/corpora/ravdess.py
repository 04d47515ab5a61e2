"""RAVDESS by its file names: modality-channel-emotion-level-statement-repetition-actor.

Livingstone & Russo, PLoS ONE 13(5): e0196391, 2018.
"""

import re
from pathlib import Path

from data_prep.corpora.corpus import Corpus, Utterance, emotion_of, read_by_name

NAME = re.compile(
    r"\d\d-(?P<channel>\d\d)-(?P<code>\d\d)-(?P<level>\d\d)-(?P<statement>\d\d)-\d\d-(?P<actor>\d\d)"
)
EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happiness",
    "04": "sadness",
    "05": "anger",
    "06": "fear",
    "07": "disgust",
    "08": "surprise",
}
# One take was published as both repetitions. The label is the same, so the first is sound.
DEFECTS = {"03-01-03-01-02-02-07": "03-01-03-01-02-01-07"}


def read(root: Path, tables_dir: Path) -> Corpus:
    """Reads the spoken clips; sung ones are ignored."""
    del tables_dir  # it has none

    def utterance(path: Path) -> Utterance | None:
        match = NAME.fullmatch(path.stem)
        if not match or match["channel"] != "01":
            return None
        return Utterance(
            id=path.stem,
            path=path,
            emotion=emotion_of(EMOTIONS, match["code"], path),
            speaker=match["actor"],
            attributes={
                "sentence": match["statement"],
                "level": {"01": "normal", "02": "strong"}.get(match["level"], match["level"]),
                "sex": "male" if int(match["actor"]) % 2 else "female",
            },
        )

    return read_by_name("ravdess", "RAVDESS", EMOTIONS.values(), root, utterance)
