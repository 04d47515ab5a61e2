import json
import struct
from collections import defaultdict

import pytest
from tensorboardX.crc32c import crc32c
from tensorboardX.proto.event_pb2 import Event

from ser_jax.common.errors import Interrupted
from ser_jax.train import metric_log
from ser_jax.train.loop import TrainingLoop, train


def points(folder):
    """{replica: {(tag, step): value}} of all event files, whose checksums are right."""
    found = defaultdict(dict)
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
                assert point not in found[path.parent.name], f"{point} is there twice"
                found[path.parent.name][point] = value.simple_value
    return dict(found)


def masked(data):
    """The checksum of TFRecord files."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def of_log(workdir):
    found = defaultdict(dict)
    for line in (workdir / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        epoch, replica = row.pop("epoch"), row.pop("replica")
        for key, value in row.items():
            if value is not None:
                found[f"replica-{replica}"][key, epoch] = pytest.approx(value, rel=1e-6)
    return dict(found)


@pytest.fixture
def config(tiny):
    config = tiny().copy_and_resolve_references()
    config.train.tensorboard = True
    config.replicas.seeds = 2
    return config


def test_a_run_that_was_stopped_has_each_epoch_once(config, tiny_records, tmp_path, monkeypatch):
    epoch_of = TrainingLoop._epoch

    def stop_after_two(loop, epoch, stopped_R):
        if epoch == 2:
            loop._stop.set()
        return epoch_of(loop, epoch, stopped_R)

    with monkeypatch.context() as patched:
        patched.setattr(TrainingLoop, "_epoch", stop_after_two)
        with pytest.raises(Interrupted):
            train(config, tiny_records, tmp_path)
    assert {step for _, step in points(tmp_path / "tensorboard")["replica-0"]} == {1, 2}
    train(config, tiny_records, tmp_path)
    found = points(tmp_path / "tensorboard")
    assert found == of_log(tmp_path) and set(found) == {"replica-0", "replica-1"}
    assert {"train/loss", "val/uar", "learning_rate"} <= {tag for tag, _ in found["replica-0"]}


def test_an_epoch_that_will_be_run_anew_goes(tmp_path):
    rows = [{"epoch": e, "replica": 0, "val/loss": 0.5 * e} for e in (1, 2)]
    log = metric_log.MetricLog(tmp_path, 0, board=True)
    log.write(rows[:1])
    log.write([rows[1] | {"val/loss": float("nan")}])
    log.close()
    assert points(tmp_path / "tensorboard") == {"replica-0": {("val/loss", 1): 0.5}}
    metric_log.MetricLog(tmp_path, 1, board=True).write(rows[1:])
    expected = {("val/loss", 1): 0.5, ("val/loss", 2): 1.0}
    assert points(tmp_path / "tensorboard") == {"replica-0": expected}


def test_other_files_stay(tmp_path):
    mine = tmp_path / "replica-0" / "notes.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    metric_log.Board(tmp_path, []).close()
    assert mine.read_text() == "mine"
