"""Layouts: how replicas and batches are distributed over devices, and which configs are refused."""

import jax
import pytest

from ser_jax.common.errors import UserError
from ser_jax.parallel.mesh import free_bytes, make_layout, replicas_that_fit


def shape(config, n_replicas: int) -> tuple[int, int, int]:
    layout = make_layout(config, n_replicas)
    return layout.mesh.shape["replica"], layout.mesh.shape["data"], layout.at_once


@pytest.fixture
def eight_accelerators(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")


def test_cpu_counts_as_one_device_and_trains_one_replica_at_a_time(tiny):
    assert jax.device_count() == 8
    assert shape(tiny(), 6) == (1, 1, 1)
    assert make_layout(tiny(), 6).strategy == "device"


@pytest.mark.parametrize(
    ("n_replicas", "mesh"), [(1, (1, 8)), (2, (2, 4)), (5, (1, 8)), (6, (2, 4)), (16, (8, 1))]
)
def test_devices_are_divided_among_replicas_first(tiny, eight_accelerators, n_replicas, mesh):
    assert shape(tiny(), n_replicas)[:2] == mesh
    assert make_layout(tiny(), n_replicas).strategy == "vmap"


@pytest.mark.parametrize(("train", "evaluate", "data"), [(64, 64, 8), (12, 24, 6), (7, 64, 1)])
def test_data_axis_divides_both_batch_sizes(tiny, eight_accelerators, train, evaluate, data):
    config = tiny()
    config.train.batch_size, config.evaluate.batch_size = train, evaluate
    assert shape(config, 1)[:2] == (1, data)


def test_config_overrides_the_mesh(tiny, eight_accelerators):
    config = tiny()
    config.devices.data = 2
    assert shape(config, 8)[:2] == (4, 2)
    config.devices.replica = 2
    assert shape(config, 8) == (2, 2, 8)
    config.replicas.at_once = 4
    assert shape(config, 8) == (2, 2, 4)
    config.replicas.at_once, config.replicas.strategy = 0, "device"
    assert shape(config, 8) == (2, 2, 2)


REFUSED = {
    "strategy": ({"replicas": {"strategy": "pmap"}}, "replicas.strategy='pmap' is unknown; use"),
    "devices": ({"devices": {"replica": 3, "data": 3}}, "does not fit the 8 available devices"),
    "batch": ({"devices": {"data": 3}}, "train.batch_size=16 is not divisible by 3 devices"),
    "evaluation": (
        {"devices": {"data": 8}, "evaluate": {"batch_size": 12}},
        "evaluate.batch_size=12 is not divisible by 8 devices",
    ),
    "replicas": ({"devices": {"replica": 4}}, "6 replicas are not divisible by devices.replica"),
    "at once": ({"replicas": {"at_once": 4}}, "replicas.at_once=4 must divide the 6 replicas"),
    "at once alone": (
        {"replicas": {"at_once": 2, "strategy": "map"}},
        "replicas.at_once=2 must divide",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_invalid_layout_is_refused(tiny, name):
    sections, sentence = REFUSED[name]
    config = tiny()
    for section, values in ({"replicas": {"strategy": "vmap"}} | sections).items():
        config[section].update(values)
    with pytest.raises(UserError, match=sentence):
        make_layout(config, 6)


@pytest.mark.parametrize(("free", "expected"), [(1000, 12), (740, 6), (300, 4), (200, 2), (100, 2)])
def test_group_size_is_limited_by_memory(tiny, free, expected):
    """Twelve replicas on two devices, 100 bytes per replica, four fifths of the memory usable."""
    config = tiny()
    config.devices.replica, config.replicas.strategy = 2, "vmap"
    assert replicas_that_fit(make_layout(config, 12), 100, free) == expected
    assert free_bytes() > 0
