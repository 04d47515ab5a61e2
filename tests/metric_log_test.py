"""The metric log keeps whole epochs; TensorBoard files hold the same values."""

import json
import struct
from collections import defaultdict

import pytest
from tensorboardX.crc32c import crc32c
from tensorboardX.proto.event_pb2 import Event

from ser_jax.common.errors import Interrupted
from ser_jax.train.loop import TrainingLoop, train
from ser_jax.train.metric_log import MetricLog, TensorBoard


def logged(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def points(folder):
    """Read all event files and check their checksums: {replica: {(tag, step): value}}."""
    values = defaultdict(dict)
    for path in sorted(folder.glob("replica-*/events.out.tfevents.*")):
        rest = path.read_bytes()
        while rest:
            length, check = rest[:8], struct.unpack("<I", rest[8:12])[0]
            body = rest[12 : 12 + struct.unpack("<Q", length)[0]]
            assert masked(length) == check
            assert masked(body) == struct.unpack("<I", rest[12 + len(body) :][:4])[0]
            rest = rest[16 + len(body) :]
            event = Event.FromString(body)
            for value in event.summary.value:
                point = (value.tag, event.step)
                assert point not in values[path.parent.name], f"{point} is written twice"
                values[path.parent.name][point] = value.simple_value
    return dict(values)


def masked(data):
    """Return the masked CRC of TFRecord files."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def points_of_log(workdir):
    points = defaultdict(dict)
    for row in logged(workdir):
        epoch, replica = row.pop("epoch"), row.pop("replica")
        for key, value in row.items():
            if value is not None:
                points[f"replica-{replica}"][key, epoch] = pytest.approx(value, rel=1e-6)
    return dict(points)


@pytest.fixture
def config(tiny):
    config = tiny().copy_and_resolve_references()
    config.train.tensorboard = True
    config.replicas.seeds = 2
    return config


def test_resumed_run_has_each_epoch_once(config, tiny_records, tmp_path, monkeypatch):
    run_epoch = TrainingLoop._run_epoch

    def stop_after_two(loop, epoch, stopped_R):
        if epoch == 2:
            loop._stop.received = True
        return run_epoch(loop, epoch, stopped_R)

    with monkeypatch.context() as patched:
        patched.setattr(TrainingLoop, "_run_epoch", stop_after_two)
        with pytest.raises(Interrupted):
            train(config, tiny_records, tmp_path)
    assert {step for _, step in points(tmp_path / "tensorboard")["replica-0"]} == {1, 2}
    train(config, tiny_records, tmp_path)
    board = points(tmp_path / "tensorboard")
    assert board == points_of_log(tmp_path) and set(board) == {"replica-0", "replica-1"}
    assert {"train/loss", "val/uar", "learning_rate"} <= {tag for tag, _ in board["replica-0"]}


def test_epochs_to_be_rerun_are_dropped_from_the_event_files(tmp_path):
    rows = [{"epoch": e, "replica": 0, "val/loss": 0.5 * e} for e in (1, 2)]
    log = MetricLog(tmp_path, 0, board=True)
    log.write(rows[:1])
    log.write([rows[1] | {"val/loss": float("nan")}])
    log.close()
    assert points(tmp_path / "tensorboard") == {"replica-0": {("val/loss", 1): 0.5}}
    MetricLog(tmp_path, 1, board=True).write(rows[1:])
    expected = {("val/loss", 1): 0.5, ("val/loss", 2): 1.0}
    assert points(tmp_path / "tensorboard") == {"replica-0": expected}


def test_other_files_in_the_folder_are_kept(tmp_path):
    notes = tmp_path / "replica-0" / "notes.txt"
    notes.parent.mkdir()
    notes.write_text("mine")
    TensorBoard(tmp_path, []).close()
    assert notes.read_text() == "mine"


def test_log_keeps_whole_epochs(tmp_path):
    log = MetricLog(tmp_path, 0)
    for epoch in (1, 2):
        log.write([{"epoch": epoch, "replica": number, "val/loss": 1.0} for number in (0, 1)])
    MetricLog(tmp_path, 1)
    assert [row["epoch"] for row in logged(tmp_path)] == [1, 1]


def test_non_finite_value_is_null_in_the_log(tmp_path):
    MetricLog(tmp_path, 0).write([{"epoch": 1, "val/loss": float("nan")}])
    assert logged(tmp_path) == [{"epoch": 1, "val/loss": None}]
