"""Preparation of feature records, beside a process pool that calls librosa for the same views.

    python -m benchmarks.records
    python -m benchmarks.records --root=data/crema_d --corpus=crema_d --clips=400

The alternative is what one would write with librosa: a ProcessPoolExecutor over all cores; a worker
reads a clip once with librosa.load, adds noise with NumPy, shifts and stretches with
librosa.effects, computes mel once a view and from it MFCC, then zero crossings and RMS, and saves
all as one .npz. Each runs in a process of its own, imports included, in turns; the files of the
records and of the alternative are left in a temporary folder that is removed.
"""

import argparse
import concurrent.futures
import dataclasses
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.turns import peak_mib, spread
from data_prep import workers
from ser_jax.pages.numbers import percent

MAKERS = ("records", "librosa")


def corpus_of(options: argparse.Namespace):
    from data_prep import corpora

    corpus = corpora.read(options.corpus, Path(options.root))
    # Evenly through the corpus: the first clips are those of a few voices.
    step = max(1, len(corpus.utterances) // options.clips) if options.clips else 1
    some = corpus.utterances[::step][: options.clips or None]
    return dataclasses.replace(corpus, utterances=some)


def make_records(options: argparse.Namespace, folder: Path) -> None:
    from data_prep.augmentation.views import Augmentation
    from data_prep.records import build
    from data_prep.records.recipe import Recipe
    from ser_jax.features import FeatureSpec

    recipe = Recipe(corpus_of(options), FeatureSpec(), Augmentation())
    build.build(recipe, folder)


def make_with_librosa(options: argparse.Namespace, folder: Path) -> None:
    from ser_jax.features import FeatureSpec

    spec = dataclasses.asdict(FeatureSpec())
    paths = [u.path for u in corpus_of(options).utterances]
    n_clips = len(paths)
    context = multiprocessing.get_context("spawn")
    n_processes = workers.n_processors()
    with concurrent.futures.ProcessPoolExecutor(n_processes, context) as pool:
        arguments = paths, range(n_clips), [spec] * n_clips, [folder] * n_clips
        for _ in pool.map(with_librosa, *arguments, chunksize=16):
            pass


def with_librosa(path: Path, seed: int, spec: dict, folder: Path) -> None:
    """One clip's four views and their features, as one file."""
    import librosa
    import numpy as np

    rate = spec["sampling_rate"]
    x, _ = librosa.load(path, sr=rate)
    random = np.random.default_rng(seed)
    noise = random.standard_normal(len(x), np.float32)
    noise *= np.sqrt(np.mean(x**2) / 10 ** (random.uniform(10, 30) / 10))
    views = {
        "original": x,
        "noise": x + noise,
        "pitch": librosa.effects.pitch_shift(x, sr=rate, n_steps=random.uniform(-2, 2)),
        "stretch": librosa.effects.time_stretch(x, rate=random.uniform(0.85, 1.15)),
    }
    planes = {}
    frames = {"frame_length": spec["frame_length"], "hop_length": spec["hop_length"]}
    for view, y in views.items():
        mel = librosa.feature.melspectrogram(
            y=librosa.effects.preemphasis(y, coef=spec["pre_emphasis"], zi=[0.0]),
            sr=rate,
            n_fft=spec["n_fft"],
            hop_length=spec["hop_length"],
            win_length=spec["frame_length"],
            window=spec["window"],
            n_mels=spec["n_mels"],
        )
        planes[f"{view}/log_mel"] = log_mel = librosa.power_to_db(mel, top_db=spec["top_db"])
        planes[f"{view}/mfcc"] = librosa.feature.mfcc(S=log_mel, n_mfcc=spec["n_mfcc"])
        planes[f"{view}/zero"] = librosa.feature.zero_crossing_rate(y, **frames)
        planes[f"{view}/energy"] = librosa.feature.rms(y=y, **frames) ** 2
    np.savez(folder / f"{seed}.npz", **{name: x.astype(np.float32) for name, x in planes.items()})


@dataclasses.dataclass
class Cost:
    """Of one process and its children: wall and CPU seconds, peaks of resident memory in MiB."""

    wall: float
    cpu: float
    main: float
    child: float


def cost_of(maker: str, options: argparse.Namespace) -> Cost:
    """Runs a maker in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.records", f"--maker={maker}"]
    for name in ("root", "corpus", "clips"):
        command.append(f"--{name}={getattr(options, name)}")
    # One thread a worker of the alternative: its workers are as many as there are cores.
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} if maker == "librosa" else {}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    done = subprocess.run(  # noqa: S603 — our own program
        command, text=True, check=True, stdout=subprocess.PIPE, env={**os.environ, **threads}
    )
    wall = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    main, child = map(float, done.stdout.split()[-2:])
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(wall, cpu, main, child)


def run_maker(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        make = {"records": make_records, "librosa": make_with_librosa}[options.maker]
        make(options, Path(folder))
    print(peak_mib(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)


def print_table(options: argparse.Namespace) -> None:
    n_cores = workers.n_processors()
    n_views = 4 * len(corpus_of(options).utterances)
    print(
        f"{n_views} clips × views of {options.corpus}, {n_cores} cores; medians of "
        f"{options.rounds} rounds (least–most).\n\n"
        "| made by | seconds | clips × views a second | of librosa's time | cores busy "
        "| CPU seconds | MiB, main + largest worker |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    )
    costs: dict[str, list[Cost]] = {maker: [] for maker in MAKERS}
    for _ in range(options.rounds):
        for maker in MAKERS:
            costs[maker].append(cost_of(maker, options))
    theirs = statistics.median(cost.wall for cost in costs["librosa"])
    for maker, some in costs.items():
        walls = [cost.wall for cost in some]
        wall, cpu = statistics.median(walls), statistics.median(cost.cpu for cost in some)
        main, child = (max(getattr(cost, name) for cost in some) for name in ("main", "child"))
        print(
            f"| {maker} | {spread(walls, 1)} | {n_views / wall:.0f} | "
            f"{wall / theirs:.2f} | {percent(cpu / wall / n_cores, '.0f')} | {cpu:.1f} | "
            f"{main:.0f} + {child:.0f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", default="", help="of a corpus; made voices if empty")
    parser.add_argument("--corpus", default="crema_d", help="which corpus --root holds")
    parser.add_argument("--clips", type=int, default=0, help="take so many; 0 is all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--maker", choices=MAKERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.maker:
        run_maker(options)
    elif options.root:
        print_table(options)
    else:
        from data_prep.synthetic.corpus import write_corpus

        with tempfile.TemporaryDirectory() as folder:
            options.root, options.corpus = str(Path(folder) / "synthetic"), "synthetic"
            write_corpus(Path(options.root), n_speakers=10, n_sentences=6, seed=0)
            print_table(options)


if __name__ == "__main__":
    main()
