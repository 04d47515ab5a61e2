"""Imports run one way, and nothing heavy happens at import. All is computed from the tree."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("ser_jax", "data_prep")
# What ser_jax is made of, and what is done with it. An act may import things, never the other way.
THINGS = "common audio features encoders data models metrics parallel pages".split()
ACTS = "train evaluate predict export report compare study".split()


def module_of(path: Path) -> str:
    """Its dotted name; a package's __init__ is the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    module_of(path): path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))
}


def names_in_imports(path: Path) -> set[str]:
    """Every dotted name that a file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: write the whole name of {node.module}"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def modules_imported_by(path: Path) -> set[str]:
    """Modules of this project; a package counts by what is imported from it."""
    names = names_in_imports(path) & MODULES.keys()
    return {n for n in names if not any(other.startswith(f"{n}.") for other in names)}


def package_of(module: str) -> str:
    """`ser_jax.train.loop` and `ser_jax.train` → `ser_jax.train`."""
    return ".".join(module.split(".")[:2])


def test_modules_and_packages_form_no_circle():
    modules = {name: modules_imported_by(path) - {name} for name, path in MODULES.items()}
    packages: dict[str, set[str]] = {}
    for name, imported in modules.items():
        # The short way to a class, for users; what it imports is not what its package is made of.
        here = name if name == "ser_jax.predictor" else package_of(name)
        packages.setdefault(here, set()).update({package_of(n) for n in imported} - {here})
    for graph in (modules, packages):
        graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_things_import_no_acts():
    folders = {
        path.name for path in (ROOT / "ser_jax").iterdir() if (path / "__init__.py").exists()
    }
    assert folders == {*THINGS, *ACTS}, "enter the new package above"
    for thing in THINGS:
        for path in (ROOT / "ser_jax" / thing).rglob("*.py"):
            above = {n for n in modules_imported_by(path) if n.split(".")[1] in ACTS}
            assert not above, f"{path} is below {above}"


def test_ser_jax_imports_neither_data_prep_nor_configs():
    for path in (ROOT / "ser_jax").rglob("*.py"):
        assert not [
            n for n in names_in_imports(path) if n.split(".")[0] in ("data_prep", "configs")
        ]


def test_data_prep_imports_things_only():
    for path in (ROOT / "data_prep").rglob("*.py"):
        ours = {n.split(".")[1] for n in modules_imported_by(path) if n.startswith("ser_jax.")}
        assert ours <= {"common", "audio", "features", "encoders", "pages"}, path


def test_rooms_stay_small_enough_to_be_read():
    for folder in {path.parent for path in MODULES.values()}:
        modules = [path for path in folder.glob("*.py") if path.stem != "__init__"]
        assert len(modules) <= 14, folder
    for path in MODULES.values():
        assert path.read_text(encoding="utf-8").count("\n") <= 320, path


def test_every_package_says_in_one_line_what_belongs_there():
    for name, path in MODULES.items():
        if path.name != "__init__.py":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstring = ast.get_docstring(tree)
        assert docstring and "TODO" not in docstring, path
        if name not in ("ser_jax.features", "data_prep.corpora"):  # they hand names on
            assert len(tree.body) == 1, path


def test_matplotlib_flags_pickle_and_tensorflow_stay_where_they_belong():
    for name, path in MODULES.items():
        imported = names_in_imports(path)
        roots = {name.split(".")[0] for name in imported}
        assert not roots & {"tensorflow", "pickle"}, path
        draws = "figure" in name
        assert "matplotlib" not in roots or draws, path
        assert "absl.flags" not in imported or path.stem == "__main__", path


@pytest.mark.parametrize(
    "module, heavy",
    [
        ("launch", "jax librosa tensorflow_datasets matplotlib"),
        ("ser_jax.compare.__main__", "jax librosa tensorflow_datasets"),
        ("ser_jax.study.page", "jax librosa tensorflow_datasets"),
        ("ser_jax.predict.__main__", "jax librosa tensorflow_datasets matplotlib"),
        ("data_prep.records.examples", "jax matplotlib"),
    ],
)
def test_import_is_light(module, heavy):
    program = (
        f"import sys, {module}; heavy = set({heavy!r}.split());"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True)
    assert run.returncode == 0, run.stderr.decode()


def test_no_tensorflow_in_the_requirements():
    names = {line.split("==")[0] for line in (ROOT / "requirements.txt").read_text().split("\n")}
    assert "tensorflow" not in names and "tensorflow-cpu" not in names
    assert {"jax", "flax", "optax", "orbax-checkpoint", "librosa"} <= names
