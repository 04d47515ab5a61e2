"""The figure of one clip: waveform, log-mel, MFCC and saliency above one time axis.

Axes: S samples, T frames, F columns, M mel bands.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ser_jax.features import FeatureSpec, spectral
from ser_jax.pages.figure import BLUE, new_figure, style

WIDTH = 3.4  # inches
HEIGHTS = {"waveform": 0.75, "log_mel": 1.15, "mfcc": 0.9, "saliency": 0.9}
TICKS_HZ = (500, 1000, 2000, 4000, 8000, 16_000)


@dataclasses.dataclass(frozen=True)
class Panel:
    """One of the stacked plots."""

    kind: str  # a key of HEIGHTS
    # waveform_S; log_mel_TxM in dB; mfcc_TxF; saliency_TxF of an MFCC, a log-mel, or the columns of
    # the vector input (MFCC, zero-crossing rate, energy)
    values: np.ndarray
    title: str


def draw(spec: FeatureSpec, panels: Sequence[Panel]) -> Any:
    """Return a figure of the panels, one below the other."""
    with style({"axes.grid": False, "font.size": 8, "axes.titlesize": 8}):
        heights = [HEIGHTS[panel.kind] for panel in panels]
        figure = new_figure(WIDTH, sum(heights) + 0.34 * len(panels) + 0.2)
        place = {"hspace": 0.55, "left": 0.13, "right": 0.99}
        grid = figure.add_gridspec(len(panels), 1, height_ratios=heights, **place)
        seconds = max(_seconds(spec, panel) for panel in panels)
        for row, panel in enumerate(panels):
            axes = figure.add_subplot(grid[row])
            _DRAW[panel.kind](axes, spec, panel.values)
            axes.set_title(panel.title, loc="left", pad=3)
            axes.set_xlim(0, seconds)
            axes.tick_params(length=2, labelbottom=row == len(panels) - 1)
        axes.set_xlabel("seconds")
    return figure


def _seconds(spec: FeatureSpec, panel: Panel) -> float:
    step = 1 if panel.kind == "waveform" else spec.hop_length
    return max(1, len(panel.values)) * step / spec.sampling_rate


def _waveform(axes: Any, spec: FeatureSpec, values_S: np.ndarray) -> None:
    # An envelope of about a thousand columns, each from its lowest to its highest sample.
    size = max(1, -(-len(values_S) // 1000))
    padded = np.pad(values_S, (0, -len(values_S) % size), mode="edge").reshape(-1, size)
    second = np.arange(len(padded)) * size / spec.sampling_rate
    axes.fill_between(second, padded.min(1), padded.max(1), color=BLUE, linewidth=0.4)
    reach = float(np.abs(values_S).max(initial=1e-4))
    axes.set_ylim(-reach, reach)
    axes.set_yticks([-reach, 0, reach], [f"−{reach:.2g}", "0", f"{reach:.2g}"])


def _log_mel(axes: Any, spec: FeatureSpec, values_TxM: np.ndarray) -> None:
    _image(axes, spec, values_TxM, cmap="magma")
    _hertz(axes, spec)


def _mfcc(axes: Any, spec: FeatureSpec, values_TxF: np.ndarray) -> None:
    # Standardised, since the zeroth coefficient, the loudness, would hide all others.
    deviation_TxF = values_TxF - values_TxF.mean(0)
    deviation_TxF /= np.maximum(deviation_TxF.std(0), 1e-9)
    _image(axes, spec, deviation_TxF, cmap="RdBu_r", vmin=-3, vmax=3)
    _coefficients(axes, spec, values_TxF.shape[1])


def _saliency(axes: Any, spec: FeatureSpec, values_TxF: np.ndarray) -> None:
    # A quantile, for a single large value would leave all others pale.
    reach = float(np.quantile(np.abs(values_TxF), 0.995)) or 1e-9
    _image(axes, spec, values_TxF, cmap="PuOr_r", vmin=-reach, vmax=reach)
    if values_TxF.shape[1] == spec.n_mels:
        _hertz(axes, spec)
    else:
        _coefficients(axes, spec, values_TxF.shape[1])


def _image(axes: Any, spec: FeatureSpec, values_TxF: np.ndarray, **colours: Any) -> None:
    colours |= {"origin": "lower", "aspect": "auto", "interpolation": "nearest"}
    first = 0 if spec.centered else spec.frame_length / 2  # the middle of frame 0, in samples
    edges = first + spec.hop_length * (np.array([0, len(values_TxF)]) - 0.5)
    extent = (*(edges / spec.sampling_rate), -0.5, values_TxF.shape[1] - 0.5)
    axes.imshow(values_TxF.T, extent=extent, **colours)


def _hertz(axes: Any, spec: FeatureSpec) -> None:
    """Label the mel bands by their centre frequencies."""
    f_max = spec.f_max or spec.sampling_rate / 2
    ticks = [hz for hz in TICKS_HZ if spec.f_min < hz < f_max]
    low, high, *mels = spectral.hz_to_mel(np.array([spec.f_min, f_max, *ticks]), spec.mel_scale)
    band = (np.array(mels) - low) / (high - low) * (spec.n_mels + 1) - 1
    axes.set_yticks(band, [f"{hz / 1000:g} kHz" for hz in ticks])


def _coefficients(axes: Any, spec: FeatureSpec, width: int) -> None:
    ticks = list(range(0, spec.n_mfcc, max(1, spec.n_mfcc // 4)))
    names = [str(tick) for tick in ticks]
    if width == spec.n_mfcc + 2:  # the vector input
        ticks, names = [*ticks, spec.n_mfcc + 0.5], [*names, "ZCR, energy"]
    axes.set_yticks(ticks, names)


_DRAW = {"waveform": _waveform, "log_mel": _log_mel, "mfcc": _mfcc, "saliency": _saliency}
