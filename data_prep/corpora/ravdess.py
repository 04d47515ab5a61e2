"""RAVDESS by its file names: modality-channel-emotion-level-statement-repetition-actor.

Modality 01 is sound with video, 02 video alone, 03 sound alone; channel 01 is speech, 02 song.

Livingstone & Russo, PLoS ONE 13(5): e0196391, 2018.
"""

import dataclasses
import re
from pathlib import Path

from data_prep.corpora.corpus import Corpus, CorpusSpec, Utterance
from data_prep.corpora.reading import emotion_of, read_by_name

NAME = re.compile(
    r"(?P<modality>\d\d)-(?P<channel>\d\d)-(?P<code>\d\d)-(?P<level>\d\d)-(?P<statement>\d\d)-\d\d-(?P<actor>\d\d)"
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


def read(spec: CorpusSpec, root: Path, tables_dir: Path) -> Corpus:
    """Read the spoken clips; sung ones, and the sound of videos of the same takes, are ignored."""
    del tables_dir  # RAVDESS has no tables

    def parse(path: Path) -> Utterance | None:
        match = NAME.fullmatch(path.stem)
        if not match or match["channel"] != "01" or match["modality"] == "02":
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

    corpus = read_by_name(spec, root, parse)
    takes = {u.id[2:] for u in corpus.utterances if u.id.startswith("03")}
    spare = {u.id: u.path for u in corpus.utterances if u.id[:2] != "03" and u.id[2:] in takes}
    return dataclasses.replace(
        corpus,
        utterances=tuple(u for u in corpus.utterances if u.id not in spare),
        ignored=(*corpus.ignored, *spare.values()),
    )


SPEC = CorpusSpec(
    name="ravdess",
    title="RAVDESS",
    reader=read,
    labels=tuple(sorted(EMOTIONS.values())),
    licence="RAVDESS is under the Creative Commons licence CC BY-NC-SA 4.0: attribution, no "
    "commercial use, share alike.",
    source="https://zenodo.org/records/1188976",
    # One take was published as both repetitions. The label is the same, so the first one stays.
    defects={"03-01-03-01-02-02-07": "03-01-03-01-02-01-07"},
)
