"""Audio and pictures of the clips that a run report lists.

Axes: B batch, S samples, T frames, F feature columns, M mel bands, C classes.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from ser_jax import features
from ser_jax.audio import waveform
from ser_jax.common import files
from ser_jax.common.errors import UserError
from ser_jax.features import FeatureSpec
from ser_jax.pages import clip_figure, figure
from ser_jax.pages.numbers import percent
from ser_jax.predict import saliency, trained_model
from ser_jax.predict.trained_model import TrainedModel
from ser_jax.report.cells import CellClip

BATCH = 16  # every batch is filled up to this size, so that one program serves all
TITLES = {"mfcc": "MFCC", "log_mel": "log-mel", "vector": "MFCC, zero crossings and energy"}
_NO_SALIENCY = (
    "There is no saliency: this model sees an encoder's embedding of the whole clip, which has no "
    "axis of time or frequency."
)
CHANGED = 0.02  # a probability that differs by more is not the one in predictions.csv


@dataclasses.dataclass
class ClipMedia:
    """The files written, as paths relative to the page."""

    # A FLAC file by clip; a PNG and its alt text by clip and predicted class; why there is neither.
    players: dict[str, str] = dataclasses.field(default_factory=dict)
    pictures: dict[tuple[str, int], tuple[str, str]] = dataclasses.field(default_factory=dict)
    failures: dict[str, str] = dataclasses.field(default_factory=dict)
    # Sentences on what is missing, and how exact the saliency is.
    notes: list[str] = dataclasses.field(default_factory=list)


def write(
    folder: Path,
    workdir: Path,
    clips: Sequence[CellClip],
    labels: Sequence[str],
    utterances: Mapping[str, Any] | None,
) -> ClipMedia:
    """Write an audio file per clip, and a picture per clip and predicted class.

    They go to `folder`, inside the page's folder. `utterances` are objects with a `path` by clip
    id; without them, a note says why there are no files.
    """
    missing = ""
    if not utterances:
        missing = (
            "the recordings were not available when this page was written. Run --mode=report "
            "where corpus.root exists."
        )
    # The other processes wait for this one, and a checkpoint is read by all or by none.
    elif jax.process_count() > 1:
        missing = "one of several processes wrote this page. Run --mode=report in a single one."
    if missing:
        return ClipMedia(notes=[f"There are no players, pictures and saliency: {missing}"])
    model, spec, notes = _load(workdir, labels)
    writer = ClipMediaWriter(folder, labels, model, spec)
    with tqdm(total=len(clips), desc="clips of the report", unit="clip", disable=None) as progress:
        for replica, batch in _batches(clips, model):
            writer.add(replica, batch, utterances)
            progress.update(len(batch))
    writer.media.notes = notes + writer.notes()
    return writer.media


def _load(
    workdir: Path, labels: Sequence[str]
) -> tuple[TrainedModel | None, FeatureSpec, list[str]]:
    """Return the run's networks and features; without networks, a note that says why."""
    try:
        model = trained_model.load(workdir)
        if list(model.labels) != list(labels):
            raise UserError("the checkpoint has other classes than results.json.")
    except UserError as error:
        path = workdir / "config.json"
        fields = files.read_json(path)["features"] if path.exists() else {}
        spec = FeatureSpec(**{**fields, "planes": ("log_mel",)})
        return None, spec, [f"There is no saliency: {error}"]
    if model.spec.encoder:
        spec = dataclasses.replace(model.spec, planes=("log_mel",), encoder=None)
        return None, spec, [_NO_SALIENCY]
    return model, model.spec, []


def _batches(
    clips: Sequence[CellClip], model: TrainedModel | None
) -> Iterator[tuple[int | None, list[CellClip]]]:
    """Group clips by the first replica that predicted their class and whose weights exist."""
    groups: dict[int | None, list[CellClip]] = {}
    for clip in clips:
        replicas = [n for n in clip.confidences if model and n in model.numbers]
        groups.setdefault(replicas[0] if replicas else None, []).append(clip)
    for replica, group in groups.items():
        for start in range(0, len(group), BATCH):
            yield replica, group[start : start + BATCH]


class ClipMediaWriter:
    """Writes audio and pictures batch by batch; `media` lists those written so far."""

    def __init__(
        self, folder: Path, labels: Sequence[str], model: TrainedModel | None, spec: FeatureSpec
    ):
        """Write nothing yet. See `write`; without a model there is no saliency."""
        self._folder, self._labels, self._model, self._spec = folder, labels, model, spec
        self.media = ClipMedia()
        self._gradient = saliency.make_gradient(model) if model else None
        self._gaps: list[float] = []
        self._n_changed = 0

    def add(self, replica: int | None, batch: Sequence[CellClip], utterances: Mapping) -> None:
        """Write the files of some clips, with the saliency of one replica (None: without)."""
        waveforms = [self._write_audio(clip.id, utterances) for clip in batch]
        batch = [clip for clip, x_S in zip(batch, waveforms, strict=True) if x_S is not None]
        waveforms = [x_S for x_S in waveforms if x_S is not None]
        if not batch:
            return
        waveform_BxS, n_samples_B = _pad(waveforms, self._spec.sampling_rate)
        spec = dataclasses.replace(self._spec, planes=("log_mel",))
        log_mel_BxTxM = np.asarray(features.extract(spec, waveform_BxS, n_samples_B)["log_mel"])
        saliencies: list[np.ndarray | None] = [None] * len(batch)
        if replica is not None:
            saliencies = self._saliency(replica, batch, waveform_BxS, n_samples_B)
        for clip, x_S, log_mel_TxM, saliency_TxF in zip(
            batch, waveforms, log_mel_BxTxM, saliencies, strict=False
        ):
            self._draw(clip, len(x_S), log_mel_TxM[: spec.n_frames(len(x_S))], saliency_TxF)

    def notes(self) -> list[str]:
        """Say how exact the saliency is, and whether the model still gives these predictions."""
        notes = []
        if self._gaps:
            notes.append(
                "Saliency shows which values speak for the predicted class (orange) and which "
                "against it (purple): integrated gradients of its logit, from the training mean, "
                f"on the {TITLES[self._model.kind]} plane that the model receives. They should add "
                "up to the change of the logit; half of the pictures miss it by less than "
                f"{percent(np.median(self._gaps))}."
            )
        if self._n_changed:
            notes.append(
                f"For {self._n_changed} of these clips the model now gives another probability "
                "than predictions.csv: the checkpoint or the recordings have changed. Run "
                "--mode=evaluate again."
            )
        return notes

    def _write_audio(self, clip: str, utterances: Mapping[str, Any]) -> np.ndarray | None:
        """Write a clip's audio and return its waveform; None if it cannot be read."""
        try:
            if clip not in utterances:
                raise UserError("the corpus has no such clip.")
            path, segment = Path(utterances[clip].path), utterances[clip].segment
            waveform_S = waveform.load(path, self._spec.sampling_rate, segment=segment)
        except UserError as error:
            self.media.failures[clip] = str(error)
            return None
        if clip not in self.media.players:
            # Numbered, since a clip's id may hold any character.
            path = self._folder / f"{len(self.media.players)}.flac"
            waveform.write(path, waveform_S, self._spec.sampling_rate)
            self.media.players[clip] = f"{self._folder.name}/{path.name}"
        return waveform_S

    def _saliency(
        self,
        replica: int,
        batch: Sequence[CellClip],
        waveform_BxS: np.ndarray,
        n_samples_B: np.ndarray,
    ) -> list[np.ndarray]:
        """Return values_TxF of each clip of a batch, without padding."""
        model, n = self._model, len(batch)
        weights = model.weights[model.numbers.index(replica)]
        x_BxTxF, n_frames_B = model.examples(waveform_BxS, n_samples_B)
        class_B = np.resize([clip.predicted for clip in batch], BATCH)
        result = saliency.integrated_gradients(
            self._gradient, weights, x_BxTxF, n_frames_B, class_B
        )
        exp_BxC = np.exp(result.logits_BxC - result.logits_BxC.max(1, keepdims=True))
        probability_B = exp_BxC[np.arange(BATCH), class_B] / exp_BxC.sum(1)
        stored_B = [clip.confidences[replica] for clip in batch]
        self._n_changed += int((np.abs(probability_B[:n] - stored_B) > CHANGED).sum())
        change_B = np.maximum(np.abs(result.change_B[:n]), 1e-6)
        self._gaps += (np.abs(result.gap_B[:n]) / change_B).tolist()
        return [result.values_BxTxF[i, : n_frames_B[i]] for i in range(n)]

    def _draw(
        self,
        clip: CellClip,
        n_samples: int,
        log_mel_TxM: np.ndarray,
        saliency_TxF: np.ndarray | None,
    ) -> None:
        rate, label = self._spec.sampling_rate, self._labels[clip.predicted]
        seconds = n_samples / rate
        panels = [clip_figure.Panel("log_mel", log_mel_TxM, "log-mel")]
        alt = f"Log-mel spectrogram of {clip.id}, {seconds:.2f} s"
        if saliency_TxF is not None:
            plane = f"{TITLES[self._model.kind]} plane"
            title = f"saliency for {label}, {plane}"
            panels.append(clip_figure.Panel("saliency", saliency_TxF, title))
            start, end = (
                min(frame * self._spec.hop_length / rate, seconds)
                for frame in saliency.peak(saliency_TxF) or (0, 0)
            )
            peak = f"half of what speaks for it lies between {start:.2f} and {end:.2f} s"
            alt += f"; below it the saliency of the {plane} for {label}: "
            alt += peak if end else "nothing speaks for it"
        player = self.media.players[clip.id]
        picture = f"{player.removesuffix('.flac')}-{clip.predicted}.png"
        figure.save(clip_figure.draw(self._spec, panels), self._folder.parent / picture)
        self.media.pictures[clip.id, clip.predicted] = picture, f"{alt}."


def _pad(waveforms: Sequence[np.ndarray], sampling_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Return waveform_BxS and n_samples_B of a full batch, S a multiple of four seconds."""
    step = 4 * sampling_rate  # few distinct lengths, so few programs to compile
    n_samples = -(-max(map(len, waveforms)) // step) * step
    padded = [np.pad(x_S, (0, n_samples - len(x_S))) for x_S in waveforms]
    return np.resize(padded, (BATCH, n_samples)), np.resize([len(x_S) for x_S in waveforms], BATCH)
