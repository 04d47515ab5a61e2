"""Embedding by a Whisper encoder, compared with transformers and PyTorch on the same weights.

    python -m benchmarks.encoders
    python -m benchmarks.encoders --encoder=data/encoders/whisper-base --root=data/crema_d \
        --workdir=runs/whisper-tfds --clips=96

By default the weights are random, of whisper-base's size, and the corpus is synthetic. Measured are

* embedding in memory, in turns, each in a process of its own: by ser_jax as preparation does it,
  and by transformers' WhisperEncoder in batches, both with as many threads as there are cores and a
  context of 3 s;
* the difference between the hidden states of the two, with Whisper's own context of 30 s;
* a build of records, with its peak memory;
* prediction, in turns, imports included: ser_jax.predict, and the plain loop of a user, soundfile
  and the same PyTorch encoder, one file at a time. Both save the embeddings, whose first hidden
  state is compared: the others also see that PyTorch's input ends at 3 s, where ours goes on in
  silence.

Axes: P positions, D width.
"""

import argparse
import functools
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.records import read_corpus
from data_prep import workers

CONTEXT, LONGEST = 3, 30  # s
RATE, HOP = 16_000, 320  # Hz, samples
MADE = {"n_speakers": 10, "n_sentences": 3, "seed": 0}  # the synthetic corpus
BATCH = 16  # clips that PyTorch takes at once
OURS, PEER = "ser_jax", "transformers and PyTorch"
PREDICT, LOOP = "ser_jax.predict", "soundfile and PyTorch, a file at a time"

Embed = Callable[[Sequence[np.ndarray]], list[np.ndarray]]


def read(path: Path) -> np.ndarray:
    """Return a clip, cut at the context."""
    import soundfile

    return soundfile.read(path, dtype="float32")[0][: CONTEXT * RATE]


def load_ours(encoder: Path, context: int) -> tuple[Any, Any]:
    """Return the features' definition, and the encoder."""
    from ser_jax.encoders import loading
    from ser_jax.features import FeatureSpec

    described = loading.describe(encoder, context=context)
    return FeatureSpec(planes=("embedding",), encoder=described), loading.load(encoder, described)


def load_peer(encoder: Path, context: int) -> tuple[Any, Any]:
    """Return transformers' feature extractor, and its encoder of inputs of that length."""
    import torch
    import transformers
    from safetensors.numpy import load_file
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    from ser_jax.encoders import weights

    torch.set_num_threads(workers.n_processors())
    file = weights.file_in(encoder)
    size, n_positions = weights.read_size(file), context * RATE // HOP
    config = transformers.WhisperConfig(
        num_mel_bins=size.n_mels,
        d_model=size.width,
        encoder_layers=size.n_layers,
        encoder_attention_heads=size.width // 64,
        encoder_ffn_dim=size.mlp_width,
        max_source_positions=n_positions,
    )
    tensors = {
        name.rpartition("encoder.")[2]: torch.from_numpy(array.astype(np.float32))
        for name, array in load_file(file).items()
        if "encoder." in name
    }
    tensors["embed_positions.weight"] = tensors["embed_positions.weight"][:n_positions]
    model = WhisperEncoder(config).eval()
    model.load_state_dict(tensors)
    extractor = transformers.WhisperFeatureExtractor(size.n_mels, chunk_length=context)
    return extractor, model


def embed_by_us(encoder: Path) -> Embed:
    """Return what preparation does with clips."""
    from ser_jax import features
    from ser_jax.common.concurrency import map_ahead

    spec, loaded = load_ours(encoder, CONTEXT)
    n = workers.n_processors()
    one = functools.partial(features.extract_clip, spec, encoder=loaded)
    return lambda clips: list(map_ahead(one, clips, ahead=4 * n, n_threads=n))


def embed_by_peer(encoder: Path) -> Embed:
    """Return the same in PyTorch: mean and sd of each hidden state over a clip's positions."""
    import torch

    extractor, model = load_peer(encoder, CONTEXT)

    def embed(clips: Sequence[np.ndarray]) -> list[np.ndarray]:
        planes = []
        for batch in workers.batches(clips, BATCH):
            inputs = extractor(list(batch), sampling_rate=RATE, return_tensors="pt")
            with torch.inference_mode():
                states = model(inputs.input_features, output_hidden_states=True).hidden_states
            for row, clip in enumerate(batch):
                inside = [state_BxPxD[row, : -(-len(clip) // HOP)] for state_BxPxD in states]
                rows = [torch.cat([x.mean(0), x.std(0, correction=0)]) for x in inside]
                planes.append(torch.stack(rows).numpy())
        return planes

    return embed


def contestant(options: argparse.Namespace) -> None:
    """Embed as many clips as are asked for, again and again."""
    clips = [read(utterance.path) for utterance in read_corpus(options).utterances]
    embed = {OURS: embed_by_us, PEER: embed_by_peer}[options.by](options.encoder)
    harness.serve({"clips": len(clips)}, lambda amount: embed(clips[:amount]))


def parity(options: argparse.Namespace) -> None:
    """Print how far hidden states differ at most, relative to the largest value of each."""
    import torch

    clip = read(read_corpus(options).utterances[0].path)
    _, encoder = load_ours(options.encoder, LONGEST)
    one, n_states = (clip[None], np.array([len(clip)], np.int32)), encoder.n_states
    ours = [np.asarray(x)[0] for x in encoder.states(*one, encoder.longest, range(n_states))]
    del ours[-2]  # transformers applies the final norm at once
    extractor, model = load_peer(options.encoder, LONGEST)
    inputs = extractor(clip, sampling_rate=RATE, return_tensors="pt")
    with torch.inference_mode():
        states = model(inputs.input_features, output_hidden_states=True).hidden_states
    theirs = [x[0, : len(ours[0])].numpy() for x in states]
    print(max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(ours, theirs, strict=True)))


def build(options: argparse.Namespace) -> None:
    """Build records, and print this process's peak memory."""
    from data_prep.augmentation.views import Augmentation
    from data_prep.records import build
    from data_prep.records.recipe import Recipe

    spec, _ = load_ours(options.encoder, CONTEXT)
    with tempfile.TemporaryDirectory() as folder:
        corpus, views = read_corpus(options), Augmentation(views=())
        build.build(Recipe(corpus, spec, views, encoder=options.encoder), Path(folder))
    print(harness.peak_mib())


def loop(options: argparse.Namespace) -> None:
    """Embed the files named on standard input, one at a time, and save all as .npy."""
    embed = embed_by_peer(options.encoder)
    planes = [embed([read(path)])[0] for path in sys.stdin.read().splitlines()]
    np.save(options.out, np.stack(planes))


def write_random(folder: Path) -> None:
    """Write an encoder of whisper-base's size with random weights."""
    from safetensors.numpy import save_file

    from ser_jax.encoders import network, weights

    random = np.random.default_rng(0)
    shapes = weights._expected_shapes(network.Size(80, 512, 6, 2048, 1500))
    tensors = {
        f"model.encoder.{name}": (random.standard_normal(shape) * 0.04).astype(np.float16)
        for name, shape in shapes.items()
    }
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")


def train(options: argparse.Namespace, folder: Path) -> Path:
    """Train a probe on the synthetic corpus for one epoch, and return its workdir."""
    harness.run(
        *("launch", "--config=configs/whisper.py", f"--workdir={folder / 'run'}"),
        f"--config.encoder.path={options.encoder}",
        f"--config.records_dir={folder / 'records'}",
        *("--config.corpus.name=synthetic", f"--config.corpus.root={options.root}"),
        *(f"--config.corpus.made.{key}={value}" for key, value in MADE.items()),
        *("--config.split.name=speaker_kfold", "--config.train.epochs=1"),
    )
    return folder / "run"


def print_tables(options: argparse.Namespace, folder: Path) -> None:
    """Measure all, and print it."""
    paths = [str(utterance.path) for utterance in read_corpus(options).utterances]
    n_clips = len(paths)
    flags = [f"--{name}={getattr(options, name)}" for name in "encoder root corpus clips".split()]
    command = ["benchmarks.encoders", *flags]
    contestants = harness.compete(
        {name: [*command, f"--by={name}"] for name in (OURS, PEER)}, n_clips, options.rounds
    )
    [difference] = harness.run(*command, "--by=parity").lines
    built = harness.run(*command, "--by=build")
    median = {name: statistics.median(c.seconds) for name, c in contestants.items()}
    print(
        f"{n_clips:,} clips of {options.corpus}, cut at {CONTEXT} s, {options.encoder.name}, "
        f"{workers.n_processors()} cores; medians of {options.rounds} rounds (least–most).\n\n"
        "| embedded by | seconds | clips per second | of PyTorch's time |\n"
        "| --- | ---: | ---: | ---: |"
    )
    for name, c in contestants.items():
        print(
            f"| {name} | {harness.spread(c.seconds, 1)} | {n_clips / median[name]:.1f} | "
            f"{median[name] / median[PEER]:.2f} |"
        )
    print(
        f"\nWith a context of {LONGEST} s, hidden states differ by {float(difference):.0e} of the "
        f"largest value of each at most. The build of records took {built.wall:.1f} s, start and "
        f"compilation included, and {float(built.lines[-1]):.0f} MiB at its peak.\n"
    )
    workdir = options.workdir or train(options, folder)
    saved = {PREDICT: folder / "predict.npz", LOOP: folder / "loop.npy"}
    predict = ["ser_jax.predict", f"--workdir={workdir}", "-", "--format=csv"]
    programs = {
        PREDICT: [*predict, f"--embeddings={saved[PREDICT]}"],
        LOOP: [*command, "--by=loop", f"--out={saved[LOOP]}"],
    }
    tasks = {
        name: functools.partial(harness.run, *program, stdin="\n".join(paths))
        for name, program in programs.items()
    }
    walls = {
        name: [process.wall for process in processes]
        for name, processes in harness.in_turns(tasks, options.rounds).items()
    }
    slowest = statistics.median(walls[LOOP])
    print(
        "| program | seconds for all | files per second | speed-up |\n| --- | ---: | ---: | ---: |"
    )
    for name, times in walls.items():
        wall = statistics.median(times)
        print(
            f"| {name} | {harness.spread(times, 1)} | {n_clips / wall:.1f} | {slowest / wall:.2f} |"
        )
    theirs = np.load(saved[LOOP])[:, 0]
    with np.load(saved[PREDICT]) as archive:
        difference = np.abs(archive["embedding"][:, 0] - theirs).max() / np.abs(theirs).max()
    print(
        f"\nTheir embeddings of the first hidden state differ by {difference:.0e} of the largest "
        "value at most."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", type=Path, help="folder of Whisper; random by default")
    parser.add_argument("--root", help="of a corpus; a synthetic one by default")
    parser.add_argument("--corpus", default="crema_d", help="the corpus in --root")
    parser.add_argument("--workdir", type=Path, help="of a run with the encoder, for --root")
    parser.add_argument("--clips", type=int, default=0, help="how many to use; 0 uses all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--by", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.by:
        parts = {"parity": parity, "build": build, "loop": loop}
        parts.get(options.by, contestant)(options)
        return
    if options.root and not options.workdir:
        parser.error("--root needs the --workdir of a run, whose prediction is measured")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not options.encoder:
            options.encoder = folder / "random-base"
            write_random(options.encoder)
        if not options.root:
            from data_prep.synthetic.corpus import write_corpus

            options.root, options.corpus = str(folder / "synthetic"), "synthetic"
            write_corpus(folder / "synthetic", **MADE)
        print_tables(options, folder)


if __name__ == "__main__":
    main()
