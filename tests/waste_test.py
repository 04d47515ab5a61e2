"""No hidden waste: programs are compiled once, epochs move nothing unseen, states are donated."""

import collections
import contextlib
import gc
from collections.abc import Iterator

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from ser_jax.data import examples, records
from ser_jax.train import experiment, loop
from ser_jax.train.evaluator import Evaluator
from ser_jax.train.trainer import Trainer

# Name → what differs from one replica on one device, its examples in the device's memory.
RUNS = {
    "resident": {},
    "loop on the device": {"devices": {"replica": 1, "data": 1}},
    "streamed": {"input": {"memory_limit_gb": 0.0}},
    "groups": {"replicas": {"seeds": 4, "strategy": "vmap", "at_once": 2}},
    "mesh": {"replicas": {"seeds": 2}, "devices": {"replica": 2, "data": 2}},
    "streamed mesh": {
        "input": {"memory_limit_gb": 0.0},
        "replicas": {"seeds": 2},
        "devices": {"replica": 2, "data": 2},
    },
}
# The training step's program; elsewhere the host counts the steps.
PROGRAM = {
    "loop on the device": "train_steps",
    "streamed": "train_step",
    "streamed mesh": "train_step",
}


@pytest.fixture
def get_config(tiny, monkeypatch):
    """A run of RUNS; the last batch is not full, neither in training nor in validation."""

    def get_config(name: str):
        if "loop" in name:  # as on an accelerator
            monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
        config = tiny("cnn1d")
        config.train.batch_size, config.evaluate.batch_size = 20, 10
        config.model.update(widths=(4,), kernels=(3,))
        for section, values in RUNS[name].items():
            config[section].update(values)
        return config

    return get_config


@pytest.fixture
def empty_cache(tmp_path) -> Iterator[None]:
    """JAX as in a first process of a machine: nothing is compiled, in memory or on disk."""
    before = jax.config.jax_compilation_cache_dir

    def start_with(cache: str) -> None:
        jax.clear_caches()
        compilation_cache.reset_cache()
        jax.config.update("jax_compilation_cache_dir", cache)

    start_with(str(tmp_path / "compiled"))
    yield
    start_with(before)


class Programs:
    """What XLA has compiled and what the cache on disk had, by the program's name."""

    def __init__(self):
        self.compiled, self.found = collections.Counter(), collections.Counter()
        self._hit = False

    @property
    def total(self) -> int:
        return self.compiled.total() + self.found.total()

    def _event(self, event: str, **_) -> None:
        self._hit |= event == "/jax/compilation_cache/cache_hits"

    def _duration(self, event: str, seconds: float, *, fun_name: str = "", **_) -> None:
        if event == "/jax/core/compile/backend_compile_duration":  # also where the cache had it
            name = fun_name.removeprefix("jit(").removesuffix(")")
            (self.found if self._hit else self.compiled)[name] += 1
            self._hit = False


@contextlib.contextmanager
def listening() -> Iterator[Programs]:
    programs = Programs()
    jax.monitoring.register_event_listener(programs._event)
    jax.monitoring.register_event_duration_secs_listener(programs._duration)
    try:
        yield programs
    finally:
        jax.monitoring.unregister_event_listener(programs._event)
        jax.monitoring.unregister_event_duration_listener(programs._duration)


def unseen_is_refused():
    """What is not put on the devices by name may not go there from this thread.

    Batches that are read ahead come from a thread of their own, for which this does not hold.
    """
    return jax.transfer_guard("disallow")


@pytest.mark.parametrize("name", ["loop on the device", "groups", "streamed mesh"])
def test_epochs_compile_once_move_nothing_unseen_and_leave_nothing(
    get_config, tiny_records, tmp_path, empty_cache, monkeypatch, name
):
    config, n_programs, n_arrays = get_config(name), [], []
    whole_epoch = loop.TrainingLoop._epoch

    def watched(self, *args):
        n_programs.append(programs.total)
        with unseen_is_refused():  # steps, validation, end of epoch, and what the host looks at
            rows = whole_epoch(self, *args)
        gc.collect()
        n_arrays.append(len(jax.live_arrays()))
        return rows

    monkeypatch.setattr(loop.TrainingLoop, "_epoch", watched)
    with listening() as programs:
        loop.train(config, tiny_records, tmp_path / "run")
    expected = [PROGRAM.get(name, "step_and_count"), "evaluate", "end"]
    assert [programs.compiled[program] for program in expected] == [1, 1, 1]
    assert not programs.found  # what the cache has is compiled a second time, if by another jit
    assert n_programs[1:] == [programs.total] * 2  # all in the first epoch, checkpoints included
    assert n_arrays == [n_arrays[0]] * 3

    # A second process finds what the first has compiled; only a checkpoint's way in is new.
    jax.clear_caches()
    config.train.epochs = 4
    with listening() as programs:
        loop.train(config, tiny_records, tmp_path / "run")
    assert [programs.found[program] for program in expected] == [1, 1, 1]
    assert programs.compiled.keys() <= {"part"}


def test_the_guard_watches_the_cpu_too():
    with pytest.raises(Exception, match="Disallowed host-to-device"), unseen_is_refused():
        jax.jit(lambda i: i)(1)


@pytest.fixture
def make_crowd(get_config, tiny_records):
    """A run's replicas before their first step, and an order of their examples."""

    def make_crowd(name: str):
        config = get_config(name)
        this = experiment.make(config, records.open_records(tiny_records))
        order_SxB = examples.shuffled_batches(this.train_M(0), config.train.batch_size, 0, 1)
        return this, Trainer(this, experiment.initial_states(this)), order_SxB

    return make_crowd


@pytest.mark.parametrize("name", RUNS)
def test_the_state_is_donated(make_crowd, monkeypatch, name):
    this, crowd, order_SxB = make_crowd(name)
    order_RxSxB = examples.stack_batches([order_SxB] * len(this.replicas))
    given = []

    def noted(program):
        def call(group, *rest):
            given.append(group)
            return program(group, *rest)

        return call

    for program in ("_steps", "_step", "_end_of_epoch"):
        monkeypatch.setattr(crowd, program, noted(getattr(crowd, program)))
    list(crowd.advance(order_RxSxB, 0))
    evaluator = Evaluator(this, crowd.feed, crowd.layout)
    n_given = len(given)
    sums = evaluator.sums(crowd.weights(), [this.splits[0].val] * len(this.replicas))
    crowd.end_epoch(sums, 1)
    assert len(given) == n_given + len(crowd.layout.groups) > n_given > 0
    for leaf in jax.tree.leaves(given):
        assert leaf.is_deleted()
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(crowd._groups))


def test_steps_in_memory_move_nothing_each(make_crowd, monkeypatch):
    _, crowd, order_SxB = make_crowd("resident")
    put, moved = jax.device_put, []
    monkeypatch.setattr(jax, "device_put", lambda *args: moved.append(args) or put(*args))
    numbers = []
    for n_times in (1, 2):
        crowd._steps_a_call = n_steps = len(order_SxB) * n_times
        assert list(crowd.advance(np.tile(order_SxB, (1, n_times, 1)), 0)) == [n_steps]
        numbers.append(len(moved))
        moved.clear()
    assert numbers == [2, 2]  # the order, and the first step's number
