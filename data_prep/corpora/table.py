"""A user's own corpus, described by a CSV table."""

from pathlib import Path

from data_prep.corpora.corpus import Corpus, CorpusSpec, Utterance
from ser_jax.audio.listing import PATH_SYNONYMS, SEGMENT, on_disk, path_of, segment_of
from ser_jax.common.errors import UserError
from ser_jax.common.tables import Row, read_rows, refuse_alike

REQUIRED = ("path", "emotion", "speaker")
USED = {*REQUIRED, *SEGMENT}
SYNONYMS = {
    "path": PATH_SYNONYMS,
    "emotion": "label emotion_label class category".split(),
    "speaker": "spk spk_id speaker_id speakerid speaker_name actor actor_id".split(),
}


def read(spec: CorpusSpec, root: Path, tables_dir: Path) -> Corpus:
    """Read a table with the columns path, emotion, speaker; further columns become attributes.

    `root` is the table or a folder with corpus.csv. Paths are relative to the table's folder and
    must stay inside it; a path without its extension is the clip's id. Columns start and end,
    seconds, make a clip of a part of a file; an empty end is that of the file.

    Raises:
      UserError: there is no table, or a row is wrong.
    """
    del tables_dir  # the table has everything
    table = root / "corpus.csv" if root.is_dir() else root
    if not table.is_file():
        raise UserError(f"{table} does not exist; corpus.name=csv needs a table there.")
    utterances = [_utterance(table, row) for row in read_rows(table, REQUIRED, SYNONYMS, SEGMENT)]
    places: dict[str, str] = {}
    for u in utterances:
        if u.id in places:
            raise UserError(
                f"{table} lists {u.id} more than once ({places[u.id]}, {u.place}); keep one row "
                "per clip."
            )
        places[u.id] = u.place
    refuse_alike("files", places, exact_digits=True)
    labels = sorted({u.emotion for u in utterances})
    by_id = tuple(sorted(utterances, key=lambda u: u.id))
    return Corpus(spec.name, table.stem, tuple(labels), by_id, licence=spec.licence)


def _utterance(table: Path, row: Row) -> Utterance:
    values, place = row.values, f"{table.name}, line {row.line}"
    path = path_of(table, row, inside=True)
    segment = segment_of(table, row)
    return Utterance(
        id=segment.id_of(path.with_suffix("").as_posix()),
        path=on_disk(table.parent, path),
        emotion=values["emotion"],
        speaker=values["speaker"],
        attributes={name: value for name, value in values.items() if name not in USED},
        segment=segment,
        place=place,
    )


# The data defines the labels, and the title is the name of the table.
SPEC = CorpusSpec(name="csv", title="", reader=read, labels=None)
