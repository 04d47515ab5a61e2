"""What replicas cost trained together, beside the same replicas trained one after another.

    python -m benchmarks.replicas
    python -m benchmarks.replicas --model=cnn1d --widths=64,64,32 --replicas=1,2,4,8

Made examples of the shape of CREMA-D's MFCC with librosa's frames; every strategy of
ser_jax/parallel/mesh.py on the devices there are. The alternative is R times one replica alone, measured
in the same run; rounds are taken in turns.
"""

import argparse
import importlib
import statistics
import time

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.networks import DROPOUT, L2, LEARNING_RATE, N_CLASSES, N_EXAMPLES
from benchmarks.turns import spread
from ser_jax import features
from ser_jax.data.loader import ResidentExamples, take
from ser_jax.models import registry
from ser_jax.parallel import mesh, placement, programs
from ser_jax.train.optimizer import make_optimizer, make_plateau
from ser_jax.train.state import Normalisation, create_state, make_hyper
from ser_jax.train.step import make_train_step, skip_if_idle

N_FRAMES, N_COLUMNS = 94, 20
WIDTH = {"vector": N_COLUMNS + 2}  # zero crossings and energy beside the MFCC


def configured(model: str, widths: tuple[int, ...], batch: int) -> ConfigDict:
    config = importlib.import_module(f"configs.{model}").get_config("librosa")
    if widths:
        config.model.widths = widths
    config.train.batch_size = batch
    return config


def make(
    config: ConfigDict,
    n_replicas: int,
    strategy: str,
    n_frames: int = N_FRAMES,
    n_examples: int = N_EXAMPLES,
    **model_fields,
):
    """A function that trains some steps of all replicas and waits for them; and their states."""
    config.replicas.strategy = strategy
    layout = mesh.make_layout(config, n_replicas)
    width = WIDTH.get(config.input.kind, N_COLUMNS)
    random = np.random.default_rng(0)
    resident = ResidentExamples(
        random.standard_normal((n_examples, n_frames, width), np.float32),
        np.full(n_examples, n_frames, np.int32),
        random.integers(0, N_CLASSES, n_examples, np.int32),
    )
    resident = jax.device_put(resident, layout.replicated)
    fields = {k: v for k, v in config.model.items() if k != "name"}
    model = registry.build(
        config.model.name, N_CLASSES, fields, dtype=config.train.compute_dtype
    ).clone(**model_fields)
    state = create_state(
        model,
        make_optimizer(config.optimizer.name),
        make_plateau(config.optimizer),
        features.model_input(np.zeros((1, n_frames, width), np.float32), config.input.kind),
        seed=0,
        hyper=make_hyper(
            learning_rate=LEARNING_RATE,
            min_learning_rate=0.0,
            l2=L2,
            dropout=DROPOUT,
            label_smoothing=0.0,
            class_weight_C=np.ones(N_CLASSES),
        ),
        normalisation=Normalisation(np.zeros(width, np.float32), np.ones(width, np.float32)),
    )
    step = make_train_step(model, make_optimizer(config.optimizer.name), config.input.kind)
    if n_replicas > 1:
        step = skip_if_idle(step)
    steps = programs.compile_steps(step, take, layout)
    groups = placement.place([state] * n_replicas, layout)
    batch = config.train.batch_size
    shape = (layout.at_once, -(-n_examples // batch), batch)  # one for all amounts of work

    def run(n_steps: int) -> None:
        for first in range(0, n_steps, shape[1]):
            drawn = [random.permutation(n_examples) for _ in range(shape[0])]
            order = np.stack([np.resize(order_N, shape[1:]) for order_N in drawn])
            order = jax.device_put(order.astype(np.int32), layout.order_sharding)
            for i, group in enumerate(groups):
                groups[i] = steps(group, resident, order, 0, min(shape[1], n_steps - first))
        jax.block_until_ready(groups)

    return run, groups


def contestant(config: ConfigDict, n_frames: int, n_examples: int, **model_fields):
    """One replica on one device, as benchmarks.turns has it: what it is, and some steps of it."""
    config.devices.replica = config.devices.data = 1
    run, groups = make(config, 1, "device", n_frames, n_examples, **model_fields)
    return {
        "library": f"ser_jax, JAX {jax.__version__}",
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(groups[0].params)),
        "device": jax.default_backend(),
    }, run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="cnn2d", choices=("cnn1d", "cnn2d", "paper"))
    parser.add_argument("--widths", default="", help="of the convolutions; the config's if empty")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--replicas", default="1,2,4,8")
    parser.add_argument("--strategies", default=",".join(mesh.STRATEGIES))
    parser.add_argument("--steps", type=int, default=4, help="a round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    widths = tuple(int(width) for width in options.widths.split(",") if width)
    config = configured(options.model, widths, options.batch)
    print(
        f"{options.model}, widths {tuple(config.model.widths)}, batch {options.batch}, "
        f"{N_FRAMES} frames, jax {jax.__version__}, {jax.device_count()} × "
        f"{jax.devices()[0].device_kind}; medians of {options.rounds} rounds (least–most).\n\n"
        "| replicas | strategy | seconds a step of all | as a multiple of one after another |\n"
        "| ---: | --- | ---: | ---: |"
    )
    for n_replicas in map(int, options.replicas.split(",")):
        runs = {"alone": make(config, 1, "device")[0]} | {
            strategy: make(config, n_replicas, strategy)[0]
            for strategy in options.strategies.split(",")
        }
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for round_number in range(options.rounds + 1):
            for name, run in runs.items():
                begin = time.perf_counter()
                run(options.steps)
                if round_number:  # the first compiles
                    seconds[name].append((time.perf_counter() - begin) / options.steps)
        alone = n_replicas * statistics.median(seconds.pop("alone"))
        for name, values in seconds.items():
            middle = statistics.median(values)
            print(
                f"| {n_replicas} | {name} | {spread(values)} | {middle / alone:.2f} |", flush=True
            )


if __name__ == "__main__":
    main()
