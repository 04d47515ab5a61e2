"""How replicas and batches are shared out, and what is refused."""

import jax
import pytest

from ser_jax.common.errors import UserError
from ser_jax.parallel import mesh as parallel_mesh
from ser_jax.parallel import processes


def shape(config, n_replicas: int) -> tuple[int, int, int]:
    layout = parallel_mesh.layout(config, n_replicas)
    return layout.mesh.shape["replica"], layout.mesh.shape["data"], layout.at_once


@pytest.fixture
def eight_accelerators(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")


def test_the_cpu_counts_as_one_device_and_trains_one_replica_at_a_time(tiny):
    assert jax.device_count() == 8
    assert shape(tiny(), 6) == (1, 1, 1)
    assert parallel_mesh.layout(tiny(), 6).strategy == "device"


@pytest.mark.parametrize(
    ("n_replicas", "mesh"), [(1, (1, 8)), (2, (2, 4)), (5, (1, 8)), (6, (2, 4)), (16, (8, 1))]
)
def test_replicas_come_first_then_data(tiny, eight_accelerators, n_replicas, mesh):
    assert shape(tiny(), n_replicas)[:2] == mesh
    assert parallel_mesh.layout(tiny(), n_replicas).strategy == "vmap"


@pytest.mark.parametrize(("train", "evaluate", "data"), [(64, 64, 8), (12, 24, 6), (7, 64, 1)])
def test_a_batch_goes_to_as_many_devices_as_it_can_be_shared_among(
    tiny, eight_accelerators, train, evaluate, data
):
    config = tiny()
    config.train.batch_size, config.evaluate.batch_size = train, evaluate
    assert shape(config, 1)[:2] == (1, data)


def test_the_mesh_can_be_given(tiny, eight_accelerators):
    config = tiny()
    config.devices.data = 2
    assert shape(config, 8)[:2] == (4, 2)
    config.devices.replica = 2
    assert shape(config, 8) == (2, 2, 8)
    config.replicas.at_once = 4
    assert shape(config, 8) == (2, 2, 4)
    config.replicas.at_once, config.replicas.strategy = 0, "device"
    assert shape(config, 8) == (2, 2, 2)


def test_the_first_process_goes_first_and_its_failure_is_everybodys(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    done: list[str] = []

    def process(first: bool, failed_elsewhere: bool, make) -> object:
        def anywhere(flag):
            done.append("meet")
            return flag or failed_elsewhere

        monkeypatch.setattr(processes, "_meet", lambda: None)
        monkeypatch.setattr(processes, "is_first", lambda: first)
        monkeypatch.setattr(processes, "anywhere", anywhere)
        return processes.first_then_others(make)

    def make():
        done.append("make")
        return len(done)

    def fail():
        raise UserError("no corpus")

    assert process(True, False, make) == 1 and done == ["make", "meet"]
    assert process(False, False, make) == 4 and done[2:] == ["meet", "make"]
    with pytest.raises(UserError, match="no corpus"):
        process(True, False, fail)
    with pytest.raises(UserError, match="the first process has failed"):
        process(False, True, make)
    assert done[4:] == ["meet", "meet"]


REFUSED = {
    "strategy": ({"replicas": {"strategy": "pmap"}}, "replicas.strategy='pmap' is unknown; use"),
    "devices": ({"devices": {"replica": 3, "data": 3}}, "does not fit the 8 devices there are"),
    "batch": ({"devices": {"data": 3}}, "train.batch_size=16 is not divisible among 3 devices"),
    "evaluation": (
        {"devices": {"data": 8}, "evaluate": {"batch_size": 12}},
        "evaluate.batch_size=12 is not divisible among 8 devices",
    ),
    "replicas": ({"devices": {"replica": 4}}, "6 replicas are not divisible among devices.replica"),
    "at once": ({"replicas": {"at_once": 4}}, "replicas.at_once=4 must divide the 6 replicas"),
    "at once alone": (
        {"replicas": {"at_once": 2, "strategy": "map"}},
        "replicas.at_once=2 must divide",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_is_refused_in_words(tiny, name):
    sections, sentence = REFUSED[name]
    config = tiny()
    for section, values in ({"replicas": {"strategy": "vmap"}} | sections).items():
        config[section].update(values)
    with pytest.raises(UserError, match=sentence):
        parallel_mesh.layout(config, 6)


@pytest.mark.parametrize(("free", "expected"), [(1000, 12), (740, 6), (300, 4), (200, 2), (100, 2)])
def test_as_many_at_once_as_memory_holds(tiny, free, expected):
    """Twelve replicas on two devices, each replica's step taking 100 bytes, four fifths for use."""
    config = tiny()
    config.devices.replica, config.replicas.strategy = 2, "vmap"
    assert parallel_mesh.replicas_that_fit(parallel_mesh.layout(config, 12), 100, free) == expected
    assert parallel_mesh.free_bytes() > 0
