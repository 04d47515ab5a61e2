"""A trained network in one file, as ser_jax.export writes it: how it is made up, and opening it.

A bundle is a zip of plain members, not compressed, none of which is ever written to disk:

    model.json    what the network is and how it is called; the SHA-256 of every other member
    model.bin     waveform → probabilities, from jax.export
    LICENCE.txt   what the weights were trained on
    README.txt    a program that uses model.bin with JAX and NumPy alone
    results.json  the headline of the evaluation, if there was one
    model.onnx    the same for ONNX, if it was asked for

Opening runs no code of the file's: model.bin is a flatbuffer with a StableHLO program, which XLA
compiles; there is no pickle in it, and a program that calls out of XLA is refused. Nothing here
imports what training needs: JAX, NumPy and flatbuffers suffice.

Axes: R replicas, B batch, S samples, C classes.
"""

import hashlib
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export

from ser_jax.common.errors import UserError
from ser_jax.features import FeatureSpec

FORMAT_VERSION = 1
ABOUT, MODEL, LICENCE, README = "model.json", "model.bin", "LICENCE.txt", "README.txt"
RESULTS, ONNX = "results.json", "model.onnx"
_REQUIRED = {MODEL, LICENCE, README}
_OPTIONAL = {RESULTS, ONNX}
_REMEDY = "fetch it again, or write it again with python -m ser_jax.export"
# JAX checks symbolic shapes with it; anything else could reach out of XLA.
_HARMLESS_CALL = re.compile(r"stablehlo\.custom_call @shape_assertion\(")


class ExportedModel:
    """A network that needs no workdir: what ser_jax.predictor calls an engine.

    Attributes:
      about: what model.json says.
      corpus: what results call what it was trained on.
      labels: class names.
      spec: the features' definition.
      min_frames: of the shortest training example.
      max_frames: all inputs are padded and cut to this.
    """

    def __init__(self, about: dict[str, Any], exported: export.Exported):
        self.about = about
        self.corpus: str = about["corpus"]
        self.labels: tuple[str, ...] = tuple(about["labels"])
        self.spec = FeatureSpec(**about["features"])
        self.min_frames: int = about["min_frames"]
        self.max_frames: int = about["max_frames"]
        self._call = jax.jit(exported.call)

    def __call__(self, waveform_BxS: np.ndarray, n_samples_B: np.ndarray) -> np.ndarray:
        """Each replica's probabilities; compiles for each new shape.

        Args:
          waveform_BxS: at spec.sampling_rate, full scale ±1, padded at the end.
          n_samples_B: the clips' lengths, 1 or more.

        Returns:
          probability_RxBxC, float32.
        """
        waveform_BxS = np.asarray(waveform_BxS, np.float32)
        _, probability_RxBxC = self._call(waveform_BxS, np.asarray(n_samples_B, np.int32))
        return np.asarray(probability_RxBxC)


def load(path: Path) -> ExportedModel:
    """Opens and checks a bundle.

    Raises:
      UserError: it is missing, damaged, no bundle, of another version, or not safe to run.
    """
    about, members = read(path)
    try:
        exported = export.deserialize(bytearray(members[MODEL]))
    except ImportError as error:
        raise UserError(
            f"{path} cannot be opened without flatbuffers; pip install flatbuffers."
        ) from error
    except Exception as error:  # flatbuffers, JAX and MLIR have no class in common
        raise UserError(
            f"{path} was written by JAX {about.get('jax')} and JAX {jax.__version__} cannot read "
            "it; install that version, or export the run again."
        ) from error
    try:
        bundle = ExportedModel(about, exported)
        whole = _types(exported) == _expected(bundle)
    except (KeyError, TypeError, ValueError, AttributeError, UserError) as error:
        raise _damaged(path, f"{ABOUT} lacks something or has it wrong") from error
    if not whole:
        raise _damaged(path, f"{MODEL} is not the program that {ABOUT} describes")
    program = exported.mlir_module()
    if program.count("custom_call") != len(_HARMLESS_CALL.findall(program)):
        raise UserError(
            f"{path} calls code outside of XLA, which no export of ser_jax does; do not use it."
        )
    return bundle


def read(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """What model.json says, and the other members, whose checksums are right.

    Members are not compressed, so that none can be larger than the file.

    Raises:
      UserError: as `load`, but for the program itself.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            names = {info.filename for info in infos}
            if ABOUT not in names or len(names) < len(infos):
                raise UserError(f"{path} is a zip but no export of ser_jax; name another file.")
            if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
                raise UserError(
                    f"{path} has compressed members, as no export of ser_jax has; {_REMEDY}."
                )
            about = json.loads(archive.read(ABOUT))
            check_version(path, about)
            if not _REQUIRED <= names <= {ABOUT} | _REQUIRED | _OPTIONAL:
                wrong = min((_REQUIRED - names) or (names - _REQUIRED - _OPTIONAL - {ABOUT}))
                raise _damaged(path, f"{wrong!r} is missing or does not belong there")
            members = {name: archive.read(name) for name in names - {ABOUT}}
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist; check the path.") from error
    except IsADirectoryError as error:
        raise UserError(f"{path} is a folder; name the file that ser_jax.export wrote.") from error
    except zipfile.BadZipFile as error:
        raise UserError(f"{path} is no zip file or a damaged one; {_REMEDY}.") from error
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"{ABOUT} is no JSON") from error
    except (OSError, EOFError, RuntimeError, NotImplementedError) as error:
        raise UserError(f"{path} cannot be read ({error}); {_REMEDY}.") from error
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in members.items()}
    if sums != about.get("sha256"):
        raise _damaged(path, "a checksum is wrong")
    return about, members


def check_version(path: Path, about: Any) -> None:
    """Refuses what this version cannot open."""
    version = about.get("format_version") if isinstance(about, dict) else None
    if type(version) is not int:
        raise UserError(f"{path} is a zip but no export of ser_jax; name another file.")
    if version != FORMAT_VERSION:
        raise UserError(
            f"{path} is of format {version} and this ser_jax opens {FORMAT_VERSION}; update "
            "ser_jax, or export the run again."
        )


def _types(exported: export.Exported) -> list[tuple[str | int | None, ...]]:
    """Type and shape of each input and output; None where a size is symbolic."""
    return [
        (str(aval.dtype), *(n if isinstance(n, int) else None for n in aval.shape))
        for aval in (*exported.in_avals, *exported.out_avals)
    ]


def _expected(bundle: ExportedModel) -> list[tuple[str | int | None, ...]]:
    n_classes, n_replicas = len(bundle.labels), len(bundle.about["replicas"])
    texts = [bundle.corpus, *bundle.labels]
    numbers = [bundle.min_frames, bundle.max_frames]
    if not all(isinstance(t, str) for t in texts) or not all(type(n) is int for n in numbers):
        raise TypeError
    return [
        ("float32", None, None),
        ("int32", None),
        ("float32", None, n_classes),
        ("float32", n_replicas, None, n_classes),
    ]


def _damaged(path: Path, what: str) -> UserError:
    return UserError(f"{path} is damaged: {what}; {_REMEDY}.")
