"""Everything that determines the records of a corpus, and its fingerprint."""

import dataclasses
import hashlib
import json
from importlib import metadata
from pathlib import Path
from typing import Any

from data_prep import corpora
from data_prep.augmentation.views import Augmentation
from ser_jax.audio.waveform import WHOLE
from ser_jax.common import files, interrupts
from ser_jax.common.concurrency import map_ahead
from ser_jax.common.errors import UserError
from ser_jax.features import FeatureSpec

N_THREADS = 16  # that compute checksums
# The version of what makes records of clips: decoding, views, features, casting, writing. Raise it
# when tests/golden_test.py fails because this code or a library has changed a value; older records
# are then rebuilt. Version 1 is stored as the hash of source that records had before this number.
RECORDS_VERSION = 1
_STORED_VERSIONS: dict[int, str] = {1: "046193a26bdc"}
LIBRARIES = ("soundfile", "soxr", "numpy", "scipy")  # decode, resample, draw noise, compute FFTs
# Fingerprints once depended on the libraries. With these in their place, those records are found.
_STORED_LIBRARIES = {"soundfile": "0.14.0", "soxr": "1.1.0", "numpy": "2.4.6", "scipy": "1.17.1"}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything that determines the records."""

    corpus: corpora.Corpus
    spec: FeatureSpec
    augmentation: Augmentation  # the views in addition to the original
    dtype: str = "float32"  # of the stored features, or "float16"
    encoder: Path | None = None  # where the encoder is that spec.encoder describes

    def __post_init__(self):
        if self.dtype not in ("float32", "float16"):
            raise UserError(f"records_dtype must be float32 or float16, not {self.dtype!r}.")

    def settings(self) -> dict[str, Any]:
        """Return everything but the clips, as JSON values."""
        return settings(self.spec, self.augmentation, self.dtype)

    def fingerprint(self) -> str:
        """Return 12 hex digits that identify settings, labels and the bytes of all clips."""
        # The digest of the JSON of [settings, name, labels, clips], without holding all of it.
        head = [identity(self.settings()), self.corpus.name, self.corpus.labels]
        digest = hashlib.sha256(f"{json.dumps(head, sort_keys=True)[:-1]}, [".encode())
        utterances = self.corpus.utterances
        with interrupts.deferred():
            checksums = map_ahead(_checksum, utterances, ahead=4 * N_THREADS, n_threads=N_THREADS)
            for number, (u, checksum) in enumerate(zip(utterances, checksums, strict=True)):
                clip = [u.id, u.emotion, u.speaker, dict(u.attributes), u.votes, checksum]
                if u.segment != WHOLE:
                    clip.append(str(u.segment))
                digest.update(f"{', ' * (number > 0)}{json.dumps(clip, sort_keys=True)}".encode())
        digest.update(b"]]")
        return digest.hexdigest()[:12]

    def without_clips(self) -> "Recipe":
        """Return the recipe without its clips, small enough to send to a worker with each batch."""
        corpus = dataclasses.replace(self.corpus, utterances=(), ignored=())
        return dataclasses.replace(self, corpus=corpus)


def settings(spec: FeatureSpec, augmentation: Augmentation, dtype: str) -> dict[str, Any]:
    """Return Recipe.settings() where the corpus is not available."""
    features = dataclasses.asdict(spec)
    if not spec.encoder:
        del features["encoder"]  # as in records that are older than encoders
    elif spec.encoder.least == 1:
        del features["encoder"]["least"]  # as in records that are older than other encoders
    values = {
        "features": features,
        "augmentation": dataclasses.asdict(augmentation),
        "dtype": dtype,
        "code": _STORED_VERSIONS.get(RECORDS_VERSION, str(RECORDS_VERSION)),
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
    }
    return json.loads(json.dumps(values))  # tuples become lists, as they do on disk


def identity(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that records must share to be the same: all but libraries' versions."""
    return settings | {"libraries": _STORED_LIBRARIES}


def other_libraries(settings: dict[str, Any]) -> str:
    """Return names and versions of the libraries behind records that are not the ones here."""
    versions = settings["libraries"].items()
    return ", ".join(f"{name} {v}" for name, v in versions if v != metadata.version(name))


def _checksum(utterance: corpora.Utterance) -> str:
    """Return the SHA-256 of a clip's file, or "missing": decoding will report the clip."""
    return files.sha256_of(utterance.path) if utterance.path.is_file() else "missing"
