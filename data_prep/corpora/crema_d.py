"""CREMA-D, read by its file names `<actor>_<sentence>_<emotion>_<level>`.

Names and codes: github.com/CheyneyComputerScience/CREMA-D, README.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from data_prep.corpora.corpus import Corpus, CorpusSpec, Utterance
from data_prep.corpora.reading import emotion_of, read_by_name
from data_prep.corpora.release import Release
from ser_jax.common.errors import UserError
from ser_jax.common.tables import read_rows

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


def clip_id(stem: str) -> str:
    """Return a clip's id; old copies of the corpus name 1040_ITH_SAD_XX with a single X."""
    return stem + "X" if stem.endswith("_X") else stem


def read(spec: CorpusSpec, root: Path, tables_dir: Path) -> Corpus:
    """Read clips with CREMA-D's names, and votes, ages and sexes if the tables are there."""
    actors = {
        row["ActorID"]: row
        for row in _rows(tables_dir, "VideoDemographics.csv", ("ActorID", "Age", "Sex"))
    }
    columns = [code[0] for code in EMOTIONS]
    votes = {
        clip_id(row["fileName"]): tuple(_count(row, column) for column in columns)
        for row in _rows(tables_dir, "tabulatedVotes.csv", ("", "fileName", *columns))
        if _count(row, "") // 100_000 == 1  # 1 voice, 2 face, 3 both
    }

    def parse(path: Path) -> Utterance | None:
        clip = clip_id(path.stem)
        match = NAME.fullmatch(clip)
        if not match:
            return None
        actor = actors.get(match["actor"], {})
        return Utterance(
            id=clip,
            path=path,
            emotion=emotion_of(EMOTIONS, match["code"], path),
            speaker=match["actor"],
            attributes={
                "sentence": match["sentence"],
                "level": match["level"],
                "sex": actor.get("Sex", "").lower(),
                "age": actor.get("Age", ""),
            },
            votes=votes.get(clip, ()),
        )

    return read_by_name(spec, root, parse)


def _count(row: dict[str, str], column: str) -> int:
    if not row[column].isdecimal():
        raise UserError(
            f"tabulatedVotes.csv has {row[column]!r} in column {column!r} for "
            f"{row['fileName'] or 'a clip'}, where a number belongs; fetch the table again."
        )
    return int(row[column])


def _rows(folder: Path, name: str, required: Sequence[str]) -> list[dict[str, str]]:
    """Return the rows of a table, if it is there; upstream keeps some in processedResults/."""
    for path in (folder / name, folder / "processedResults" / name):
        if path.is_file():
            return [row.values for row in read_rows(path, required)]
    return []


SPEC = CorpusSpec(
    name="crema_d",
    title="CREMA-D",
    reader=read,
    labels=tuple(sorted(EMOTIONS.values())),
    licence="CREMA-D is under the Open Database License (ODbL) 1.0, its contents under the "
    "Database Contents License (DbCL) 1.0.",
    source="python -m data_prep.download --root={root}",
    # One silent clip, and three recordings that were published under two labels each. Nobody can
    # tell which label is right, so both clips go.
    defects={
        "1076_MTI_SAD_XX": "",
        "1006_TIE_HAP_XX": "1006_TIE_NEU_XX",
        "1006_TIE_NEU_XX": "1006_TIE_HAP_XX",
        "1013_WSI_DIS_XX": "1013_WSI_SAD_XX",
        "1013_WSI_SAD_XX": "1013_WSI_DIS_XX",
        "1017_IWW_ANG_XX": "1017_IWW_FEA_XX",
        "1017_IWW_FEA_XX": "1017_IWW_ANG_XX",
    },
    clip_id=clip_id,
    release=Release(
        manifest=Path(__file__).with_name("crema_d.sha256"),
        audio="AudioWAV/",
        # The audio is in Git LFS, whose content GitHub serves from a separate host.
        audio_url="https://media.githubusercontent.com/media/CheyneyComputerScience/CREMA-D/master",
        tables_url="https://raw.githubusercontent.com/CheyneyComputerScience/CREMA-D/master",
        tables_hold="votes, age and sex",
    ),
)
