"""Time per example and peak memory of every stage, from 1,000 to 1,000,000 utterances.

    python -m benchmarks.growth --utterances=1000,10000,100000,1000000
    python -m benchmarks.growth --utterances=1000,10000 --figure=docs/images/growth.png

Each stage of each size runs in a process of its own, whose peak resident memory is reported. Build,
load and evaluate are timed as one call, compilation included, which dominates at a thousand
utterances. An epoch's time is the median over epochs of its training steps, with all examples in
memory or streamed from the records.

The recordings are synthetic: one file per speaker, a second of noise sampled at 1 kHz, which serves
a hundred utterances. Everything else is done by the functions that launch.py calls.
"""

import argparse
import dataclasses
import importlib
import json
import os
import statistics
import tempfile
from pathlib import Path

from ml_collections import ConfigDict

from benchmarks import harness
from data_prep import workers

UTTERANCES_PER_SPEAKER = 100
EMOTIONS = ("anger", "disgust", "fear", "happiness", "neutral", "sadness")
FEATURES = {
    "sampling_rate": 1000,
    "frame_length": 64,
    "hop_length": 40,
    "n_fft": 64,
    "n_mels": 16,
    "n_mfcc": 8,
    "planes": ("mfcc",),
}
MAX_EXAMPLES, MAX_EPOCHS = 300_000, 20  # over all epochs of which the median is taken
MEMORY_LIMIT_GB = {"in_memory": 64.0, "streamed": 0.0}

Costs = dict[int, dict[str, "Cost"]]  # by number of utterances, then stage


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one stage: seconds, the examples they are for, and the process's peak resident memory."""

    seconds: float
    n_examples: int
    peak_mib: float

    @property
    def us_per_example(self) -> float:
        return 1e6 * self.seconds / self.n_examples


def make_config(n_utterances: int, mode: str = "in_memory") -> ConfigDict:
    """Return the 2D CNN's config with eight channels per layer, on 26 frames × 8 MFCC."""
    config = importlib.import_module("configs.cnn2d").get_config()
    config.features.update(FEATURES)
    config.augmentation.views = ()
    config.split.name = "speaker_kfold"
    config.input.memory_limit_gb = MEMORY_LIMIT_GB[mode]
    config.model.widths, config.model.dense = (8,) * 4, 16
    epochs = 1 + min(max(1, MAX_EXAMPLES // n_utterances), MAX_EPOCHS)  # the first one compiles
    config.train.update(epochs=epochs, batch_size=64, stopping_patience=0)
    return config.lock()


def make_corpus(n_utterances: int, folder: Path):
    """Write the recordings and return the corpus, sorted by id, its classes and sentences mixed."""
    import numpy as np
    import soundfile

    from data_prep import corpora

    random = np.random.default_rng(0)
    n_speakers = max(10, n_utterances // UTTERANCES_PER_SPEAKER)
    paths = [folder / f"{speaker:06d}.wav" for speaker in range(n_speakers)]
    for path in paths:
        waveform_S = random.uniform(-0.3, 0.3, FEATURES["sampling_rate"])
        soundfile.write(path, waveform_S, FEATURES["sampling_rate"])
    utterances = tuple(
        corpora.Utterance(
            f"utterance_{number:09d}",
            paths[number % n_speakers],
            EMOTIONS[number // n_speakers % len(EMOTIONS)],
            paths[number % n_speakers].stem,
            {"sentence": f"{number % 12}"},
        )
        for number in range(n_utterances)
    )
    return corpora.Corpus("made", "Made", EMOTIONS, utterances)


def build(n_utterances: int, folder: Path) -> tuple[float, int]:
    from data_prep.augmentation.views import Augmentation
    from data_prep.records import build as records
    from data_prep.records.recipe import Recipe
    from ser_jax.features import FeatureSpec

    recordings = folder / "recordings"
    recordings.mkdir()
    corpus = make_corpus(n_utterances, recordings)
    recipe = Recipe(corpus, FeatureSpec(**FEATURES), Augmentation(views=()))
    return harness.seconds(records.build, recipe, folder), n_utterances


def load(n_utterances: int, folder: Path, mode: str = "in_memory") -> tuple[float, int]:
    from ser_jax.data.records import open_records
    from ser_jax.train.experiment import make_experiment

    def open_and_load() -> None:
        make_experiment(make_config(n_utterances, mode), open_records(records_folder(folder)))

    return harness.seconds(open_and_load), n_utterances


def epoch(n_utterances: int, folder: Path, mode: str = "in_memory") -> tuple[float, int]:
    """Measure the training steps of the median epoch, without its validation."""
    from ser_jax.common import files
    from ser_jax.train import loop

    workdir = folder / mode
    loop.train(make_config(n_utterances, mode), records_folder(folder), workdir)
    lines = (workdir / "metrics.jsonl").read_text().splitlines()[1:]  # the first epoch compiles
    n_train = len(files.read_json(workdir / "split.json")["0"]["train"])
    rates = [json.loads(line)["examples_per_second"] for line in lines]
    return n_train / statistics.median(rates), n_train


def evaluate(n_utterances: int, folder: Path) -> tuple[float, int]:
    """Measure an evaluation, loading included, of the run that `epoch` trained in memory."""
    from ser_jax.evaluate import test_set

    config, records = make_config(n_utterances), records_folder(folder)
    return harness.seconds(test_set.evaluate, config, records, folder / "in_memory"), n_utterances


# Each takes the number of utterances and the folder of all stages, and returns seconds and the
# number of examples.
STAGES = {
    "build": build,
    "load": load,
    "load, streamed": lambda *arguments: load(*arguments, "streamed"),
    "epoch": epoch,
    "epoch, streamed": lambda *arguments: epoch(*arguments, "streamed"),
    "evaluate": evaluate,
}


def records_folder(folder: Path) -> Path:
    [records] = folder.glob("feature_records/*/1.0.0")
    return records


def measure_stage(stage: str, n_utterances: int, folder: Path) -> Cost:
    """Run a stage in a process of its own."""
    options = f"--stage={stage}", f"--utterances={n_utterances}", f"--folder={folder}"
    return Cost(**json.loads(harness.run("benchmarks.growth", *options).lines[-1]))


def measure(sizes: tuple[int, ...]) -> Costs:
    """Measure all stages of all sizes; print each table row when it is known."""
    costs: Costs = {n_utterances: {} for n_utterances in sizes}
    for n_utterances in sizes:
        with tempfile.TemporaryDirectory() as folder:
            for stage in STAGES:
                cost = measure_stage(stage, n_utterances, Path(folder))
                costs[n_utterances][stage] = cost
                print(
                    f"| {n_utterances:,} | {stage} | {cost.seconds:.3g} | "
                    f"{cost.us_per_example:.0f} | {cost.peak_mib:.0f} |",
                    flush=True,
                )
    return costs


def verdict(costs: Costs) -> str:
    """Compare streaming with memory, and the largest size with the one before it."""
    lines = []
    for n_utterances, stages in costs.items():
        ratio = stages["epoch, streamed"].seconds / stages["epoch"].seconds
        lines.append(
            f"{n_utterances:,} utterances: a streamed epoch takes {ratio:.2f} times as long as in "
            "memory."
        )
    if len(costs) > 1:
        before, last = sorted(costs)[-2:]
        for stage in STAGES:
            smaller, larger = costs[before][stage], costs[last][stage]
            ratio = larger.us_per_example / smaller.us_per_example
            n_bytes = 2**20 * (larger.peak_mib - smaller.peak_mib) / (last - before)
            lines.append(
                f"{stage}: from {before:,} to {last:,} utterances, time per example × {ratio:.2f}; "
                f"each additional utterance adds {n_bytes:,.0f} bytes to the peak."
            )
    return "\n".join(lines)


def draw(costs: Costs, path: Path) -> None:
    """Plot time per example and peak memory against the number of utterances, on log axes."""
    import matplotlib

    from ser_jax.pages import figure

    sizes = sorted(costs)
    with matplotlib.rc_context(figure.STYLE):
        sheet = figure.new_figure(9, 3.6, layout="constrained")
        left, right = sheet.subplots(1, 2)
        for axes, title, field in (
            (left, "µs per example", "us_per_example"),
            (right, "peak memory, MiB", "peak_mib"),
        ):
            for stage, marker in zip(STAGES, "o^sDvP", strict=True):
                values = [getattr(costs[n][stage], field) for n in sizes]
                axes.plot(sizes, values, marker=marker, label=stage)
            axes.set(xscale="log", yscale="log", xlabel="utterances", title=title)
            axes.set_xticks(sizes)  # the style draws no formulas such as powers of ten
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter("{x:,.0f}")
                axis.set_minor_formatter("")
            axes.tick_params(axis="x", rotation=20)
        sheet.legend(*right.get_legend_handles_labels(), loc="outside right", frameon=False)
        figure.save(sheet, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--utterances", type=harness.integers, default="1000,10000,100000,1000000")
    parser.add_argument("--figure", type=Path, help="a PNG to draw")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        time_and_examples = STAGES[options.stage](*options.utterances, options.folder)
        print(json.dumps(dataclasses.asdict(Cost(*time_and_examples, harness.peak_mib()))))
        return
    print(
        f"26 frames × 8 MFCC, {workers.n_processors()} cores.\n\n"
        "| utterances | stage | seconds | µs per example | peak memory, MiB |\n"
        "| ---: | --- | ---: | ---: | ---: |"
    )
    costs = measure(options.utterances)
    print(f"\n{verdict(costs)}")
    if options.figure:
        draw(costs, options.figure)


if __name__ == "__main__":
    main()
