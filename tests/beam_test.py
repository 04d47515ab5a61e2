"""Apache Beam builds the same records, and reports what is missing or rejected in one sentence."""

import dataclasses
import os
import shutil
import sys
from pathlib import Path

import pytest
from array_record.python.array_record_data_source import ArrayRecordDataSource
from ml_collections import ConfigDict
from safetensors.numpy import save_file

from configs import whisper
from data_prep.prepare import prepare
from data_prep.records import beam
from ser_jax.common import files
from ser_jax.common.errors import UserError
from tests.encoders_test import SIZE, tensors_of

ROOT = Path(__file__).parents[1]
BAD = "1001_DFA_DIS_XX"
CUT = "1001_DFA_FEA_XX"


@pytest.fixture(scope="module")
def apache_beam():
    return pytest.importorskip("apache_beam", reason="pip install -r requirements/beam.txt")


@pytest.fixture(scope="module")
def root(made_corpus, tmp_path_factory) -> Path:
    """The synthetic corpus with one damaged clip."""
    root = shutil.copytree(made_corpus, tmp_path_factory.mktemp("beam") / "corpus")
    (root / "AudioWAV" / f"{BAD}.wav").write_bytes(b"")
    cut = root / "AudioWAV" / f"{CUT}.wav"
    cut.write_bytes(cut.read_bytes()[:-1000])
    return root


def config_of(tiny, root: Path, records_dir: Path) -> ConfigDict:
    config = tiny()
    config.corpus.root, config.records_dir = str(root), str(records_dir)
    return config


@pytest.fixture(scope="module")
def local(apache_beam, tiny, root, tmp_path_factory) -> Path:
    """The records built without Beam."""
    return prepare(config_of(tiny, root, tmp_path_factory.mktemp("local")))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def records_of(folder: Path, view: str) -> list[bytes]:
    """The records of a view as bytes, in the order on disk."""
    shards = sorted(map(os.fspath, folder.glob(f"*-{view}.array_record-*")))
    return list(ArrayRecordDataSource(shards))


def test_beam_writes_the_same_files_in_two_processes(
    apache_beam, tiny, root, local, tmp_path, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", os.fspath(ROOT))  # the workers import this project
    options = ("direct_num_workers=2", "direct_running_mode=multi_processing")
    folder = prepare(config_of(tiny, root, tmp_path), "DirectRunner", options)
    assert folder.parent.name == local.parent.name
    assert contents(folder) == contents(local)
    assert list(files.read_json(folder / "metadata.json")["left_out"]) == [BAD]
    noted = files.read_json(folder / "metadata.json")["noted"]
    assert noted == {str(root / "AudioWAV" / f"{CUT}.wav"): ["cut short"]}
    assert [path.name for path in folder.parent.iterdir()] == ["1.0.0"]


def test_several_files_per_view_have_the_same_records_in_the_same_order(
    apache_beam, tiny, root, local, tmp_path, monkeypatch
):
    configure = beam.configure

    def three_shards(*args):
        return dataclasses.replace(configure(*args), num_shards=3)

    monkeypatch.setattr(beam, "configure", three_shards)
    folder = prepare(config_of(tiny, root, tmp_path), "DirectRunner")
    assert len(list(folder.glob("*.array_record-*-of-00003"))) == 2 * 3
    for view in ("original", "noise"):
        assert records_of(folder, view) == records_of(local, view) != []


def test_embeddings_are_the_same_files(apache_beam, tiny, root, tmp_path):
    save_file(tensors_of(SIZE), tmp_path / "model.safetensors")
    folders = []
    for runner in ("", "DirectRunner"):
        config = whisper.get_config()
        config.corpus = tiny().corpus.copy_and_resolve_references()
        config.corpus.root, config.encoder.path = str(root), str(tmp_path)
        config.records_dir = str(tmp_path / f"records{runner}")
        folders.append(prepare(config, runner))
    by_threads, by_beam = folders
    assert contents(by_beam) == contents(by_threads)


def test_corpus_without_a_usable_clip_is_a_user_error(apache_beam, tiny, root, tmp_path, caplog):
    damaged = shutil.copytree(root, tmp_path / "corpus")
    for clip in damaged.rglob("*.wav"):
        clip.write_bytes(b"")
    with pytest.raises(UserError, match=r"no clip of .* the first: .*1001_DFA_ANG_XX\.wav cannot"):
        prepare(config_of(tiny, damaged, tmp_path / "records"), "DirectRunner")
    assert not [path for path in (tmp_path / "records").rglob("*") if path.is_file()]
    assert not caplog.records  # Beam would also log the traceback


def test_options_reach_the_runner(apache_beam):
    from apache_beam.options import pipeline_options
    from apache_beam.runners.portability.flink_runner import FlinkRunner

    options = ("flink_master=host:8081", "--region=europe-west1", "allow_unsafe_triggers")
    config = beam.configure("FlinkRunner", options)
    assert isinstance(config.beam_runner, FlinkRunner)
    flags = config.beam_options.get_all_options(drop_default=True)
    assert flags["flink_master"] == "host:8081" and flags["region"] == "europe-west1"
    assert flags["allow_unsafe_triggers"] is True
    google = config.beam_options.view_as(pipeline_options.GoogleCloudOptions)
    assert google.region == "europe-west1"


def test_direct_runner_downloads_nothing(apache_beam):
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    assert isinstance(beam.configure("DirectRunner").beam_runner, FnApiRunner)


def test_rejected_options_are_one_sentence(apache_beam):
    for runner, options, message in (
        ("Nobody", (), "rejects --beam_runner=Nobody .* Valid values are DataflowRunner"),
        ("no.such.Runner", (), "No module named 'no'"),
        ("DirectRunner", ("direct_num_workers=two",), "cannot be read: .* invalid int value"),
    ):
        with pytest.raises(UserError, match=message) as error:
            beam.configure(runner, options)
        assert "\n" not in str(error.value)


def test_nothing_is_built_without_beam_or_a_runner(tiny, root, tmp_path, monkeypatch):
    config = config_of(tiny, root, tmp_path / "records")
    with pytest.raises(UserError, match="--beam_options belong to a --beam_runner"):
        prepare(config, "", ["region=europe-west1"])
    monkeypatch.setitem(sys.modules, "apache_beam", None)  # as if it were not installed
    with pytest.raises(UserError, match="pip install -r requirements/beam.txt"):
        prepare(config, "DirectRunner")
    assert not (tmp_path / "records").exists()
