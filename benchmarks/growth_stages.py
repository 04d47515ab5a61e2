"""What benchmarks/growth.py measures, a stage a process: build, load, epoch, evaluate.

The recordings are made: a second of noise at 1 kHz, one file a speaker, a hundred utterances each.
All else is what a run does, by the functions that launch.py calls.
"""

import argparse
import contextlib
import dataclasses
import importlib
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict

from benchmarks.turns import peak_mib

UTTERANCES_A_SPEAKER = 100
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
EXAMPLES_A_STAGE, MOST_EPOCHS = 300_000, 20  # of the epochs of which the median counts
STREAMED, IN_MEMORY = 0.0, 64.0  # input.memory_limit_gb


def config_of(limit_gb: float, epochs: int) -> ConfigDict:
    """The 2D CNN with eight channels a layer, on 26 frames × 8 MFCC."""
    config = importlib.import_module("configs.cnn2d").get_config()
    config.features.update(FEATURES)
    config.augmentation.views = ()
    config.split.name = "speaker_kfold"
    config.input.memory_limit_gb = limit_gb
    config.model.widths, config.model.dense = (8,) * 4, 16
    config.train.update(epochs=epochs, batch_size=64, stopping_patience=0)
    return config.lock()


def corpus_of(n_utterances: int, folder: Path):
    """Utterances sorted by id; every class and sentence in turn."""
    import numpy as np
    import soundfile

    from data_prep import corpora

    random = np.random.default_rng(0)
    n_speakers = max(10, n_utterances // UTTERANCES_A_SPEAKER)
    paths = [folder / f"{speaker:06d}.wav" for speaker in range(n_speakers)]
    for path in paths:
        waveform_S = random.uniform(-0.3, 0.3, FEATURES["sampling_rate"])
        soundfile.write(path, waveform_S, FEATURES["sampling_rate"])
    speakers = [path.stem for path in paths]
    utterances = tuple(
        corpora.Utterance(
            f"utterance_{number:09d}",
            paths[number % n_speakers],
            EMOTIONS[number // n_speakers % len(EMOTIONS)],
            speakers[number % n_speakers],
            {"sentence": f"{number % 12}"},
        )
        for number in range(n_utterances)
    )
    return corpora.Corpus("made", "Made", EMOTIONS, utterances)


@contextlib.contextmanager
def clock() -> Iterator[list[float]]:
    """Seconds, once the block is left."""
    seconds: list[float] = []
    begin = time.perf_counter()
    yield seconds
    seconds.append(time.perf_counter() - begin)


def build(options: argparse.Namespace) -> tuple[float, int]:
    from data_prep.augmentation import views
    from data_prep.records import build as records_build
    from data_prep.records.recipe import Recipe
    from ser_jax.features import FeatureSpec

    recordings = options.folder / "recordings"
    recordings.mkdir()
    corpus = corpus_of(options.utterances, recordings)
    recipe = Recipe(corpus, FeatureSpec(**FEATURES), views.Augmentation(views=()))
    with clock() as seconds:
        records_build.build(recipe, options.folder)
    return seconds[0], options.utterances


def load(options: argparse.Namespace, limit_gb: float) -> tuple[float, int]:
    from ser_jax.data import records as data_records
    from ser_jax.train.experiment import make_experiment

    with clock() as seconds:
        make_experiment(config_of(limit_gb, 1), data_records.open_records(records_of(options)))
    return seconds[0], options.utterances


def epochs_of(options: argparse.Namespace) -> int:
    return 1 + min(max(1, EXAMPLES_A_STAGE // options.utterances), MOST_EPOCHS)


def epoch(options: argparse.Namespace, limit_gb: float, workdir: str) -> tuple[float, int]:
    """The median epoch's training steps, without its validation."""
    from ser_jax.common import files
    from ser_jax.train import loop

    folder = options.folder / workdir
    loop.train(config_of(limit_gb, epochs_of(options)), records_of(options), folder)
    lines = (folder / "metrics.jsonl").read_text().splitlines()[1:]  # the first compiles
    n_train = len(files.read_json(folder / "split.json")["0"]["train"])
    rates = [json.loads(line)["examples_per_second"] for line in lines]
    return n_train / statistics.median(rates), n_train


def evaluate(options: argparse.Namespace) -> tuple[float, int]:
    """Opening and loading included."""
    from ser_jax.evaluate import test_set

    config = config_of(IN_MEMORY, epochs_of(options))
    with clock() as seconds:
        test_set.evaluate(config, records_of(options), options.folder / "in_memory")
    return seconds[0], options.utterances


STAGES = {
    "build": build,
    "load": lambda options: load(options, IN_MEMORY),
    "load, streamed": lambda options: load(options, STREAMED),
    "epoch": lambda options: epoch(options, IN_MEMORY, "in_memory"),
    "epoch, streamed": lambda options: epoch(options, STREAMED, "streamed"),
    "evaluate": evaluate,
}


def records_of(options: argparse.Namespace) -> Path:
    (folder,) = options.folder.glob("feature_records/*/1.0.0")
    return folder


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one stage: seconds for so many examples, and the process's peak of resident memory."""

    seconds: float
    n_examples: int
    peak_mib: float

    @property
    def us_an_example(self) -> float:
        return 1e6 * self.seconds / self.n_examples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stage", choices=STAGES, required=True)
    parser.add_argument("--utterances", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    answers, sys.stdout = sys.stdout, sys.stderr
    seconds, n_examples = STAGES[options.stage](options)
    print(json.dumps(dataclasses.asdict(Cost(seconds, n_examples, peak_mib()))), file=answers)


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    main()
