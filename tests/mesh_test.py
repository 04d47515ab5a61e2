"""Layouts: how replicas and batches are distributed over devices, and which configs are refused."""

import jax
import numpy as np
import pytest

from ser_jax.common.errors import UserError
from ser_jax.parallel.mesh import free_bytes, make_layout, replicas_that_fit
from ser_jax.parallel.placement import fetch, join, joined_shape, place, split


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


# Devices, replicas → the mesh's axes, replica and data.
SHAPES = {
    (8, 1): (1, 8),
    (8, 2): (2, 4),
    (8, 3): (3, 2),
    (4, 3): (3, 1),
    (2, 3): (2, 1),  # two rounds, the second with one replica
    (8, 5): (5, 1),
    (8, 9): (5, 1),  # two rounds, as on eight devices
    (8, 16): (8, 1),
    (4, 15): (4, 1),
    (1, 3): (1, 1),
}


@pytest.mark.parametrize(("n_devices", "n_replicas"), SHAPES)
def test_devices_are_divided_among_replicas_first(
    tiny, eight_accelerators, monkeypatch, n_devices, n_replicas
):
    monkeypatch.setattr(jax, "device_count", lambda: n_devices)
    mesh = SHAPES[n_devices, n_replicas]
    assert shape(tiny(), n_replicas) == (*mesh, mesh[0])
    assert make_layout(tiny(), n_replicas).strategy == "device"


@pytest.mark.parametrize(("n_replicas", "mesh"), [(1, (1, 8)), (3, (4, 2)), (5, (8, 1))])
def test_several_processes_use_every_device(
    tiny, eight_accelerators, monkeypatch, n_replicas, mesh
):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert shape(tiny(), n_replicas)[:2] == mesh


def test_last_group_is_filled_with_the_last_replica(tiny):
    config = tiny()
    config.devices.replica = 2
    layout = make_layout(config, 5)
    assert layout.groups == [[0, 1], [2, 3], [4, 4]]
    groups = place([{"x": np.float32(number)} for number in range(5)], layout)
    assert fetch(groups, layout)["x"].tolist() == [0, 1, 2, 3, 4]
    joined = join(groups, layout)
    assert joined["x"].shape == joined_shape(groups[0], layout)["x"].shape == (5,)
    again = [group["x"].tolist() for group in split(joined, layout)]
    assert again == [group["x"].tolist() for group in groups] == layout.groups


def test_description_names_the_devices_that_are_left_over(tiny, eight_accelerators):
    assert make_layout(tiny(), 3).describe() == (
        "3 replicas (strategy device) on 6 of 8 devices, 3 for replicas × 2 for each batch."
    )
    assert make_layout(tiny(), 16).describe() == (
        "16 replicas, 8 at once (strategy device) on 8 devices, 8 for replicas."
    )


@pytest.mark.parametrize(("train", "evaluate", "data"), [(64, 64, 8), (12, 24, 6), (7, 64, 1)])
def test_data_axis_divides_both_batch_sizes(tiny, eight_accelerators, train, evaluate, data):
    config = tiny()
    config.train.batch_size, config.evaluate.batch_size = train, evaluate
    assert shape(config, 1)[:2] == (1, data)


def test_config_overrides_the_mesh(tiny, eight_accelerators):
    config = tiny()
    config.devices.data = 2
    assert shape(config, 8) == (4, 2, 4)
    config.devices.replica = 2
    assert shape(config, 8) == (2, 2, 2)
    config.replicas.strategy = "map"
    assert shape(config, 8) == (2, 2, 8)
    config.devices.data, config.replicas.strategy = 1, "vmap"
    assert shape(config, 8) == (2, 1, 8)
    config.replicas.at_once = 7
    assert shape(config, 8) == (2, 1, 4)  # at most; in two equal groups


REFUSED = {
    "strategy": ({"replicas": {"strategy": "pmap"}}, "replicas.strategy='pmap' is unknown; use"),
    "devices": ({"devices": {"replica": 3, "data": 3}}, "does not fit the 8 available devices"),
    "batch": ({"devices": {"data": 3}}, "train.batch_size=16 is not divisible by 3 devices"),
    "evaluation": (
        {"devices": {"data": 8}, "evaluate": {"batch_size": 12}},
        "evaluate.batch_size=12 is not divisible by 8 devices",
    ),
    "replicas": ({"devices": {"replica": 7}}, "devices.replica=7 groups of devices are more than"),
    "at once": (
        {"devices": {"replica": 4}, "replicas": {"at_once": 3}},
        "replicas.at_once=3 must be at least the number of groups of devices, 4,",
    ),
    "at once alone": (
        {"replicas": {"at_once": 2, "strategy": "map"}},
        "replicas.at_once=2 .* with replicas.strategy=vmap",
    ),
    "vmap": ({"devices": {"data": 2}}, "replicas.strategy=vmap and devices.data=2 do not go tog"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_invalid_layout_is_refused(tiny, name):
    sections, sentence = REFUSED[name]
    config = tiny()
    for section, values in ({"replicas": {"strategy": "vmap"}} | sections).items():
        config[section].update(values)
    with pytest.raises(UserError, match=sentence):
        make_layout(config, 6)


@pytest.mark.parametrize(
    ("free", "expected"), [(1000, 12), (740, 6), (300, 4), (200, 2), (100, 2), (-1, 2)]
)
def test_group_size_is_limited_by_memory(tiny, free, expected):
    """Twelve replicas on two devices, 100 bytes per replica, four fifths of the memory usable."""
    config = tiny()
    config.devices.replica, config.replicas.strategy = 2, "vmap"
    assert replicas_that_fit(make_layout(config, 12), 100, free) == expected
    assert free_bytes() > 0
