"""No hidden waste: compile once, no implicit transfers, donated states."""

import collections
import contextlib
import gc
from collections.abc import Iterator

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from ser_jax.data.examples import shuffled_batches, stack_batches
from ser_jax.data.records import open_records
from ser_jax.evaluate import test_set
from ser_jax.train import loop
from ser_jax.train.evaluator import Evaluator
from ser_jax.train.experiment import initial_states, make_experiment
from ser_jax.train.trainer import Trainer

# Name → how the run differs from one replica on one device with resident examples.
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
# The program that trains, where it is not step_and_count.
PROGRAM = {
    "loop on the device": "train_steps",
    "streamed": "train_step",
    "streamed mesh": "train_step",
}


@pytest.fixture
def get_config(tiny, monkeypatch):
    """The config of one of RUNS; the last batches of training and validation are partial."""

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
    """JAX with nothing compiled, in memory or on disk."""
    before = jax.config.jax_compilation_cache_dir

    def start_with(cache: str) -> None:
        jax.clear_caches()
        compilation_cache.reset_cache()
        jax.config.update("jax_compilation_cache_dir", cache)

    start_with(str(tmp_path / "compiled"))
    yield
    start_with(before)


class Programs:
    """Counts programs compiled by XLA, and those found in the cache on disk, by name."""

    def __init__(self):
        self.compiled, self.cache_hits = collections.Counter(), collections.Counter()
        self._hit = False

    @property
    def total(self) -> int:
        return self.compiled.total() + self.cache_hits.total()

    def _event(self, event: str, **_) -> None:
        self._hit |= event == "/jax/compilation_cache/cache_hits"

    def _duration(self, event: str, seconds: float, *, fun_name: str = "", **_) -> None:
        if event == "/jax/core/compile/backend_compile_duration":  # also on a cache hit
            name = fun_name.removeprefix("jit(").removesuffix(")")
            (self.cache_hits if self._hit else self.compiled)[name] += 1
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


def no_implicit_transfers():
    """Refuse implicit transfers to the devices from this thread.

    Streamed batches come from another thread, to which this does not apply.
    """
    return jax.transfer_guard("disallow")


@pytest.mark.parametrize("name", ["loop on the device", "groups", "streamed mesh"])
def test_epochs_compile_once_and_neither_transfer_implicitly_nor_leak_arrays(
    get_config, tiny_records, tmp_path, empty_cache, monkeypatch, name
):
    config, n_programs, n_arrays = get_config(name), [], []
    config.train.checkpoint_seconds = 0.0
    run_epoch = loop.TrainingLoop._run_epoch

    def watched_epoch(self, *args):
        n_programs.append(programs.total)
        with no_implicit_transfers():  # steps, validation, end of epoch, and fetched metrics
            rows = run_epoch(self, *args)
        self._writer.wait()
        gc.collect()
        n_arrays.append(len(jax.live_arrays()))
        return rows

    monkeypatch.setattr(loop.TrainingLoop, "_run_epoch", watched_epoch)
    with listening() as programs:
        loop.train(config, tiny_records, tmp_path / "run")
    expected = [PROGRAM.get(name, "step_and_count"), "evaluate", "end"]
    assert [programs.compiled[program] for program in expected] == [1, 1, 1]
    assert not programs.cache_hits  # a hit would mean that two jits compile the same program
    assert (
        n_programs[1:] == [programs.total] * 2
    )  # all within the first epoch, checkpoints included
    assert n_arrays == [n_arrays[0]] * 3

    # A second process finds them in the cache; only loading a checkpoint is compiled.
    jax.clear_caches()
    config.train.epochs = 4
    with listening() as programs:
        loop.train(config, tiny_records, tmp_path / "run")
    assert [programs.cache_hits[program] for program in expected] == [1, 1, 1]
    assert programs.compiled.keys() <= {"part"}


def test_runs_of_equal_shapes_share_their_programs(get_config, tiny_records, tmp_path, empty_cache):
    totals = []
    for number in (1, 2):
        config = get_config("resident")
        config.train.epochs, config.seed, config.split.fold = 1, number, str(number)
        config.optimizer.l2 = 0.01 * number
        with listening() as programs:
            experiment = loop.train(config, tiny_records, tmp_path / str(number))
            test_set.evaluate(config, tiny_records, tmp_path / str(number), experiment)
        totals.append(programs.total)
    assert totals[0] > 0 == totals[1]


def test_transfer_guard_works_on_a_cpu():
    with pytest.raises(Exception, match="Disallowed host-to-device"), no_implicit_transfers():
        jax.jit(lambda i: i)(1)


@pytest.fixture
def make_trainer(get_config, tiny_records):
    """An experiment, its trainer before the first step, and an order of the examples."""

    def make_trainer(name: str):
        config = get_config(name)
        experiment = make_experiment(config, open_records(tiny_records))
        order_SxB = shuffled_batches(experiment.train_M(0), config.train.batch_size, 0, 1)
        return experiment, Trainer(experiment, initial_states(experiment)), order_SxB

    return make_trainer


@pytest.mark.parametrize("name", RUNS)
def test_states_are_donated(make_trainer, monkeypatch, name):
    experiment, trainer, order_SxB = make_trainer(name)
    n_replicas, donated = len(experiment.replicas), []

    def recording(program):
        def call(group, *rest):
            donated.append(group)
            return program(group, *rest)

        return call

    for program in ("_steps", "_step", "_end_of_epoch"):
        monkeypatch.setattr(trainer, program, recording(getattr(trainer, program)))
    list(trainer.advance(stack_batches([order_SxB] * n_replicas), 0))
    evaluator = Evaluator(experiment, trainer.loader, trainer.layout)
    n_by_steps = len(donated)
    sums = evaluator.sums(trainer.weights(), [experiment.splits[0].val] * n_replicas)
    trainer.end_epoch(sums, 1)
    assert len(donated) == n_by_steps + len(trainer.layout.groups) > n_by_steps > 0
    for leaf in jax.tree.leaves(donated):
        assert leaf.is_deleted()
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(trainer._groups))


def test_steps_on_resident_examples_transfer_nothing(make_trainer, monkeypatch):
    _, trainer, order_SxB = make_trainer("resident")
    put, transfers = jax.device_put, []
    monkeypatch.setattr(jax, "device_put", lambda *args: transfers.append(args) or put(*args))
    counts = []
    for n_times in (1, 2):
        trainer._steps_per_call = n_steps = len(order_SxB) * n_times
        assert list(trainer.advance(np.tile(order_SxB, (1, n_times, 1)), 0)) == [n_steps]
        counts.append(len(transfers))
        transfers.clear()
    assert counts == [2, 2]  # the order, and the number of the first step
