"""Apache Beam builds the very same records, and what it lacks or refuses is one sentence."""

import dataclasses
import os
import shutil
import sys
from pathlib import Path

import pytest
from array_record.python.array_record_data_source import ArrayRecordDataSource
from ml_collections import ConfigDict

from data_prep.prepare import prepare
from data_prep.records import beam as records_beam
from ser_jax.common import files
from ser_jax.common.errors import UserError

ROOT = Path(__file__).parents[1]
BAD = "1001_DFA_DIS_XX"


@pytest.fixture(scope="module")
def beam():
    return pytest.importorskip("apache_beam", reason="pip install -r requirements/beam.txt")


@pytest.fixture(scope="module")
def root(made_corpus, tmp_path_factory) -> Path:
    """The made corpus, one clip of which is damaged."""
    root = shutil.copytree(made_corpus, tmp_path_factory.mktemp("beam") / "corpus")
    (root / "AudioWAV" / f"{BAD}.wav").write_bytes(b"")
    return root


def config_of(tiny, root: Path, records_dir: Path) -> ConfigDict:
    config = tiny()
    config.corpus.root, config.records_dir = str(root), str(records_dir)
    return config


@pytest.fixture(scope="module")
def here(beam, tiny, root, tmp_path_factory) -> Path:
    """The records as they are built without Beam."""
    return prepare(config_of(tiny, root, tmp_path_factory.mktemp("here")))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def records_of(folder: Path, view: str) -> list[bytes]:
    """All of a view, as they are on disk, in order."""
    shards = sorted(map(os.fspath, folder.glob(f"*-{view}.array_record-*")))
    return list(ArrayRecordDataSource(shards))


def test_beam_writes_the_very_same_files_in_two_other_processes(
    beam, tiny, root, here, tmp_path, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", os.fspath(ROOT))  # the workers import this project
    options = ("direct_num_workers=2", "direct_running_mode=multi_processing")
    there = prepare(config_of(tiny, root, tmp_path), "DirectRunner", options)
    assert there.parent.name == here.parent.name
    assert contents(there) == contents(here)
    assert list(files.read_json(there / "metadata.json")["left_out"]) == [BAD]
    assert [path.name for path in there.parent.iterdir()] == ["1.0.0"]


def test_several_files_a_view_hold_the_same_records_in_the_same_order(
    beam, tiny, root, here, tmp_path, monkeypatch
):
    configure = records_beam.configure

    def three_shards(*args):
        return dataclasses.replace(configure(*args), num_shards=3)

    monkeypatch.setattr(records_beam, "configure", three_shards)
    there = prepare(config_of(tiny, root, tmp_path), "DirectRunner")
    assert len(list(there.glob("*.array_record-*-of-00003"))) == 2 * 3
    for view in ("original", "noise"):
        assert records_of(there, view) == records_of(here, view) != []


def test_no_good_clip_is_the_users_error_and_makes_no_records(beam, tiny, root, tmp_path, caplog):
    spoilt = shutil.copytree(root, tmp_path / "corpus")
    for clip in spoilt.rglob("*.wav"):
        clip.write_bytes(b"")
    with pytest.raises(UserError, match=r"no clip of .* the first: .*1001_DFA_ANG_XX\.wav cannot"):
        prepare(config_of(tiny, spoilt, tmp_path / "records"), "DirectRunner")
    assert not [path for path in (tmp_path / "records").rglob("*") if path.is_file()]
    assert not caplog.records  # Beam would log the traceback that it raises


def test_options_reach_the_runner(beam):
    from apache_beam.options import pipeline_options
    from apache_beam.runners.portability.flink_runner import FlinkRunner

    options = ("flink_master=host:8081", "--region=europe-west1", "allow_unsafe_triggers")
    config = records_beam.configure("FlinkRunner", options)
    assert isinstance(config.beam_runner, FlinkRunner)
    flags = config.beam_options.get_all_options(drop_default=True)
    assert flags["flink_master"] == "host:8081" and flags["region"] == "europe-west1"
    assert flags["allow_unsafe_triggers"] is True
    google = config.beam_options.view_as(pipeline_options.GoogleCloudOptions)
    assert google.region == "europe-west1"


def test_direct_runner_is_one_that_fetches_nothing(beam):
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    assert isinstance(records_beam.configure("DirectRunner").beam_runner, FnApiRunner)


def test_what_beam_refuses_is_one_sentence(beam):
    for runner, options, why in (
        ("Nobody", (), "does not take --beam_runner=Nobody .* Valid values are DataflowRunner"),
        ("no.such.Runner", (), "No module named 'no'"),
        ("DirectRunner", ("direct_num_workers=two",), "cannot be read: .* invalid int value"),
    ):
        with pytest.raises(UserError, match=why) as error:
            records_beam.configure(runner, options)
        assert "\n" not in str(error.value)


def test_without_beam_or_a_runner_nothing_is_built(tiny, root, tmp_path, monkeypatch):
    config = config_of(tiny, root, tmp_path / "records")
    with pytest.raises(UserError, match="--beam_options belong to a --beam_runner"):
        prepare(config, "", ["region=europe-west1"])
    monkeypatch.setitem(sys.modules, "apache_beam", None)  # as if it were not installed
    with pytest.raises(UserError, match="pip install -r requirements/beam.txt"):
        prepare(config, "DirectRunner")
    assert not (tmp_path / "records").exists()
