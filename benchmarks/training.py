"""A training step here, in PyTorch and in Keras: the same network, data and scale, in turns.

    python -m benchmarks.training --backend=all --model=cnn2d --batch=32
    python -m benchmarks.training --backend=ser_jax,torch --model=all --batch=256 \\
        --precision=bfloat16 --examples=19792 --epoch

A round is some steps of each, or with --epoch all examples once; every library has them in memory
(on a GPU in its memory, but for Keras), in a new order each round, and one device. All are given
large pages, as launch.py asks for them; GLIBC_TUNABLES set to nothing takes them from all. The
share of the ceiling is that of the arithmetic which the network's definition asks for, whatever a
formulation saves, in what a large square matrix product reaches in this run.
"""

import argparse
import os
import statistics
import sys

from benchmarks import networks, turns
from ser_jax.common import runtime
from ser_jax.pages.numbers import percent

BACKENDS = ("ser_jax", "torch", "keras")


def serve(options: argparse.Namespace) -> None:
    """One contestant, in this process."""
    runtime.use_large_pages()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the others want memory too
    batch = int(options.batch)
    config = networks.configured(options.model, batch, options.precision)
    if options.serve == "ceiling":
        facts, work = ceiling(options.precision)
    elif options.serve == "ser_jax":
        from benchmarks import replicas

        facts, work = replicas.contestant(config, options.frames, options.examples)
    else:
        from importlib import import_module

        network = networks.network(config, options.frames)
        peer = import_module(f"benchmarks.peer_{options.serve}")
        facts, work = peer.make(network, batch, options.precision, options.examples)
    turns.serve(facts, work)


def ceiling(precision: str):
    """Products of two square matrices: what this device can do at all."""
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


def command(options: argparse.Namespace, model: str, batch: int, who: str) -> list[str]:
    kept = ("frames", "precision", "examples")
    return [
        *(sys.executable, "-m", "benchmarks.training", f"--serve={who}", f"--model={model}"),
        f"--batch={batch}",
        *(f"--{name}={getattr(options, name)}" for name in kept),
    ]


def flops_a_second(options: argparse.Namespace) -> tuple[float, str]:
    """Of the ceiling: its best round, and the device."""
    with turns.contestants({"": command(options, "cnn2d", 1, "ceiling")}) as found:
        seconds, facts = turns.measure(found, 10, 5)[""], found[""].facts
        return 10 * facts["flops"] / min(seconds), facts["device"]


def rows(options: argparse.Namespace, model: str, batch: int, peak: float) -> list[str]:
    """Table rows of a model and a size of batch."""
    config = networks.configured(model, batch, options.precision)
    flops = networks.network(config, options.frames).flops
    n_steps = -(-options.examples // batch) if options.epoch else options.steps
    names = BACKENDS if options.backend == "all" else options.backend.split(",")
    with turns.contestants({name: command(options, model, batch, name) for name in names}) as some:
        for fact in ("parameters", "device"):
            values = {name: one.facts[fact] for name, one in some.items()}
            if len(set(values.values())) > 1:
                sys.exit(f"error: the contestants differ in {fact}: {values}.")
        seconds = turns.measure(some, n_steps, options.rounds)
        a_step = {name: [s / n_steps for s in values] for name, values in seconds.items()}
        others = {n: statistics.median(v) for n, v in a_step.items() if n != "ser_jax"}
        found = []
        for name, values in a_step.items():
            middle = statistics.median(values)
            ratios = " | ".join(
                f"{middle / others[other]:.2f}" if other in others else "" for other in BACKENDS[1:]
            )
            found.append(
                f"| {model} | {batch} | {some[name].facts['library']} | "
                f"{turns.spread(values, 4 if middle < 0.1 else 3)} | "
                f"{batch / middle:.0f} | {ratios} | "
                f"{percent(flops * batch / middle / peak, '.0f')} | {some[name].first:.1f} |"
            )
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="all", help=f"some of {','.join(BACKENDS)}, or all")
    parser.add_argument("--model", default="all", help=f"{', '.join(networks.NAMES)}, or all")
    parser.add_argument("--batch", default="32", help="one size, or several: 32,64")
    parser.add_argument("--frames", type=int, default=157, help="CREMA-D's longest clip")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--examples", type=int, default=networks.N_EXAMPLES)
    parser.add_argument("--epoch", action="store_true", help="a round is all examples once")
    parser.add_argument("--steps", type=int, default=3, help="a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(options)
    peak, device = flops_a_second(options)
    print(
        f"{options.frames} frames, {options.precision}; a round is "
        f"{'an epoch' if options.epoch else f'{options.steps} steps'} of {options.examples} "
        f"examples; medians of {options.rounds} rounds (least–most); matrix products reach "
        f"{peak / 1e9:,.0f} GFLOP/s on one {device}.\n\n"
        "| model | batch | by | seconds a step | examples a second | of PyTorch's time "
        "| of Keras's | of the ceiling | first step, s |\n"
        "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    )
    for model in networks.NAMES if options.model == "all" else options.model.split(","):
        for batch in map(int, options.batch.split(",")):
            print("\n".join(rows(options, model, batch, peak)), flush=True)
    return None


if __name__ == "__main__":
    main()
