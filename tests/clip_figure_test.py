import dataclasses

import numpy as np
import pytest
import soundfile

from ser_jax import features
from ser_jax.audio import waveform
from ser_jax.features import FeatureSpec
from ser_jax.pages import clip_figure, figure
from ser_jax.pages.clip_figure import Panel


@pytest.fixture
def chirp():
    second = np.arange(24_000) / 16_000
    return np.sin(2 * np.pi * 1000 * second).astype(np.float32)


def test_panels_share_the_time_axis_and_a_tone_is_at_its_frequency(chirp, tmp_path):
    spec = FeatureSpec()
    planes = features.extract(spec, chirp[None], np.array([len(chirp)]))
    log_mel, mfcc = (np.asarray(planes[name][0]) for name in ("log_mel", "mfcc"))
    panels = [
        Panel("waveform", chirp, "waveform"),
        Panel("log_mel", log_mel, "log-mel"),
        Panel("mfcc", mfcc, "MFCC"),
        Panel("saliency", np.zeros_like(mfcc), "saliency"),
    ]
    sheet = clip_figure.draw(spec, panels)
    assert [axes.get_title(loc="left") for axes in sheet.axes] == [p.title for p in panels]
    assert len({axes.get_xlim() for axes in sheet.axes}) == 1
    assert sheet.axes[0].get_xlim() == pytest.approx((0, 1.51), abs=0.005)
    ticks = dict(
        zip(
            (text.get_text() for text in sheet.axes[1].get_yticklabels()),
            sheet.axes[1].get_yticks(),
            strict=True,
        )
    )
    assert ticks["1 kHz"] == pytest.approx(log_mel.mean(0).argmax(), abs=0.7)
    half = 0.5 * spec.hop_length / spec.sampling_rate  # frame 0 is centred on the first sample
    assert sheet.axes[1].images[0].get_extent()[:2] == pytest.approx((-half, 1.51 - half))
    figure.save(sheet, tmp_path / "clip.png", dpi=100)
    assert (tmp_path / "clip.png").read_bytes().startswith(b"\x89PNG")


def test_short_silent_and_vector_clips_can_be_drawn(tmp_path):
    spec = dataclasses.replace(FeatureSpec(), f_max=4000.0, mel_scale="htk")
    panels = [
        Panel("waveform", np.zeros(1, np.float32), "silence"),
        Panel("log_mel", np.full((1, 64), -100.0), "floor"),
        Panel("mfcc", np.zeros((1, 20)), "flat"),
        Panel("saliency", np.ones((1, 22)), "all columns of the 1D model"),
    ]
    figure.save(clip_figure.draw(spec, panels), tmp_path / "clip.png", dpi=60)


def test_flac_keeps_sixteen_bits_and_the_level(chirp, tmp_path):
    loud = np.concatenate([0.1 * chirp, [1.5, -1.5]]).astype(np.float32)
    waveform.write(tmp_path / "clip.flac", loud, 16_000)
    heard, rate = soundfile.read(tmp_path / "clip.flac", dtype="float32")
    assert rate == 16_000 and np.abs(heard - np.clip(loud, -1, 1)).max() < 1.01 / 2**15
    assert soundfile.info(tmp_path / "clip.flac").subtype == "PCM_16"
