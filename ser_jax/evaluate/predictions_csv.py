"""predictions.csv: one row per replica and test clip, written and read here alone.

Columns: replica, id, speaker, true, predicted, and the probability of each class.
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ser_jax.common import files
from ser_jax.common.errors import UserError
from ser_jax.metrics.predictions import Predictions

REMEDY = "run --mode=evaluate with this --workdir"
_COLUMNS = ("replica", "id", "speaker", "true", "predicted")


def write(path: Path, predictions: Predictions, labels: Sequence[str]) -> None:
    """Write probabilities with nine significant digits, which reproduce every float32."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_COLUMNS, *labels])
    p = predictions
    columns = p.replica_P, p.clip_P, p.speaker_P, p.label_P, p.prediction_P, p.probability_PxC
    rows = zip(*(column.tolist() for column in columns), strict=True)
    for replica, clip, speaker, label, prediction, probability_C in rows:
        probabilities = (f"{value:.9g}" for value in probability_C)
        writer.writerow([replica, clip, speaker, labels[label], labels[prediction], *probabilities])
    files.write_text(path, text.getvalue())


def read(path: Path, labels: Sequence[str]) -> Predictions:
    """Read the predictions of all replicas; probabilities are float32, as evaluation computed them.

    Raises:
      UserError: the file is missing or damaged.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            columns, *rows = csv.reader(file)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; {REMEDY}.") from error
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise UserError(f"{path} cannot be read; {REMEDY}.") from error
    if columns != [*_COLUMNS, *labels] or not rows:
        raise UserError(f"{path} lacks the columns or rows of an evaluation; {REMEDY}.")
    parsed = []
    for number, row in enumerate(rows, start=2):
        try:
            parsed.append(_parse(row, list(labels)))
        except ValueError as error:
            raise UserError(f"{path}, line {number}, is damaged; {REMEDY}.") from error
    predictions = Predictions(*map(np.array, zip(*parsed, strict=True)))
    if len({(replica, clip) for replica, clip, *_ in parsed}) < len(parsed):
        raise UserError(f"{path} lists a clip twice for one replica; {REMEDY}.")
    return predictions


def _parse(row: Sequence[str], labels: Sequence[str]) -> tuple[int, str, str, int, np.ndarray]:
    replica, clip, speaker, true, predicted, *texts = row
    # A diverged network's NaNs become zeros: figures and pages need numbers.
    probability_C = np.nan_to_num(np.array(texts, np.float32))
    prediction, highest = labels.index(predicted), probability_C.max()
    in_range = 0 <= highest <= 1 + 1e-6  # a softmax may round to just above 1
    if len(texts) != len(labels) or probability_C[prediction] != highest or not in_range:
        raise ValueError
    # Files with six digits, from earlier versions, have ties that the probabilities had not.
    if probability_C.argmax() != prediction:
        probability_C[prediction] = np.nextafter(highest, np.float32(2))
    return int(replica), clip, speaker, labels.index(true), probability_C
