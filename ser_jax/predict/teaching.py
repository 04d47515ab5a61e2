"""A teacher's probabilities of a corpus's clips, for a training that aims at them.

They are kept beside the records, by the teacher's checksum, and computed once.

Axes: N clips, R replicas of the teacher, C classes.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from ser_jax.audio.files import AudioFile
from ser_jax.common import interrupts
from ser_jax.common.errors import UserError
from ser_jax.data.records import Records, open_records
from ser_jax.data.targets import Lessons, lessons_file
from ser_jax.predict.formats import ERROR
from ser_jax.predict.predictor import Predictor
from ser_jax.predict.rows import predict_files
from ser_jax.train import checkpoints, sources
from ser_jax.train.experiment import plan, title


def teach(
    config: ConfigDict, records_folder: Path, utterances: Mapping[str, Any] | None
) -> Path | None:
    """Ask the teacher of a config about the clips of its training parts, if it has one.

    An interrupted call keeps what it has, and the next one goes on.

    Args:
      config: of the run that is to be taught.
      records_folder: its records.
      utterances: by clip id, objects with path and segment; None without the audio.

    Returns:
      The file of the Lessons; None without a teacher.

    Raises:
      UserError: the teacher does not exist, has other classes or cannot hear a clip.
      LeakageError: it has heard what the run is tested on.
    """
    if config.train.targets != "teacher":
        return None
    source, records = Path(config.train.teacher), open_records(records_folder)
    _, split_of_fold, _ = plan(config, records.clips)
    if not source.exists():
        raise UserError(
            f"train.teacher={source} does not exist; give the workdir of a finished run, or a file "
            "of ser_jax.export."
        )
    if source.is_dir() and not checkpoints.has_best(source):
        raise UserError(f"train.teacher={source} is no trained run; train it first.")
    path = lessons_file(records_folder, checkpoints.source_sha256(source))
    predictor = None
    if path.exists():
        lessons = Lessons.load(path)
    else:
        predictor = Predictor(source)
        lessons = _unasked(predictor, source, records)
    lessons.audit(split_of_fold, records.clips, title(config, records), source)
    rows = np.unique(np.concatenate([split.train for split in split_of_fold.values()]))
    rows = rows[np.isnan(lessons.probability_RxNxC[0, rows, 0])]  # of which nobody has asked
    if len(rows):
        with contextlib.closing(predictor or Predictor(source)) as predictor:
            _ask(predictor, lessons, path, rows, utterances, config.corpus.root)
    return path


def _unasked(predictor: Predictor, source: Path, records: Records) -> Lessons:
    """Return the Lessons of a teacher that knows nothing about the clips yet."""
    if sorted(predictor.labels) != sorted(records.labels):
        raise UserError(
            f"train.teacher={source} has the classes {', '.join(predictor.labels)}, but this "
            f"corpus has {', '.join(records.labels)}; select the same with corpus.emotions."
        )
    fold_R, ids = np.array(predictor.backend.folds), records.clips.ids
    heard = sources.heard_by(source) if source.is_dir() else predictor.backend.heard
    if not heard:
        raise UserError(
            f"train.teacher={source} does not say what it has heard; export the run again with "
            "this ser_jax."
        )
    unknown = np.full((len(fold_R), len(ids), len(records.labels)), np.nan, np.float32)
    return Lessons(records.labels, ids, fold_R, unknown, heard)


def _ask(
    predictor: Predictor,
    lessons: Lessons,
    path: Path,
    rows: np.ndarray,
    utterances: Mapping[str, Any] | None,
    root: str,
) -> None:
    """Fill in rows of the lessons, and save them."""
    if utterances is None:
        raise UserError(
            f"{root} does not exist, and the teacher has to hear {len(rows):,} clips; set "
            "--config.corpus.root."
        )
    clips = [utterances[lessons.ids[row]] for row in rows]
    audio = [AudioFile(str(clip.path), segment=clip.segment) for clip in clips]
    order_C = [predictor.labels.index(label) for label in lessons.labels]
    print(f"Asking the teacher about {len(rows):,} clips.", flush=True)
    done = 0
    try:
        with interrupts.deferred(), tqdm(total=len(rows), unit="clip", disable=None) as progress:
            for n, answers in predict_files(predictor, audio, None):
                for answer in answers:
                    if answer.status == ERROR:
                        raise UserError(f"the teacher cannot hear a clip: {answer.note}")
                    probability_RxC = answer.prediction.probability_RxC[:, order_C]
                    lessons.probability_RxNxC[:, rows[done]] = probability_RxC
                    done += 1
                progress.update(n)
                interrupts.check()
    finally:
        if done:
            lessons.save(path)
