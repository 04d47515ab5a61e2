"""A training step by ser_jax.convolution, beside the same step by the library's convolutions.

    python -m benchmarks.convolution
    python -m benchmarks.convolution --models=cnn2d --batch=64

Made examples of the shape of CREMA-D's MFCC, the report's widths; rounds are taken in turns. On an
accelerator the two are the same program.
"""

import argparse
import statistics
import time

import jax

from benchmarks import replicas
from benchmarks.turns import spread

WAYS = {"the library's": {"portable": True}, "ours": {}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="cnn2d,cnn1d,paper")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--frames", type=int, default=157)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(
        f"Batch {options.batch}, {options.frames} × {replicas.N_COLUMNS} MFCC, float32, jax "
        f"{jax.__version__}, {jax.device_count()} × {jax.devices()[0].device_kind}; medians of "
        f"{options.rounds} rounds (least–most).\n\n"
        "| model | convolutions | seconds a step | as a multiple of the library's | first step |\n"
        "| --- | --- | ---: | ---: | ---: |"
    )
    for name in options.models.split(","):
        config = replicas.configured(name, (), options.batch)
        runs = {
            way: replicas.make(config, 1, "device", options.frames, **fields)[0]
            for way, fields in WAYS.items()
        }
        seconds: dict[str, list[float]] = {way: [] for way in runs}
        for _ in range(options.rounds + 1):
            for way, run in runs.items():
                begin = time.perf_counter()
                run(1)
                seconds[way].append(time.perf_counter() - begin)
        library = statistics.median(seconds["the library's"][1:])
        for way, (first, *values) in seconds.items():
            middle = statistics.median(values)
            print(
                f"| {name} | {way} | {spread(values)} | {middle / library:.2f} | {first:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
