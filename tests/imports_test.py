"""Imports run one way, and nothing heavy happens at import."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Each module may import those before it.
ORDER = """errors files flac html_page audio audio_files compilation_cache host_memory timeline
features bundle splits leakage record_reader input_pipeline convolution layers models metrics
bootstrap statistics calibration breakdown command_line replicas devices train_state optimizer
train_step feed parallel checkpoints tensorboard metric_log task trained engine predictor
prediction_formats prediction_table prediction_rows predict export_texts export_onnx export
transfer evaluator crowd stopping train results evaluate plots plots_clip plots_training
plots_confusion plots_reliability plots_breakdown markdown run_files report_page saliency
result_clips result_matrix result_sections result_maker result_media result_page report
plots_compare compare_page compare study_numbers study_entries study_effects study_claims
plots_study study_page study_report study""".split()


def imports_of(path: Path) -> set[str]:
    """Every module that a file names in an import, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_ser_jax_imports_downward_only():
    for path in (ROOT / "ser_jax").glob("*.py"):
        if path.stem == "__init__":
            continue
        before = ORDER[: ORDER.index(path.stem)]
        ours = {name.split(".")[1] for name in imports_of(path) if name.startswith("ser_jax.")}
        assert ours & set(ORDER) <= set(before), path


def test_only_launch_and_tests_import_data_prep_and_configs():
    for path in (ROOT / "ser_jax").rglob("*.py"):
        assert not [n for n in imports_of(path) if n.split(".")[0] in ("data_prep", "configs")]
    for path in (ROOT / "data_prep").rglob("*.py"):
        named = {n.split(".")[1] for n in imports_of(path) if n.startswith("ser_jax.")}
        shared = set(
            "errors files audio audio_files features html_page plots plots_clip flac".split()
        )
        assert named & set(ORDER) <= shared | {"command_line"}, path


def test_matplotlib_flags_pickle_and_tensorflow_stay_where_they_belong():
    for path in [*(ROOT / "ser_jax").rglob("*.py"), *(ROOT / "data_prep").rglob("*.py")]:
        roots = {name.split(".")[0] for name in imports_of(path)}
        assert "tensorflow" not in roots and "pickle" not in roots, path
        draws = path.stem.startswith(("plots", "inspect"))
        assert "matplotlib" not in roots or draws, path
        assert "absl.flags" not in imports_of(path) or path.stem == "inspect", path


def test_help_is_light():
    program = (
        "import sys, launch; heavy = {'jax', 'librosa', 'tensorflow_datasets', 'matplotlib'};"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True)
    assert run.returncode == 0, run.stderr.decode()


def test_no_tensorflow_in_the_requirements():
    names = {line.split("==")[0] for line in (ROOT / "requirements.txt").read_text().split("\n")}
    assert "tensorflow" not in names and "tensorflow-cpu" not in names
    assert {"jax", "flax", "optax", "orbax-checkpoint", "librosa"} <= names
