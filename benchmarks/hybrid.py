"""The small networks of configs/crnn.py, compared with the same in PyTorch: a step, a prediction.

    python -m benchmarks.hybrid
    python -m benchmarks.hybrid --sequence=gru --batch=64 --frames=301 --rounds=5

A step is forward and backward with Adam and L2, without augmentation, on random complete clips of
64 log-mel bands that lie in memory; a prediction is the forward pass of one such clip. Contestants
are processes of their own and take turns, each with all cores.
"""

import argparse
import statistics

from ml_collections import ConfigDict

from benchmarks import harness, networks
from ser_jax.common import runtime
from ser_jax.models.crnn import SEQUENCES

VARIANT = {"gru": "", "transformer": "transformer", "none": "conv"}
LIBRARIES = ("ser_jax", "torch")


def serve(options: argparse.Namespace) -> None:
    """Be the contestant --serve, in this process."""
    runtime.use_large_pages()
    [sequence] = options.sequence
    config = networks.make_config("crnn", options.batch, variant=VARIANT[sequence])
    work = predict if options.forward else train
    harness.serve(*work(config, options.serve, options.frames))


def train(config: ConfigDict, library: str, frames: int) -> harness.Contest:
    """Return facts about a contestant, and a function that trains for some steps and waits."""
    if library == "torch":
        from benchmarks import peer_torch_hybrid

        return peer_torch_hybrid.train(config, frames)
    from benchmarks import replicas

    return replicas.contestant(config, frames, networks.N_EXAMPLES, portable=False)


def predict(config: ConfigDict, library: str, frames: int) -> harness.Contest:
    """Return the same, of a function that predicts one clip again and again."""
    if library == "torch":
        from benchmarks import peer_torch_hybrid

        return peer_torch_hybrid.predict(config, frames)
    import jax
    import numpy as np

    from ser_jax.models import registry

    model = registry.from_config(config, networks.N_CLASSES)
    x_1xTxF = np.zeros((1, frames, networks.n_columns(config)), np.float32)
    variables = jax.jit(lambda: model.init(jax.random.key(0), x_1xTxF, train=False))()
    logits = jax.jit(lambda x: model.apply(variables, x, train=False))

    def run(n: int) -> None:
        for _ in range(n):
            logits(x_1xTxF).block_until_ready()

    facts = {
        "library": f"ser_jax, JAX {jax.__version__}",
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(variables["params"])),
    }
    return facts, run


def print_row(options: argparse.Namespace, sequence: str, forward: bool) -> None:
    """Measure one network and print a row per library."""
    arguments = [f"--sequence={sequence}", f"--batch={options.batch}", f"--frames={options.frames}"]
    commands = {
        name: ["benchmarks.hybrid", f"--serve={name}", *arguments, *["--forward"] * forward]
        for name in LIBRARIES
    }
    amount = 20 if forward else options.steps
    contestants = harness.compete(commands, amount, options.rounds, ("parameters",))
    median = {name: statistics.median(c.seconds) / amount for name, c in contestants.items()}
    for name, contestant in contestants.items():
        milliseconds = [1000 * seconds / amount for seconds in contestant.seconds]
        print(
            f"| {sequence} | {'prediction' if forward else 'step'} | {contestant.facts['library']} "
            f"| {harness.spread(milliseconds, 1)} | {median[name] / median['torch']:.2f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sequence", default=",".join(SEQUENCES), help="some of the default")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--frames", type=int, default=301, help="three seconds")
    parser.add_argument("--steps", type=int, default=3, help="per round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", choices=LIBRARIES, help=argparse.SUPPRESS)
    parser.add_argument("--forward", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.sequence = options.sequence.split(",")
    if unknown := set(options.sequence) - set(SEQUENCES):
        parser.error(f"--sequence={unknown.pop()} is unknown; use some of {', '.join(SEQUENCES)}")
    if options.serve:
        return serve(options)
    print(
        f"{options.frames} frames; steps of {options.batch} clips, predictions of one; medians of "
        f"{options.rounds} rounds (least–most).\n\n"
        "| sequence | what | by | ms | of PyTorch's time |\n| --- | --- | --- | ---: | ---: |"
    )
    for sequence in options.sequence:
        for forward in (False, True):
            print_row(options, sequence, forward)
    return None


if __name__ == "__main__":
    main()
