"""The sample: a few clips of each emotion to see and hear, with their augmented views."""

import dataclasses
import hashlib
import itertools
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from data_prep.augmentation.views import ORIGINAL, Augmentation, make_views
from data_prep.corpora import Utterance
from ser_jax import features
from ser_jax.audio import waveform
from ser_jax.features import FeatureSpec
from ser_jax.pages import clip_figure, figure
from ser_jax.pages.clip_figure import Panel


def choose(
    utterances: Sequence[Utterance], labels: Sequence[str], n: int, seed: int
) -> list[Utterance]:
    """Draw n clips of each emotion, from as many speakers as possible.

    The draw depends on the seed and the clips' ids only.
    """

    def rank(*parts: str) -> bytes:
        return hashlib.sha256("\0".join([str(seed), *parts]).encode()).digest()

    chosen = []
    for label in labels:
        by_speaker: dict[str, list[Utterance]] = defaultdict(list)
        of_label = [u for u in utterances if u.emotion == label]
        for utterance in sorted(of_label, key=lambda u: rank(u.id)):
            by_speaker[utterance.speaker].append(utterance)
        speakers = sorted(by_speaker, key=lambda speaker: rank(label, speaker))
        turns = itertools.zip_longest(*(by_speaker[speaker] for speaker in speakers))
        in_turn = filter(None, itertools.chain.from_iterable(turns))
        chosen += itertools.islice(in_turn, n)
    return chosen


def write(
    folder: Path, utterances: Sequence[Utterance], spec: FeatureSpec, augmentation: Augmentation
) -> list[dict[str, Any]]:
    """Write audio/<n>-<view>.flac and pictures/<n>-<view>.png.

    The audio is the input of the features: decoded, averaged over channels and resampled.

    Returns:
      One card per clip, for the page.
    """
    cards, rate, names = [], spec.sampling_rate, (ORIGINAL, *augmentation.views)
    progress = tqdm(utterances, "drawing", unit="clip", disable=None, leave=False)
    for number, utterance in enumerate(progress):
        waveform_S = waveform.load(utterance.path, rate, segment=utterance.segment)
        views = {}
        for view, view_S in make_views(augmentation, names, waveform_S, rate, utterance.id):
            name = f"{number}-{view}"
            waveform.write(folder / "audio" / f"{name}.flac", view_S, rate)
            figure.save(_picture(spec, view_S), folder / "pictures" / f"{name}.png", dpi=100)
            views[view] = {
                "audio": f"audio/{name}.flac",
                "picture": f"pictures/{name}.png",
                "what": _caption(augmentation, view, waveform_S, view_S),
            }
        seconds = len(waveform_S) / rate
        cards.append({**metadata(utterance), "seconds": seconds, "views": views})
    return cards


def metadata(utterance: Utterance) -> dict[str, Any]:
    """Return the fields of a clip that the page shows, as JSON values."""
    fields = dataclasses.asdict(utterance)
    return {k: v for k, v in fields.items() if k not in ("path", "segment", "place")}


def _picture(spec: FeatureSpec, waveform_S: np.ndarray) -> Any:
    # Padded to whole seconds, so that few shapes are compiled; padding frames are not drawn.
    n_samples = -(-len(waveform_S) // spec.sampling_rate) * spec.sampling_rate
    padded_S = np.pad(waveform_S, (0, n_samples - len(waveform_S)))
    planes = features.extract(spec, padded_S[None], np.array([len(waveform_S)]))
    n_frames = spec.n_frames(len(waveform_S))
    planes = {name: np.asarray(plane[0, :n_frames]) for name, plane in planes.items()}
    panels = [Panel("waveform", waveform_S, "waveform")]
    if "log_mel" in planes:
        panels.append(Panel("log_mel", planes["log_mel"], "log-mel, dB"))
    if "mfcc" in planes:
        panels.append(Panel("mfcc", planes["mfcc"], "MFCC, z-score of each over the clip"))
    return clip_figure.draw(spec, panels)


def _caption(
    augmentation: Augmentation, view: str, original_S: np.ndarray, view_S: np.ndarray
) -> str:
    """Describe a view, with its parameter where that follows from the samples."""
    if view == "noise":
        noise = float(np.mean((view_S.astype(np.float64) - original_S) ** 2))
        signal = float(np.mean(original_S.astype(np.float64) ** 2))
        return f"noise at {10 * np.log10(signal / noise):.1f} dB SNR" if noise else "noise: none"
    if view == "stretch":
        return f"time stretch, rate {len(original_S) / len(view_S):.2f}"
    if view == "pitch":
        low, high = augmentation.semitones
        return f"pitch shift, {low:+g} to {high:+g} semitones".replace("-", "−")
    return "original"
