"""Replicas trained together, compared with the same replicas trained one after another.

    python -m benchmarks.replicas
    python -m benchmarks.replicas --model=cnn1d --widths=64,64,32 --replicas=1,2,4,8

Random examples of the shape of CREMA-D's MFCC with librosa's frames; every strategy of
ser_jax/parallel/mesh.py on the available devices. The alternative is one replica alone, times R,
measured in the same run, in turns.
"""

import argparse
import functools
import statistics

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks import harness, networks
from ser_jax import features
from ser_jax.data.loader import ResidentExamples, take
from ser_jax.models import registry
from ser_jax.parallel import mesh, placement, programs
from ser_jax.train.optimizer import make_optimizer, make_plateau
from ser_jax.train.state import Normalisation, TrainState, create_state, make_hyper
from ser_jax.train.step import make_train_step, skip_if_idle

N_FRAMES = 94


def make(
    config: ConfigDict,
    n_replicas: int,
    strategy: str,
    n_frames: int = N_FRAMES,
    n_examples: int = networks.N_EXAMPLES,
    portable: bool = False,
) -> tuple[harness.Work, list[TrainState]]:
    """Return a function that trains all replicas for some steps and waits, and their states.

    `strategy` is one of mesh.STRATEGIES; `portable` takes lax's convolutions.
    """
    config.replicas.strategy = strategy
    layout = mesh.make_layout(config, n_replicas)
    width = networks.n_columns(config)
    random = np.random.default_rng(0)
    resident = ResidentExamples(
        random.standard_normal((n_examples, n_frames, width), np.float32),
        np.full(n_examples, n_frames, np.int32),
        random.integers(0, networks.N_CLASSES, n_examples, np.int32),
        np.arange(n_examples, dtype=np.int32),
    )
    resident = jax.device_put(resident, layout.replicated)
    model = registry.from_config(config, networks.N_CLASSES).clone(portable=portable)
    optimizer = make_optimizer(config.optimizer.name)
    state = create_state(
        model,
        optimizer,
        make_plateau(config.optimizer),
        features.model_input(np.zeros((1, n_frames, width), np.float32), config.input.kind),
        seed=0,
        hyper=make_hyper(
            learning_rate=networks.LEARNING_RATE,
            min_learning_rate=0.0,
            l2=networks.L2,
            dropout=networks.DROPOUT,
            label_smoothing=0.0,
            class_weight_C=np.ones(networks.N_CLASSES),
        ),
        normalisation=Normalisation(np.zeros(width, np.float32), np.ones(width, np.float32)),
    )
    step = make_train_step(model, optimizer, config.input.kind)
    if n_replicas > 1:
        step = skip_if_idle(step)
    steps = programs.compile_steps(step, take, layout)
    groups = placement.place([state] * n_replicas, layout)
    batch = config.train.batch_size
    n_batches = -(-n_examples // batch)  # the same shape of order for any number of steps

    def run(n_steps: int) -> None:
        for first in range(0, n_steps, n_batches):
            orders = [random.permutation(n_examples) for _ in range(layout.at_once)]
            order_GxSxB = np.stack([np.resize(order, (n_batches, batch)) for order in orders])
            order_GxSxB = jax.device_put(order_GxSxB.astype(np.int32), layout.order_sharding)
            n = min(n_batches, n_steps - first)
            groups[:] = [steps(group, resident, order_GxSxB, 0, n) for group in groups]
        jax.block_until_ready(groups)

    return run, groups


def contestant(
    config: ConfigDict, n_frames: int, n_examples: int, portable: bool
) -> tuple[harness.Facts, harness.Work]:
    """Return facts about one replica on one device, and a function that trains for some steps."""
    config.devices.replica = config.devices.data = 1
    run, groups = make(config, 1, "device", n_frames, n_examples, portable)
    return {
        "library": f"ser_jax{', lax convolutions' * portable}, JAX {jax.__version__}",
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(groups[0].params)),
        "device": jax.default_backend(),
    }, run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="cnn2d", choices=networks.NAMES)
    parser.add_argument("--widths", type=harness.integers, help="of the convolutions")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--replicas", type=harness.integers, default="1,2,4,8")
    parser.add_argument("--strategies", default=",".join(mesh.STRATEGIES))
    parser.add_argument("--steps", type=int, default=4, help="per round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    config = networks.make_config(options.model, options.batch)
    if options.widths:
        config.model.widths = options.widths
    print(
        f"{options.model}, widths {tuple(config.model.widths)}, batch {options.batch}, "
        f"{N_FRAMES} frames, jax {jax.__version__}, {jax.device_count()} × "
        f"{jax.devices()[0].device_kind}; medians of {options.rounds} rounds (least–most).\n\n"
        "| replicas | strategy | seconds per step of all | relative to one after another |\n"
        "| ---: | --- | ---: | ---: |"
    )
    for n_replicas in options.replicas:
        trainings = {name: (n_replicas, name) for name in options.strategies.split(",")}
        tasks = {
            name: functools.partial(harness.seconds, make(config, *arguments)[0], options.steps)
            for name, arguments in {"alone": (1, "device"), **trainings}.items()
        }
        seconds = {
            name: [s / options.steps for s in values[1:]]  # the first round compiles
            for name, values in harness.in_turns(tasks, 1 + options.rounds).items()
        }
        alone = n_replicas * statistics.median(seconds.pop("alone"))
        for name, values in seconds.items():
            print(
                f"| {n_replicas} | {name} | {harness.spread(values)} "
                f"| {statistics.median(values) / alone:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
