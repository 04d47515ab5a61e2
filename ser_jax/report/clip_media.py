"""The sound and the picture of each clip that a result page lists, batch by batch.

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

BATCH = 16  # every batch is filled up to this, so that one program serves all
TITLES = {"mfcc": "MFCC", "log_mel": "log-mel", "vector": "MFCC, zero crossings and energy"}
CHANGED = 0.02  # by more, a probability is no longer that of predictions.csv


@dataclasses.dataclass
class ClipMedia:
    """What could be made, as paths below the page's folder.

    Attributes:
      players: by clip, a FLAC file.
      pictures: by clip and predicted class, a PNG and what it shows.
      failures: by clip, why there is neither.
      notes: sentences about what is missing, and how exact the saliency is.
    """

    players: dict[str, str] = dataclasses.field(default_factory=dict)
    pictures: dict[tuple[str, int], tuple[str, str]] = dataclasses.field(default_factory=dict)
    failures: dict[str, str] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)


class ClipMediaWriter:
    """Makes the media of one batch after another.

    Attributes:
      media: what is made so far.
    """

    def __init__(
        self,
        folder: Path,
        numbers: Mapping[str, int],
        labels: Sequence[str],
        found: TrainedModel | None,
        spec: FeatureSpec,
    ):
        """Makes nothing yet.

        Args:
          folder: where the files go.
          numbers: of the clips; their files' names, for an id may hold anything.
          labels: class names.
          found: the run's networks; None for pictures without saliency.
          spec: the run's features.
        """
        self._folder, self._numbers, self._labels = folder, numbers, labels
        self._found, self._spec = found, spec
        self.media = ClipMedia()
        self._gradient = saliency.make_gradient(found) if found else None
        self._gaps: list[float] = []
        self._changed = 0

    def add(self, number: int | None, batch: Sequence[CellClip], utterances: Mapping) -> None:
        """The media of some clips, with the saliency of one replica (None: of none)."""
        heard = [(one, self._heard(one.clip, utterances)) for one in batch]
        heard = [(one, waveform_S) for one, waveform_S in heard if waveform_S is not None]
        if not heard:
            return
        waveform_BxS, n_samples_B = _padded([w for _, w in heard], self._spec.sampling_rate)
        spec = dataclasses.replace(self._spec, planes=("log_mel",))
        log_mel_BxTxM = np.asarray(features.extract(spec, waveform_BxS, n_samples_B)["log_mel"])
        values: list[np.ndarray | None] = [None] * len(heard)
        if number is not None:
            values = self._saliency(number, [one for one, _ in heard], waveform_BxS, n_samples_B)
        for (one, waveform_S), log_mel_TxM, values_TxF in zip(
            heard, log_mel_BxTxM, values, strict=False
        ):
            log_mel_TxM = log_mel_TxM[: spec.n_frames(len(waveform_S))]
            self._draw(one, len(waveform_S), log_mel_TxM, values_TxF)

    def remarks(self) -> list[str]:
        """How exact the saliency is, and whether it is of the predictions that are listed."""
        remarks = []
        if self._gaps:
            remarks.append(
                "Saliency tells which values speak for the predicted class (orange) and which "
                "against it (purple): "
                "integrated gradients of its logit, from the training mean, on the "
                f"{TITLES[self._found.kind]} plane as the model is fed it. They should add up to "
                "the change of the logit; half of the pictures miss that by less than "
                f"{percent(np.median(self._gaps))}."
            )
        if self._changed:
            remarks.append(
                f"Of {self._changed} of these clips the model gives another probability now than "
                "predictions.csv tells: the checkpoint or the recordings have changed. Run "
                "--mode=evaluate again."
            )
        return remarks

    def _heard(self, clip: str, utterances: Mapping[str, Any]) -> np.ndarray | None:
        """A clip's waveform; its player's file is written."""
        try:
            if clip not in utterances:
                raise UserError("the corpus has no such clip.")
            waveform_S = waveform.load(Path(utterances[clip].path), self._spec.sampling_rate)
        except UserError as error:
            self.media.failures[clip] = str(error)
            return None
        if clip not in self.media.players:
            path = self._folder / f"{self._numbers[clip]}.flac"
            waveform.write(path, waveform_S, self._spec.sampling_rate)
            self.media.players[clip] = f"{self._folder.name}/{path.name}"
        return waveform_S

    def _saliency(
        self,
        number: int,
        batch: Sequence[CellClip],
        waveform_BxS: np.ndarray,
        n_samples_B: np.ndarray,
    ) -> list[np.ndarray]:
        """values_TxF of each clip of a batch, without padding."""
        found, n = self._found, len(batch)
        weights = found.weights[found.numbers.index(number)]
        x_BxTxF, n_frames_B = found.examples(waveform_BxS, n_samples_B)
        class_B = np.resize([one.predicted for one in batch], BATCH)
        made = saliency.integrated_gradients(self._gradient, weights, x_BxTxF, n_frames_B, class_B)
        exp_BxC = np.exp(made.logits_BxC - made.logits_BxC.max(1, keepdims=True))
        now_B = exp_BxC[np.arange(BATCH), class_B] / exp_BxC.sum(1)
        told_B = [one.confidence_of[number] for one in batch]
        self._changed += int((np.abs(now_B[:n] - told_B) > CHANGED).sum())
        change_B = np.maximum(np.abs(made.change_B[:n]), 1e-6)
        self._gaps += (np.abs(made.gap_B[:n]) / change_B).tolist()
        return [made.values_BxTxF[i, : n_frames_B[i]] for i in range(n)]

    def _draw(
        self, one: CellClip, n_samples: int, log_mel_TxM: np.ndarray, values_TxF: np.ndarray | None
    ) -> None:
        spec, label = self._spec, self._labels[one.predicted]
        seconds = n_samples / spec.sampling_rate
        panels = [clip_figure.Panel("log_mel", log_mel_TxM, "log-mel")]
        alt = f"Log-mel spectrogram of {one.clip}, {seconds:.2f} s"
        if values_TxF is not None:
            title = f"saliency for {label}, {TITLES[self._found.kind]} plane"
            panels.append(clip_figure.Panel("saliency", values_TxF, title))
            stretch, hop = saliency.peak(values_TxF), spec.hop_length / spec.sampling_rate
            alt += f"; below it the saliency of the {TITLES[self._found.kind]} plane for {label}: "
            alt += (
                f"half of what speaks for it lies between {stretch[0] * hop:.2f} and "
                f"{min(stretch[1] * hop, seconds):.2f} s"
                if stretch
                else "nothing speaks for it"
            )
        path = self._folder / f"{self._numbers[one.clip]}-{one.predicted}.png"
        figure.save(clip_figure.sheet(spec, panels), path)
        key = one.clip, one.predicted
        self.media.pictures[key] = f"{self._folder.name}/{path.name}", f"{alt}."


def _padded(waveforms: Sequence[np.ndarray], sampling_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """waveform_BxS and n_samples_B of a full batch, S a multiple of four seconds."""
    step = 4 * sampling_rate  # few lengths compile few programs
    length = -(-max(map(len, waveforms)) // step) * step
    waveform_BxS = np.zeros((BATCH, length), np.float32)
    for i in range(BATCH):
        waveform_S = waveforms[i % len(waveforms)]  # as np.resize repeats their classes
        waveform_BxS[i, : len(waveform_S)] = waveform_S
    return waveform_BxS, np.resize([len(w) for w in waveforms], BATCH)


def make(
    folder: Path,
    workdir: Path,
    listed: Sequence[CellClip],
    labels: Sequence[str],
    utterances: Mapping[str, Any] | None,
) -> ClipMedia:
    """Writes a player's file a clip and a picture a clip and predicted class.

    Args:
      folder: where they go, inside the page's.
      workdir: of the run.
      listed: the clips.
      labels: class names.
      utterances: by clip id, objects with a `path`; None if the audio is not at hand.

    Returns:
      Them, or without audio the reason why there is none.
    """
    why = _why_none(utterances)
    if why:
        return ClipMedia(notes=[f"There are no players, pictures and saliency: {why}"])
    found, notes = _trained(workdir, labels)
    numbers = {clip: n for n, clip in enumerate(dict.fromkeys(one.clip for one in listed))}
    maker = ClipMediaWriter(folder, numbers, labels, found, _spec(workdir, found))
    with tqdm(total=len(listed), desc="clips of the report", unit="clip", disable=None) as progress:
        for number, batch in _batches(listed, found):
            maker.add(number, batch, utterances)
            progress.update(len(batch))
    maker.media.notes = notes + maker.remarks()
    return maker.media


def _why_none(utterances: Mapping[str, Any] | None) -> str:
    if not utterances:
        return (
            "the recordings were not at hand when this page was written. --mode=report writes it "
            "anew where corpus.root is."
        )
    # The others wait for this one to end, and a checkpoint is read by all or by none.
    if jax.process_count() > 1:
        return "one of several processes wrote this page. --mode=report alone writes it anew."
    return ""


def _trained(workdir: Path, labels: Sequence[str]) -> tuple[TrainedModel | None, list[str]]:
    """The run's networks, or a sentence why there are none."""
    try:
        found = trained_model.load(workdir)
        if list(found.labels) != list(labels):
            raise UserError("the checkpoint knows other classes than results.json.")
    except UserError as error:
        return None, [f"There is no saliency: {error}"]
    return found, []


def _spec(workdir: Path, found: TrainedModel | None) -> FeatureSpec:
    """The run's features, also where no checkpoint is left to ask."""
    if found:
        return found.spec
    path = workdir / "config.json"
    return FeatureSpec(**files.read_json(path)["features"]) if path.exists() else FeatureSpec()


def _batches(
    listed: Sequence[CellClip], found: TrainedModel | None
) -> Iterator[tuple[int | None, list[CellClip]]]:
    """Clips by the first replica that put them where they are and whose weights are there."""
    groups: dict[int | None, list[CellClip]] = {}
    for one in listed:
        known = [n for n in one.confidence_of if found and n in found.numbers]
        groups.setdefault(known[0] if known else None, []).append(one)
    for number, group in groups.items():
        for start in range(0, len(group), BATCH):
            yield number, group[start : start + BATCH]
