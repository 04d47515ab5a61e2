"""Named protocols: clips → train, validation, test.

A protocol sees a table of clips (ids, speakers, labels, checksums of the decoded audio, sentences)
and gives row numbers. Augmented views are no part of it: they follow their clip.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from ser_jax.common.errors import UserError


@dataclasses.dataclass(frozen=True)
class Clips:
    """What a protocol may look at; equally long, sorted by id.

    Attributes:
      ids: unique.
      speakers: who speaks.
      labels: class numbers.
      sha256: of the decoded samples.
      label_names: of the classes.
      sentences: what is said, "" where the corpus does not say; () if it never does.
    """

    ids: tuple[str, ...]
    speakers: tuple[str, ...]
    labels: tuple[int, ...]
    sha256: tuple[str, ...]
    label_names: tuple[str, ...]
    sentences: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Split:
    """Row numbers of the three parts, each sorted.

    Attributes:
      protocol: its name.
      unseen_speakers: whether the protocol promises that no speaker is in two parts.
      unseen_sentences: the same of sentences.
    """

    protocol: str
    unseen_speakers: bool
    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    unseen_sentences: bool = False

    def parts(self) -> dict[str, np.ndarray]:
        return {"train": self.train, "val": self.val, "test": self.test}


def make(
    name: str,
    clips: Clips,
    *,
    fold: int = 0,
    n_folds: int = 5,
    seed: int = 0,
    test_fraction: float = 0.3,
    val_fraction: float = 0.05,
) -> Split:
    """Splits the clips by a protocol of PROTOCOLS.

    Args:
      name: the protocol.
      clips: the corpus.
      fold: which fold is the test part (emosuperb5, speaker_kfold, speaker_sentence).
      n_folds: of speaker_kfold and speaker_sentence.
      seed: of the shuffle (random_file, speaker_kfold, speaker_sentence).
      test_fraction: of all clips (random_file).
      val_fraction: of the clips that are left for training (random_file).

    Raises:
      UserError: an unknown protocol or fold, too few speakers or sentences, or a part that is
        empty or lacks a class.
    """
    _check_name(name)
    if len(set(clips.labels)) < 2:
        raise UserError("the corpus has a single class, so there is nothing to learn; add another.")
    if name == "random_file":
        split = _random_file(clips, seed, test_fraction, val_fraction)
    else:
        if len(set(clips.speakers)) < 3:
            raise UserError(
                f"split.name={name} wants other speakers in training, validation and test, and the "
                f"corpus has {len(set(clips.speakers))}; use --config.split.name=random_file."
            )
        val, test = PROTOCOLS[name](clips, fold, n_folds, seed)
        split = _by_speaker(name, clips, val, test)
        if name == "speaker_sentence":
            split = _keep_own_sentences(split, clips, fold, seed)
    _check_classes(split, clips)
    return split


def folds(name: str, fold: str | int, n_folds: int) -> tuple[int, ...]:
    """The folds that `split.fold` stands for.

    Args:
      name: the protocol.
      fold: a fold's number, as text or not, or "all".
      n_folds: of speaker_kfold and speaker_sentence.

    Raises:
      UserError: no such protocol or fold.
    """
    _check_name(name)
    own = {"tfds": 1, "random_file": 1, "emosuperb5": len(_EMOSUPERB5) - 1}
    if name not in own and n_folds < 3:
        raise UserError(f"split.n_folds={n_folds} must be 3 or more: each part takes at least one.")
    n = own.get(name, n_folds)
    if fold == "all":
        return tuple(range(n))
    try:
        number = int(str(fold))  # a number with a fraction is none
    except ValueError:
        raise UserError(f"split.fold={fold!r} is no fold; give its number, or all.") from None
    if n == 1 and number != 0:
        raise UserError(f"split.name={name} has no folds, so split.fold={number} must be 0.")
    _check_fold(number, n)
    return (number,)


def _random_file(clips: Clips, seed: int, test_fraction: float, val_fraction: float) -> Split:
    """The report's: a seeded shuffle of files. Clips with the same bytes stay on one side."""
    n = len(clips.ids)
    n_test = math.ceil(round(test_fraction * n, 6))
    n_val = math.ceil(round(val_fraction * (n - n_test), 6))
    room = {"test": n_test, "val": n_val, "train": n - n_test - n_val}
    groups: dict[str, list[int]] = {}
    for row, checksum in enumerate(clips.sha256):
        groups.setdefault(checksum, []).append(row)
    shuffled = list(groups.values())
    np.random.default_rng(seed).shuffle(shuffled)
    parts: dict[str, list[int]] = {part: [] for part in room}
    for group in shuffled:
        # The first part with room for all of it; single clips then fill the gaps.
        roomy = [p for p in room if len(parts[p]) + len(group) <= room[p]]
        parts[roomy[0] if roomy else "train"] += group
    rows = {part: np.array(sorted(members), int) for part, members in parts.items()}
    return Split("random_file", False, **rows)


CREMA_D_ACTORS = tuple(str(actor) for actor in range(1001, 1092))
# Not in TFDS's crema_d: a clip without votes there, and one of each pair with two labels.
TFDS_WITHOUT = frozenset("1040_ITH_SAD_XX 1006_TIE_NEU_XX 1013_WSI_DIS_XX 1017_IWW_FEA_XX".split())
_EMOSUPERB5 = (1001, 1019, 1037, 1055, 1073, 1092)  # the first actor of each block, and the end

Speakers = Iterable[str]


def _tfds(clips: Clips, fold: int, n_folds: int, seed: int) -> tuple[Speakers, Speakers]:
    """The split of TFDS's crema_d, which SERAB uses too: 63, 9 and 19 actors."""
    del fold, n_folds, seed  # it is one published split
    _want_crema_d("tfds", clips)
    actors = list(CREMA_D_ACTORS)
    np.random.RandomState(0).shuffle(actors)
    return actors[63:72], actors[72:]


def _emosuperb5(clips: Clips, fold: int, n_folds: int, seed: int) -> tuple[Speakers, Speakers]:
    """EMO-SUPERB's five blocks of actors; the next block, cyclic, is the validation part."""
    del n_folds, seed
    _want_crema_d("emosuperb5", clips)
    pairs = zip(_EMOSUPERB5, _EMOSUPERB5[1:], strict=False)
    blocks = [[str(actor) for actor in range(*pair)] for pair in pairs]
    return _fold_of(blocks, fold)


def _speaker_kfold(clips: Clips, fold: int, n_folds: int, seed: int) -> tuple[Speakers, Speakers]:
    """Any corpus: shuffled speakers are dealt to folds; the next fold is the validation part."""
    speakers = sorted(set(clips.speakers))
    if not 3 <= n_folds <= len(speakers):
        raise UserError(
            f"split.n_folds={n_folds} must lie between 3 and the number of speakers, "
            f"{len(speakers)}."
        )
    np.random.default_rng(seed).shuffle(speakers)
    return _fold_of([speakers[i::n_folds] for i in range(n_folds)], fold)


def _fold_of(blocks: Sequence[Speakers], fold: int) -> tuple[Speakers, Speakers]:
    _check_fold(fold, len(blocks))
    return blocks[(fold + 1) % len(blocks)], blocks[fold]


def _by_speaker(name: str, clips: Clips, val: Speakers, test: Speakers) -> Split:
    val, test = set(val), set(test)
    without = TFDS_WITHOUT if name == "tfds" else frozenset()
    rows: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    for row, (clip_id, speaker) in enumerate(zip(clips.ids, clips.speakers, strict=True)):
        if clip_id not in without:
            part = "test" if speaker in test else "val" if speaker in val else "train"
            rows[part].append(row)
    return Split(name, True, **{part: np.array(members, int) for part, members in rows.items()})


def _keep_own_sentences(split: Split, clips: Clips, fold: int, seed: int) -> Split:
    """Shares the sentences out like the speakers; each part keeps the clips that have both.

    A third of the sentences is tested and a sixth validates, at least one each. The most frequent
    one is always trained on: CREMA-D's IEO is a fifth of all clips and the only one with levels, so
    holding it out would change what is asked and leave little to learn from. The others are dealt
    around a ring, on which each fold goes on where the last one's test part ended.

    Raises:
      UserError: a clip without a sentence, or fewer than three sentences.
    """
    unknown = [clips.ids[row] for row, s in enumerate(clips.sentences) if not s]
    if not clips.sentences or unknown:
        raise UserError(
            "split.name=speaker_sentence wants each clip's sentence, and the corpus does not say "
            f"that of {[*unknown, *clips.ids][0]}; fill the column `sentence`, or use "
            "--config.split.name=speaker_kfold."
        )
    count = Counter(clips.sentences)
    if len(count) < 3:
        raise UserError(
            "split.name=speaker_sentence wants other sentences in training, validation and test, "
            f"and the corpus has {len(count)}; use --config.split.name=speaker_kfold."
        )
    ring = sorted(count)
    ring.remove(max(ring, key=count.__getitem__))
    np.random.default_rng(seed).shuffle(ring)
    n_test, n_val = (max(1, len(count) // share) for share in (3, 6))
    ring = np.roll(ring, -fold * n_test).tolist()
    part_of = dict.fromkeys(ring[:n_test], "test")
    part_of |= dict.fromkeys(ring[n_test : n_test + n_val], "val")
    own = {
        part: np.array([r for r in rows if part_of.get(clips.sentences[r], "train") == part], int)
        for part, rows in split.parts().items()
    }
    return dataclasses.replace(split, **own, unseen_sentences=True)


def _want_crema_d(name: str, clips: Clips) -> None:
    strangers = sorted(set(clips.speakers) - set(CREMA_D_ACTORS))
    if strangers:
        raise UserError(
            f"split.name={name} is made of CREMA-D's actors and {strangers[0]!r} is none; use "
            "--config.split.name=speaker_kfold."
        )


PROTOCOLS: Mapping[str, Callable] = {
    "tfds": _tfds,
    "random_file": _random_file,
    "emosuperb5": _emosuperb5,
    "speaker_kfold": _speaker_kfold,
    "speaker_sentence": _speaker_kfold,  # and the sentences likewise
}


def _check_name(name: str) -> None:
    if name not in PROTOCOLS:
        raise UserError(f"split.name={name!r} is unknown; use one of {', '.join(PROTOCOLS)}.")


def _check_fold(fold: int, n: int) -> None:
    if not 0 <= fold < n:
        raise UserError(f"split.fold={fold} must lie between 0 and {n - 1}.")


def _check_classes(split: Split, clips: Clips) -> None:
    for part, rows in split.parts().items():
        there = {clips.labels[row] for row in rows}
        missing = [name for i, name in enumerate(clips.label_names) if i not in there]
        if missing:
            raise UserError(
                f"split.name={split.protocol} leaves the {part} part without "
                f"{', '.join(missing) if there else 'a single clip'}; the corpus has "
                f"{len(clips.ids)} clips of {len(set(clips.speakers))} speakers: use another fold "
                "or protocol, name the classes that it has in corpus.emotions, or add clips."
            )
