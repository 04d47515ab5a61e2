"""CREMA-D by its file names, `<actor>_<sentence>_<emotion>_<level>`, and what is named like it.

Names and codes: github.com/CheyneyComputerScience/CREMA-D, README.
"""

import dataclasses
import re
from pathlib import Path

from data_prep.corpora.corpus import Corpus, Utterance, emotion_of, read_by_name, rows_of

NAME = re.compile(
    r"(?P<actor>\d{4})_(?P<sentence>[A-Z]{3})_(?P<code>[A-Z]{3})_(?P<level>[A-Z]{1,2})"
)
EMOTIONS = {
    "ANG": "anger",
    "DIS": "disgust",
    "FEA": "fear",
    "HAP": "happiness",
    "NEU": "neutral",
    "SAD": "sadness",
}
# One silent clip, and three recordings that were published under two labels each: nobody can tell
# which is right, so both go.
DEFECTS = {
    "1076_MTI_SAD_XX": "",
    "1006_TIE_HAP_XX": "1006_TIE_NEU_XX",
    "1006_TIE_NEU_XX": "1006_TIE_HAP_XX",
    "1013_WSI_DIS_XX": "1013_WSI_SAD_XX",
    "1013_WSI_SAD_XX": "1013_WSI_DIS_XX",
    "1017_IWW_ANG_XX": "1017_IWW_FEA_XX",
    "1017_IWW_FEA_XX": "1017_IWW_ANG_XX",
}


def clip_id(stem: str) -> str:
    """The id of a clip; old copies of the corpus end 1040_ITH_SAD_XX with a single X."""
    return stem + "X" if stem.endswith("_X") else stem


def read(root: Path, tables_dir: Path) -> Corpus:
    """Reads CREMA-D; the listeners' votes and the actors' age and sex if its tables are there."""
    actors, votes = _actors(tables_dir), _votes(tables_dir)

    def utterance(path: Path) -> Utterance | None:
        name = clip_id(path.stem)
        match = NAME.fullmatch(name)
        if not match:
            return None
        emotion = emotion_of(EMOTIONS, match["code"], path)
        actor = actors.get(match["actor"], {})
        return Utterance(
            id=name,
            path=path,
            emotion=emotion,
            speaker=match["actor"],
            attributes={
                "sentence": match["sentence"],
                "level": match["level"],
                "sex": actor.get("Sex", "").lower(),
                "age": actor.get("Age", ""),
            },
            votes=votes.get(name, ()),
        )

    return read_by_name("crema_d", "CREMA-D", EMOTIONS.values(), root, utterance)


def read_synthetic(root: Path, tables_dir: Path) -> Corpus:
    """The corpus that data_prep.synthetic writes: CREMA-D names, no human voice."""
    corpus = read(root, tables_dir)
    return dataclasses.replace(corpus, name="synthetic", title="synthetic voices (not speech)")


def _actors(tables_dir: Path) -> dict[str, dict[str, str]]:
    table = _find_table(tables_dir, "VideoDemographics.csv")
    if not table:
        return {}
    return {row["ActorID"]: row for row in rows_of(table, ("ActorID", "Age", "Sex"))}


def _votes(tables_dir: Path) -> dict[str, tuple[int, ...]]:
    """Voice-only votes of each clip, in the order of EMOTIONS (columns A D F H N S)."""
    table = _find_table(tables_dir, "tabulatedVotes.csv")
    if not table:
        return {}
    return {
        clip_id(row["fileName"]): tuple(int(row[code[0]]) for code in EMOTIONS)
        for row in rows_of(table, ("", "fileName", *(code[0] for code in EMOTIONS)))
        if int(row[""]) // 100_000 == 1  # 1 voice, 2 face, 3 both
    }


def _find_table(folder: Path, name: str) -> Path | None:
    """Upstream keeps some tables in processedResults/; a downloaded copy may be flat."""
    return next(
        (p for p in (folder / name, folder / "processedResults" / name) if p.is_file()), None
    )
