"""Backend of a model exported by ser_jax.export, and the layout of its file.

The file is a zip of uncompressed members, none of which is ever written to disk:

    model.json    description of the network and its inputs; SHA-256 of every other member
    model.bin     waveform → probabilities, from jax.export
    LICENCE.txt   note on the corpus that the weights were trained on
    README.txt    a program that uses model.bin with only JAX and NumPy
    results.json  headline results, if the run was evaluated
    model.onnx    the same function for ONNX, if requested
    heard.json    which clips, speakers and sentences training has heard, as checksums, so that a
                  training that aims at these probabilities can be audited

Opening a file is safe: model.bin is a flatbuffer with a StableHLO program for XLA, without pickle,
and a program that calls code outside XLA is refused. Libraries for training are not imported; JAX,
NumPy and flatbuffers suffice.

Axes: R replicas, B batch, S samples, C classes.
"""

import hashlib
import json
import re
import types
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export

from ser_jax.common.errors import UserError
from ser_jax.data.leakage import Heard
from ser_jax.features import FeatureSpec

FORMAT_VERSION = 1
MANIFEST, MODEL, LICENCE, README = "model.json", "model.bin", "LICENCE.txt", "README.txt"
RESULTS, ONNX, HEARD = "results.json", "model.onnx", "heard.json"
_REQUIRED = {MODEL, LICENCE, README}
_OPTIONAL = {RESULTS, ONNX, HEARD}
_REMEDY = "fetch it again, or write it again with python -m ser_jax.export"
# JAX's check of symbolic shapes; any other call could run code outside XLA.
_HARMLESS_CALL = re.compile(r"stablehlo\.custom_call @shape_assertion\(")


class ExportedModel:
    """A Backend that needs no workdir, made of model.json and model.bin."""

    def __init__(
        self,
        manifest: dict[str, Any],
        program: export.Exported,
        heard: Mapping[str, Any] = types.MappingProxyType({}),
    ):
        self.corpus: str = manifest["corpus"]
        self.labels: tuple[str, ...] = tuple(manifest["labels"])
        self.spec = FeatureSpec(**manifest["features"])
        self.min_frames: int = manifest["min_frames"]
        self.max_frames: int = manifest["max_frames"]
        self.failed = tuple(manifest.get("failed", ()))  # trainings that were left out
        self.folds = tuple(int(replica["fold"]) for replica in manifest["replicas"])
        # By fold; empty in files of earlier versions.
        self.heard = {int(fold): Heard.from_json(lists) for fold, lists in heard.items()}
        self._call = jax.jit(program.call)

    def __call__(self, waveform_BxS: np.ndarray, n_samples_B: np.ndarray) -> np.ndarray:
        """Return probability_RxBxC; see Backend."""
        waveform_BxS = np.asarray(waveform_BxS, np.float32)
        _, probability_RxBxC = self._call(waveform_BxS, np.asarray(n_samples_B, np.int32))
        return np.asarray(probability_RxBxC)


def load(path: Path) -> ExportedModel:
    """Open an exported file; a UserError says if it is damaged, of another version or unsafe."""
    manifest, members = read(path)
    try:
        program = export.deserialize(bytearray(members[MODEL]))
        text = program.mlir_module()
    except ImportError as error:
        raise UserError(
            f"{path} cannot be opened without flatbuffers; pip install flatbuffers."
        ) from error
    except Exception as error:  # flatbuffers, JAX and MLIR have no class in common
        raise UserError(
            f"{path} was written by JAX {manifest.get('jax')} and cannot be read by JAX "
            f"{jax.__version__}; install that version or a later one, or export the run again here."
        ) from error
    try:
        heard = json.loads(members.get(HEARD, b"{}"))
        exported = ExportedModel(manifest, program, heard)
        matches = _matches(program, exported, len(manifest["replicas"]))
    except (KeyError, TypeError, ValueError, AttributeError, UserError) as error:
        raise _damaged(path, f"{MANIFEST} has missing or wrong entries") from error
    if not matches:
        raise _damaged(path, f"{MODEL} is not the program that {MANIFEST} describes")
    if text.count("custom_call") != len(_HARMLESS_CALL.findall(text)):
        raise UserError(
            f"{path} calls code outside XLA, which no export of ser_jax does; do not use it."
        )
    return exported


def read(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the content of model.json and the other members, with their checksums verified.

    Compressed members are refused, so that none can be larger than the file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            names = {info.filename for info in infos}
            if MANIFEST not in names or len(names) < len(infos):
                raise UserError(f"{path} is a zip but not an export of ser_jax; give another file.")
            if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
                raise UserError(
                    f"{path} has compressed members, unlike an export of ser_jax; {_REMEDY}."
                )
            manifest = json.loads(archive.read(MANIFEST))
            _check_version(path, manifest)
            if not _REQUIRED <= names <= {MANIFEST} | _REQUIRED | _OPTIONAL:
                wrong = min((_REQUIRED - names) or (names - _REQUIRED - _OPTIONAL - {MANIFEST}))
                raise _damaged(path, f"{wrong!r} is missing or does not belong there")
            members = {name: archive.read(name) for name in names - {MANIFEST}}
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; check the path.") from error
    except IsADirectoryError as error:
        raise UserError(f"{path} is a folder; name the file that ser_jax.export wrote.") from error
    except zipfile.BadZipFile as error:
        raise UserError(f"{path} is not a zip file, or damaged; {_REMEDY}.") from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"{MANIFEST} is not JSON") from error
    except (OSError, EOFError, RuntimeError, NotImplementedError) as error:
        raise UserError(f"{path} cannot be read ({error}); {_REMEDY}.") from error
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in members.items()}
    if sums != manifest.get("sha256"):
        raise _damaged(path, "a checksum is wrong")
    return manifest, members


def _check_version(path: Path, manifest: Any) -> None:
    """Refuse an export of another format version."""
    version = manifest.get("format_version") if isinstance(manifest, dict) else None
    if type(version) is not int:
        raise UserError(f"{path} is a zip but not an export of ser_jax; give another file.")
    if version != FORMAT_VERSION:
        raise UserError(
            f"{path} has format version {version}, but this ser_jax opens version "
            f"{FORMAT_VERSION}; update ser_jax, or export the run again."
        )


def _matches(program: export.Exported, exported: ExportedModel, n_replicas: int) -> bool:
    """Return whether inputs and outputs have the types and sizes that model.json describes."""
    texts, n_classes = [exported.corpus, *exported.labels], len(exported.labels)
    numbers = [exported.min_frames, exported.max_frames]
    if not all(isinstance(t, str) for t in texts) or not all(type(n) is int for n in numbers):
        raise TypeError
    signature = [
        (str(aval.dtype), *(n if isinstance(n, int) else None for n in aval.shape))
        for aval in (*program.in_avals, *program.out_avals)
    ]
    return signature == [
        ("float32", None, None),  # None: any size
        ("int32", None),
        ("float32", None, n_classes),
        ("float32", n_replicas, None, n_classes),
    ]


def _damaged(path: Path, what: str) -> UserError:
    return UserError(f"{path} is damaged: {what}; {_REMEDY}.")
