"""What training aims at: the labels, the listeners' votes, or a teacher's probabilities.

Axes: N clips, C classes, R replicas of a teacher.
"""

import dataclasses
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ser_jax.common import files
from ser_jax.common.errors import UserError
from ser_jax.data.clips import Clips
from ser_jax.data.leakage import Heard, audit_source
from ser_jax.data.splits import Split

CHOICES = ("labels", "votes", "teacher")


def from_votes(
    votes: Sequence[Sequence[int]], label_N: Sequence[int], n_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return each class's share of a clip's votes, float32 [N, C], and which clips have votes.

    A clip without votes has its label.
    """
    target_NxC = np.eye(n_classes, dtype=np.float32)[np.asarray(label_N)]
    rated_N = np.array([sum(clip) > 0 for clip in votes])
    for row in np.flatnonzero(rated_N):
        target_NxC[row] = np.divide(votes[row], sum(votes[row]))
    return target_NxC, rated_N


def tempered(probability_NxC: np.ndarray, temperature: float) -> np.ndarray:
    """Return p^(1/T) / Σ p^(1/T): flatter for a temperature T above 1 (Hinton et al., 2015)."""
    log = np.log(np.maximum(probability_NxC, np.finfo(np.float32).tiny)) / temperature
    power_NxC = np.exp(log - log.max(axis=-1, keepdims=True))
    return (power_NxC / power_NxC.sum(axis=-1, keepdims=True)).astype(np.float32)


@dataclasses.dataclass(frozen=True, eq=False)
class Lessons:
    """A teacher's probabilities of a corpus's clips, and what it has heard itself.

    Attributes:
      labels: class names, in the order of the records that are taught from.
      ids: of the clips.
      fold_R: fold of each replica of the teacher.
      probability_RxNxC: NaN where nobody has asked.
      heard: by each fold.
    """

    labels: tuple[str, ...]
    ids: tuple[str, ...]
    fold_R: np.ndarray
    probability_RxNxC: np.ndarray
    heard: dict[int, Heard]

    def of_fold(self, fold: int) -> tuple[np.ndarray, Heard]:
        """Return which replicas teach a fold, bool [R], and what they have heard.

        They are those of the same fold, or all of a teacher that has only one.

        Raises:
          UserError: a teacher of several folds lacks this one.
        """
        own = sorted(set(self.fold_R.tolist()))
        if len(own) > 1 and fold not in own:
            folds = ", ".join(map(str, own))
            raise UserError(f"train.teacher has the folds {folds}, and none to teach fold {fold}.")
        taught_by = fold if len(own) > 1 else own[0]
        return self.fold_R == taught_by, self.heard.get(taught_by, Heard())

    def target(self, fold: int) -> np.ndarray:
        """Return the mean probability of the replicas that teach a fold, float64 [N, C]."""
        return self.probability_RxNxC[self.of_fold(fold)[0]].astype(np.float64).mean(axis=0)

    def audit(
        self, split_of_fold: Mapping[int, Split], clips: Clips, corpus: str, teacher: str | Path
    ) -> None:
        """Refuse a teacher that has heard what a fold is tested on; see leakage.audit_source."""
        for fold, split in split_of_fold.items():
            audit_source(split, clips, corpus, self.of_fold(fold)[1], teacher)

    def save(self, path: Path) -> None:
        """Write it to a .npz file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        heard = {str(fold): heard.to_json() for fold, heard in self.heard.items()}
        with files.replacing(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                labels=np.array(self.labels),
                ids=np.array(self.ids),
                fold=self.fold_R,
                probability=self.probability_RxNxC,
                heard=np.array(json.dumps(heard)),
            )

    @classmethod
    def load(cls, path: Path) -> "Lessons":
        """Read what `save` wrote.

        Raises:
          UserError: it is damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as saved:
                heard = json.loads(str(saved["heard"]))
                return cls(
                    labels=tuple(saved["labels"].tolist()),
                    ids=tuple(saved["ids"].tolist()),
                    fold_R=saved["fold"],
                    probability_RxNxC=saved["probability"],
                    heard={int(fold): Heard.from_json(lists) for fold, lists in heard.items()},
                )
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} is damaged; delete it, and it is computed again.") from error


def lessons_file(records_folder: Path, teacher_sha256: str) -> Path:
    """Return where the Lessons of a teacher for these records are kept."""
    name = f"{records_folder.parent.name}-{teacher_sha256[:12]}.npz"
    return records_folder.parents[2] / "teachers" / name
