"""Preparation of feature records, compared with a process pool that calls librosa.

    python -m benchmarks.records
    python -m benchmarks.records --root=data/crema_d --corpus=crema_d --clips=400

The alternative is what one would write with librosa: a ProcessPoolExecutor over all cores, in which
a worker reads a clip once, adds noise with NumPy, shifts and stretches with librosa.effects,
computes the mel spectrogram once per view and from it the MFCC, then zero crossings and RMS, and
saves all as one .npz. Both run in turns, in processes of their own, imports included, and write to
temporary folders.
"""

import argparse
import concurrent.futures
import dataclasses
import functools
import multiprocessing
import os
import resource
import statistics
import tempfile
from pathlib import Path

from benchmarks import harness
from data_prep import workers
from ser_jax.pages.numbers import percent


def read_corpus(options: argparse.Namespace):
    from data_prep import corpora

    corpus = corpora.read(options.corpus, Path(options.root))
    # Evenly spaced: the first clips are those of a few speakers.
    step = max(1, len(corpus.utterances) // options.clips) if options.clips else 1
    utterances = corpus.utterances[::step][: options.clips or None]
    return dataclasses.replace(corpus, utterances=utterances)


def make_records(options: argparse.Namespace, folder: Path) -> None:
    from data_prep.augmentation.views import Augmentation
    from data_prep.records import build
    from data_prep.records.recipe import Recipe
    from ser_jax.features import FeatureSpec

    build.build(Recipe(read_corpus(options), FeatureSpec(), Augmentation()), folder)


def make_with_librosa(options: argparse.Namespace, folder: Path) -> None:
    from ser_jax.features import FeatureSpec

    paths = [u.path for u in read_corpus(options).utterances]
    make_clip = functools.partial(
        librosa_views, spec=dataclasses.asdict(FeatureSpec()), folder=folder
    )
    # As many workers as cores, so each gets one thread.
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers.n_processors(), context) as pool:
        list(pool.map(make_clip, paths, range(len(paths)), chunksize=16))


def librosa_views(path: Path, seed: int, spec: dict, folder: Path) -> None:
    """Write the features of one clip's four views to one file."""
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
        emphasised = librosa.effects.preemphasis(y, coef=spec["pre_emphasis"], zi=[0.0])
        mel = librosa.feature.melspectrogram(y=emphasised, **harness.mel_arguments(spec))
        planes[f"{view}/log_mel"] = log_mel = librosa.power_to_db(mel, top_db=spec["top_db"])
        planes[f"{view}/mfcc"] = librosa.feature.mfcc(S=log_mel, n_mfcc=spec["n_mfcc"])
        planes[f"{view}/zero"] = librosa.feature.zero_crossing_rate(y, **frames)
        planes[f"{view}/energy"] = librosa.feature.rms(y=y, **frames) ** 2
    np.savez(folder / f"{seed}.npz", **{name: x.astype(np.float32) for name, x in planes.items()})


MAKERS = {"records": make_records, "librosa": make_with_librosa}


def run_maker(options: argparse.Namespace) -> None:
    """Make the files in this process; print its peak memory and that of the largest worker."""
    with tempfile.TemporaryDirectory() as folder:
        MAKERS[options.maker](options, Path(folder))
    largest_worker = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(harness.peak_mib(), largest_worker)


def print_table(options: argparse.Namespace) -> None:
    n_cores = workers.n_processors()
    n_views = 4 * len(read_corpus(options).utterances)
    print(
        f"{n_views} clips × views of {options.corpus}, {n_cores} cores; medians of "
        f"{options.rounds} rounds (least–most).\n\n"
        "| made by | seconds | clips × views per second | of librosa's time | cores busy "
        "| CPU seconds | MiB, main + largest worker |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    )
    arguments = [f"--{name}={getattr(options, name)}" for name in ("root", "corpus", "clips")]
    command = functools.partial(harness.run, "benchmarks.records", *arguments)
    tasks = {maker: functools.partial(command, f"--maker={maker}") for maker in MAKERS}
    processes = harness.in_turns(tasks, options.rounds)
    librosa_wall = statistics.median(process.wall for process in processes["librosa"])
    for maker, runs in processes.items():
        walls = [process.wall for process in runs]
        wall, cpu = statistics.median(walls), statistics.median(process.cpu for process in runs)
        peaks = [map(float, process.lines[-1].split()) for process in runs]
        main, worker = map(max, zip(*peaks, strict=True))
        print(
            f"| {maker} | {harness.spread(walls, 1)} | {n_views / wall:.0f} | "
            f"{wall / librosa_wall:.2f} | {percent(cpu / wall / n_cores, '.0f')} | {cpu:.1f} | "
            f"{main:.0f} + {worker:.0f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", help="of a corpus; a synthetic one by default")
    parser.add_argument("--corpus", default="crema_d", help="the corpus in --root")
    parser.add_argument("--clips", type=int, default=0, help="how many to use; 0 uses all")
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
