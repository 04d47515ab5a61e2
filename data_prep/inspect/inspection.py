"""Inspect a corpus: measure and verify its clips, choose a sample, and write the page."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from data_prep import corpora
from data_prep.augmentation.views import Augmentation
from data_prep.inspect import measure, page, samples
from data_prep.prepare import read_corpus
from data_prep.synthetic.corpus import write_corpus
from data_prep.verify.corpus import verify
from ser_jax.common import files
from ser_jax.common.errors import UserError
from ser_jax.features import FeatureSpec

NUMBERS = "inspect.json"
_MARK = "ser_jax inspection"  # in inspect.json, so that only a folder with a page is replaced
_OWN = re.compile(
    r"index\.html|page\.css|inspect\.js|inspect\.json|(counts|distribution)-\w+\.png"
    r"|(audio|pictures)(/\d+-\w+\.(flac|png))?"
)


def inspect(config: ConfigDict, out: Path, n_clips: int) -> Path:
    """Write a page about a corpus.

    Args:
      config: see configs/default.py; only corpus, features, augmentation and seed are used.
      out: the folder of the page; an older page in it is replaced once the new one is complete.
      n_clips: the number of clips per emotion to see and hear.

    Returns:
      The path of index.html.

    Raises:
      UserError: there is no corpus, or `out` holds anything but an older page.
    """
    if n_clips < 0:
        raise UserError(f"--clips={n_clips} must be 0 or more.")
    with files.replacing_folder(out, _is_own(out)) as folder:
        if config.corpus.name == "synthetic":
            write_corpus(Path(config.corpus.root), **config.corpus.made)
        contents = _contents(config, read_corpus(config), folder, n_clips)
        page.write(folder, contents)
        files.write_json(folder / NUMBERS, contents)
    return out / "index.html"


def _is_own(out: Path) -> Callable[[Path], bool]:
    """Return a function that tells whether an entry of `out` belongs to a page in it."""
    try:
        is_page = json.loads((out / NUMBERS).read_text(encoding="utf-8"))["made_by"] == _MARK
    except (OSError, ValueError, KeyError, TypeError):
        is_page = False
    return lambda entry: is_page and _OWN.fullmatch(entry.as_posix()) is not None


def _contents(
    config: ConfigDict, corpus: corpora.Corpus, folder: Path, n_clips: int
) -> dict[str, Any]:
    """Return the contents of inspect.json; write the sample's audio and pictures to `folder`."""
    measures, unreadable = measure.measure_all(corpus.utterances)
    if not measures:
        raise UserError(f"no clip of {corpus.title} can be decoded; run data_prep.verify.")
    emotions = {utterance.emotion for utterance in corpus.utterances}
    labels = [label for label in corpus.labels if label in emotions]
    spec = FeatureSpec(**{**config.features, "planes": ("log_mel",)})
    # Resampling may leave nothing of a clip of one or two samples.
    audible = {i for i, m in measures.items() if m.seconds * spec.sampling_rate >= 1}
    usable = [utterance for utterance in corpus.utterances if utterance.id in audible]
    known = {i: dataclasses.asdict(m) for i, m in measures.items()}
    unknown = dict.fromkeys(field.name for field in dataclasses.fields(measure.Measure))
    return {
        "made_by": _MARK,
        "corpus": config.corpus.title or corpus.title,
        "labels": labels,
        "voted": list(corpus.labels),
        "features": dataclasses.asdict(spec),
        "silence": measure.SILENCE,
        "clips": [
            samples.metadata(utterance) | known.get(utterance.id, unknown)
            for utterance in corpus.utterances
        ],
        "unreadable": unreadable,
        "verify": dataclasses.asdict(verify(Path(config.corpus.root), corpus.name)),
        "sample": samples.write(
            folder,
            samples.choose(usable, labels, n_clips, config.seed),
            spec,
            Augmentation(**config.augmentation),
        ),
    }
