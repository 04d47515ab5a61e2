"""All that determines the records of a corpus, and the fingerprint that tells one from another."""

import concurrent.futures
import dataclasses
import hashlib
import json
from collections.abc import Iterator
from importlib import metadata
from typing import Any

from data_prep import corpora, workers
from data_prep.augmentation import views
from ser_jax import features
from ser_jax.common import files
from ser_jax.common.errors import UserError

FILES_A_BATCH = 1024  # of checksums
# The code that turns a clip into records: decoding, views, features, casting. tests/golden_test.py
# fails when one of its values changes; then raise RECORDS_VERSION by one and give it an entry, so
# that records made before are rebuilt. Version 1 is spelt as records have it that are older than
# this number.
RECORDS_VERSION = 1
CODE_VERSIONS = {1: "046193a26bdc"}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All that determines the records.

    Attributes:
      corpus: the clips.
      spec: the features.
      augmentation: the views beside the original.
      dtype: how features are stored, "float32" or "float16".
    """

    corpus: corpora.Corpus
    spec: features.FeatureSpec
    augmentation: views.Augmentation
    dtype: str = "float32"

    def __post_init__(self):
        if self.dtype not in ("float32", "float16"):
            raise UserError(f"records_dtype is float32 or float16, not {self.dtype!r}.")

    def settings(self) -> dict[str, Any]:
        """What the records depend on beside the clips themselves, as JSON values."""
        return settings(self.spec, self.augmentation, self.dtype)

    def fingerprint(self) -> str:
        """Twelve hex digits that change with the settings, the labels or the bytes of any clip."""
        # JSON of [settings, name, labels, clips], clip by clip, for its text is as long as they.
        head = [self.settings(), self.corpus.name, self.corpus.labels]
        digest = hashlib.sha256(f"{json.dumps(head, sort_keys=True)[:-1]}, [".encode())
        for number, (u, checksum) in enumerate(
            zip(self.corpus.utterances, _checksums(self.corpus), strict=True)
        ):
            clip = [u.id, u.emotion, u.speaker, dict(u.attributes), u.votes, checksum]
            digest.update(f"{', ' * (number > 0)}{json.dumps(clip, sort_keys=True)}".encode())
        digest.update(b"]]")
        return digest.hexdigest()[:12]

    def without_clips(self) -> "Recipe":
        """The same of no clips: little enough to be sent to a worker with every batch."""
        corpus = dataclasses.replace(self.corpus, utterances=(), ignored=())
        return dataclasses.replace(self, corpus=corpus)


def settings(
    spec: features.FeatureSpec, augmentation: views.Augmentation, dtype: str
) -> dict[str, Any]:
    """See Recipe.settings."""
    everything = {
        "features": dataclasses.asdict(spec),
        "augmentation": dataclasses.asdict(augmentation),
        "dtype": dtype,
        "code": CODE_VERSIONS[RECORDS_VERSION],
        # They decode, resample, draw noise and transform.
        "libraries": {
            name: metadata.version(name) for name in ("soundfile", "soxr", "numpy", "scipy")
        },
    }
    return json.loads(json.dumps(everything))  # tuples become lists, as they will on disk


def _checksums(corpus: corpora.Corpus) -> Iterator[str]:
    """SHA-256 of each clip's file; a file that is missing is found out when it is decoded."""

    def checksum(utterance: corpora.Utterance) -> str:
        return files.sha256_of(utterance.path) if utterance.path.is_file() else "missing"

    with concurrent.futures.ThreadPoolExecutor() as pool:
        for some in workers.batches(corpus.utterances, FILES_A_BATCH):  # not a future a clip
            yield from pool.map(checksum, some)
