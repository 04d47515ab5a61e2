"""A training step in ser_jax, PyTorch and Keras, with the same network and size of data.

    python -m benchmarks.training --backend=all --model=cnn2d --batch=32
    python -m benchmarks.training --backend=ser_jax,torch --model=all --batch=256 \\
        --precision=bfloat16 --examples=19792 --epoch
    python -m benchmarks.training --backend=ser_jax,lax --steps=1

The backend lax is ser_jax with lax's convolutions in place of ser_jax/models/convolution.py; on an
accelerator the two are the same program. Backends take turns; a round is a number of steps, or with
--epoch all examples once, in a new order each round. Each uses one device and holds all examples in
its memory (Keras in the host's), with large pages as in launch.py unless GLIBC_TUNABLES is set.
"Of the ceiling" is the rate of the arithmetic in the network's definition, whatever a backend saves
of it, relative to that of a large square matrix product in the same run.
"""

import argparse
import importlib
import os
import statistics

from benchmarks import harness, networks
from ser_jax.common import runtime
from ser_jax.pages.numbers import percent

BACKENDS = ("ser_jax", "torch", "keras")  # --backend=all
RATIOS = {"lax": "of lax's time", "torch": "of PyTorch's time", "keras": "of Keras's"}  # columns
FORWARDED = ("frames", "precision", "examples")  # options of every contestant


def serve(options: argparse.Namespace) -> None:
    """Be the contestant --serve, in this process."""
    runtime.use_large_pages()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the others need memory, too
    [batch] = options.batch
    config = networks.make_config(options.model, batch, options.precision)
    if options.serve == "ceiling":
        facts, work = ceiling(options.precision)
    elif options.serve in ("ser_jax", "lax"):
        from benchmarks import replicas

        lax = options.serve == "lax"
        facts, work = replicas.contestant(config, options.frames, options.examples, portable=lax)
    else:
        network = networks.make_network(config, options.frames)
        peer = importlib.import_module(f"benchmarks.peer_{options.serve}")
        facts, work = peer.make(network, batch, options.precision, options.examples)
    harness.serve(facts, work)


def ceiling(precision: str) -> tuple[harness.Facts, harness.Work]:
    """Return facts about a product of two square matrices, and a function that computes some."""
    import jax
    import jax.numpy as jnp

    side = 2048 if jax.default_backend() == "cpu" else 8192
    x = jnp.ones((side, side), precision)
    product = jax.jit(lambda x: x @ x)

    def work(n: int) -> None:
        y = x
        for _ in range(n):
            y = product(y)
        y.block_until_ready()

    return {"flops": 2 * side**3, "device": jax.devices()[0].device_kind}, work


def command(options: argparse.Namespace, name: str, model: str, batch: int) -> list[str]:
    """Return the arguments of `python -m` that start a contestant."""
    return [
        *("benchmarks.training", f"--serve={name}", f"--model={model}", f"--batch={batch}"),
        *(f"--{key}={getattr(options, key)}" for key in FORWARDED),
    ]


def peak_flops(options: argparse.Namespace) -> tuple[float, str]:
    """Return the ceiling's rate in its best round, per second, and the device."""
    commands = {"ceiling": command(options, "ceiling", "cnn2d", 1)}
    [contestant] = harness.compete(commands, 10, 5).values()
    return 10 * contestant.facts["flops"] / min(contestant.seconds), contestant.facts["device"]


def print_rows(options: argparse.Namespace, model: str, batch: int, peak: float) -> None:
    """Measure one model at one batch size and print a table row per backend."""
    config = networks.make_config(model, batch, options.precision)
    flops = networks.make_network(config, options.frames).flops
    n_steps = -(-options.examples // batch) if options.epoch else options.steps
    commands = {name: command(options, name, model, batch) for name in options.backend}
    contestants = harness.compete(commands, n_steps, options.rounds, ("parameters", "device"))
    seconds = {name: [s / n_steps for s in c.seconds] for name, c in contestants.items()}
    median = {name: statistics.median(values) for name, values in seconds.items()}
    for name, contestant in contestants.items():
        step = median[name]
        cells = [
            *(model, batch, contestant.facts["library"]),
            *(harness.spread(seconds[name], 4 if step < 0.1 else 3), f"{batch / step:.0f}"),
            *(f"{step / median[other]:.2f}" for other in RATIOS if other in median),
            *(percent(flops * batch / step / peak, ".0f"), f"{contestant.first:.1f}"),
        ]
        print(f"| {' | '.join(map(str, cells))} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="all", help=f"of {','.join(BACKENDS)},lax, or all")
    parser.add_argument("--model", default="all", help=f"of {','.join(networks.NAMES)}, or all")
    parser.add_argument("--batch", type=harness.integers, default="32", help="such as 32,64")
    parser.add_argument("--frames", type=int, default=157, help="CREMA-D's longest clip")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--examples", type=int, default=networks.N_EXAMPLES)
    parser.add_argument("--epoch", action="store_true", help="a round is all examples once")
    parser.add_argument("--steps", type=int, default=3, help="per round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(options)
    options.backend = BACKENDS if options.backend == "all" else options.backend.split(",")
    peak, device = peak_flops(options)
    ratios = [title for name, title in RATIOS.items() if name in options.backend]
    print(
        f"{options.frames} frames, {options.precision}; a round is "
        f"{'an epoch' if options.epoch else f'{options.steps} steps'} of {options.examples} "
        f"examples; medians of {options.rounds} rounds (least–most); matrix products reach "
        f"{peak / 1e9:,.0f} GFLOP/s on one {device}.\n\n"
        f"| model | batch | by | seconds per step | {' | '.join(['examples per second', *ratios])} "
        "| of the ceiling | first step, s |\n"
        f"| --- | ---: | --- |{' ---: |' * (4 + len(ratios))}"
    )
    for model in networks.NAMES if options.model == "all" else options.model.split(","):
        for batch in options.batch:
            print_rows(options, model, batch, peak)
    return None


if __name__ == "__main__":
    main()
