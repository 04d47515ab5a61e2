"""The package as it is installed: what it declares, what is pinned, and its commands."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.imports_test import MODULES, names_in_imports

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# What is imported under another name than it is installed by.
MODULE_NAMES = {
    "absl-py": "absl",
    "orbax-checkpoint": "orbax",
    "scikit-learn": "sklearn",
    "tensorflow-datasets": "tensorflow_datasets",
}
# Asked for by users of the project, or by what it imports, without an import of our own.
NOT_IMPORTED = {"librosa", "array_record", "flatbuffers", "importlib_resources"}
GPUS = ("gpu-cuda12", "gpu-cuda13")


def pins(name: str) -> dict[str, str]:
    """{package: version} of a lock file."""
    lines = (ROOT / name).read_text().splitlines()
    found = (re.match(r"([\w.-]+)(?:\[\w+\])?==([\w.]+)", line) for line in lines)
    return {match[1]: match[2] for match in found if match}


def test_the_locks_lie_within_the_declared_ranges():
    locks = [
        ("", pins("requirements.txt")),
        ("", pins("requirements/newest.txt")),
        *(
            (name, pins(f"requirements/{name}.txt"))
            for name in ("beam", "onnx", "transformers", *GPUS)
        ),
    ]
    declared = {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
    for extra, lock in locks:
        for requirement in map(Requirement, declared[extra]):
            assert requirement.name in lock, f"{requirement.name} is not pinned"
            assert requirement.specifier.contains(lock[requirement.name]), requirement


@pytest.mark.parametrize("gpu", GPUS)
def test_a_gpu_has_the_jax_of_the_lock(gpu):
    pin = f"jax[{gpu.removeprefix('gpu-')}]=={pins('requirements.txt')['jax']}"
    assert pin in (ROOT / "requirements" / f"{gpu}.txt").read_text().splitlines()


def test_every_line_of_a_lock_is_an_exact_pin():
    for path in [ROOT / "requirements.txt", *(ROOT / "requirements").glob("*.txt")]:
        for line in path.read_text().splitlines():
            text = line.partition("#")[0].strip()
            assert not text or text.startswith("-r ") or re.fullmatch(r"\S+==[\w.]+", text), line


def test_dependencies_are_what_is_imported():
    imported = {n.split(".")[0] for path in MODULES.values() for n in names_in_imports(path)}
    imported |= {n.split(".")[0] for n in names_in_imports(ROOT / "launch.py")}
    declared = {Requirement(line).name for line in PROJECT["dependencies"]}
    modules = {MODULE_NAMES.get(name, name) for name in declared - NOT_IMPORTED}
    ours = {"ser_jax", "data_prep", "configs", "optional"}
    optional = {"apache_beam", "jax2onnx", "onnx", "onnxruntime", "torch", "transformers", "fcntl"}
    others = imported - set(sys.stdlib_module_names) - ours - optional
    assert modules == others


@pytest.mark.parametrize("command", PROJECT["scripts"])
def test_commands_work_from_any_folder(command, tmp_path):
    script = Path(sys.executable).with_name(command)
    if not script.exists():
        pytest.skip(f"{script} is missing: pip install --no-deps -e .")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    helped = subprocess.run([script, "--help"], cwd=tmp_path, env=environment, capture_output=True)
    assert helped.returncode == 0 and b"usage:" in helped.stdout, helped.stderr.decode()
    nothing = subprocess.run(
        [script, "--workdir=nowhere", "x"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert nothing.returncode and "Traceback" not in nothing.stderr, nothing.stderr
