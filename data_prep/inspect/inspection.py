"""Writes the page about a corpus."""

import contextlib
import dataclasses
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ser_jax.common import files
from ser_jax.common.errors import UserError

NUMBERS = "inspect.json"
_MARK = "ser_jax inspection"  # by which a folder is known as ours to replace, if it holds only
_OWN = re.compile(
    r"index\.html|page\.css|inspect\.js|inspect\.json|(counts|distribution)-\w+\.png"
    r"|(audio|pictures)(/\d+-\w+\.(flac|png))?"
)


def inspect(config: ConfigDict, out: Path, n_clips: int) -> Path:
    """Writes the page.

    Args:
      config: see configs/default.py; corpus, features, augmentation and seed count.
      out: its folder.
      n_clips: of each emotion, to look at and listen to.

    Returns:
      The path of index.html.

    Raises:
      UserError: no corpus, or `out` holds something else.
    """
    from data_prep.inspect import page as inspect_page
    from data_prep.prepare import read_corpus

    if n_clips < 0:
        raise UserError(f"--clips={n_clips} must be 0 or more.")
    _refuse_others(out)
    if config.corpus.name == "synthetic":
        from data_prep.synthetic.corpus import write_corpus

        write_corpus(Path(config.corpus.root), **config.corpus.made)
    corpus = read_corpus(config)
    with _replacing(out) as folder:
        found = _found(config, corpus, folder, n_clips)
        inspect_page.write(folder, found)
        files.write_json(folder / NUMBERS, found)
    return out / "index.html"


def _found(config: ConfigDict, corpus: Any, folder: Path, n_clips: int) -> dict[str, Any]:
    """What inspect.json holds; the sample's audio and pictures are written."""
    from data_prep.augmentation import views
    from data_prep.inspect import measure, samples
    from data_prep.inspect import page as inspect_page
    from data_prep.verify.corpus import verify
    from ser_jax.features import FeatureSpec

    good, bad = measure.measure_all(corpus.utterances)
    if not good:
        raise UserError(f"no clip of {corpus.title} can be decoded; run data_prep.verify.")
    labels = inspect_page.labels_of(corpus)
    spec = FeatureSpec(**config.features)
    # At the features' rate a clip of a sample or two may have none left.
    long_enough = {i for i, found in good.items() if found.seconds * spec.sampling_rate >= 1}
    usable = [utterance for utterance in corpus.utterances if utterance.id in long_enough]
    unknown = dict.fromkeys(field.name for field in dataclasses.fields(measure.Measure))
    return {
        "made_by": _MARK,
        "corpus": config.corpus.title or corpus.title,
        "labels": labels,
        "voted": list(corpus.labels),
        "features": dataclasses.asdict(spec),
        "silence": measure.SILENCE,
        "clips": [
            {
                "id": utterance.id,
                "emotion": utterance.emotion,
                "speaker": utterance.speaker,
                "attributes": dict(utterance.attributes),
                "votes": list(utterance.votes),
                **(dataclasses.asdict(good[utterance.id]) if utterance.id in good else unknown),
            }
            for utterance in corpus.utterances
        ],
        "unreadable": bad,
        "verify": dataclasses.asdict(verify(Path(config.corpus.root), corpus.name)),
        "sample": samples.write(
            folder,
            samples.choose(usable, labels, n_clips, config.seed),
            spec,
            views.Augmentation(**config.augmentation),
        ),
    }


def _refuse_others(out: Path) -> None:
    """Raises a UserError if the folder holds anything but an older page."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        ours = json.loads((out / NUMBERS).read_text(encoding="utf-8"))["made_by"] == _MARK
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        raise UserError(f"{out} is not an inspection page; choose another --out, or an empty one.")
    for path in sorted(out.rglob("*")):
        if not _OWN.fullmatch(path.relative_to(out).as_posix()):
            raise UserError(
                f"{path} is not of the page that would be replaced; move it away, or choose "
                "another --out."
            )


@contextlib.contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    """Yields a new folder, which takes the place of `out` if the block succeeds."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    except OSError as error:
        raise UserError(
            f"cannot write {out} ({error.strerror}); choose another --out or change its rights."
        ) from error
    try:
        page = temporary / "page"
        page.mkdir()
        yield page
        old = temporary / "old"
        if out.exists():
            out.rename(old)
        try:
            page.rename(out)
        except BaseException:
            if old.exists():
                old.rename(out)
            raise
    finally:
        shutil.rmtree(temporary)
