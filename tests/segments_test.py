"""Windows cover every sample, and segments follow from the predictions of the windows."""

import numpy as np
import pytest

from ser_jax.predict.segments import merge, windows


@pytest.mark.parametrize(
    ("n_samples", "expected"),
    [
        (1, [(0, 1)]),
        (10, [(0, 10)]),
        (11, [(0, 10), (1, 11)]),
        (14, [(0, 10), (4, 14)]),
        (17, [(0, 10), (4, 14), (7, 17)]),
    ],
)
def test_windows_reach_the_end_at_full_length(n_samples, expected):
    assert windows(n_samples, 10, 4) == expected


@pytest.mark.parametrize("hop", [1, 3, 7])
def test_windows_cover_every_sample(hop):
    for n_samples in range(1, 40):
        covered = np.zeros(n_samples, bool)
        for start, end in windows(n_samples, 7, hop):
            assert not covered[start:end].all()  # no window is redundant
            covered[start:end] = True
        assert covered.all()


def probabilities(*of_windows) -> np.ndarray:
    """Return probabilities of one replica and two classes, given those of the first class."""
    first_W = np.array(of_windows, np.float32)
    return np.stack([first_W, 1 - first_W], axis=-1)[:, None, :]


def test_covering_windows_are_averaged_and_moments_of_one_emotion_joined():
    spans = [(0, 4), (2, 6), (4, 8)]
    segments = merge(spans, probabilities(0.9, 0.4, 0.2), np.zeros(3, bool))
    assert [(s.start, s.end) for s in segments] == [(0, 4), (4, 8)]
    # 0–2: 0.9; 2–4: (0.9 + 0.4) / 2; 4–6: (0.4 + 0.2) / 2; 6–8: 0.2.
    np.testing.assert_allclose(segments[0].probability_RxC, [[0.775, 0.225]], atol=1e-7)
    np.testing.assert_allclose(segments[1].probability_RxC, [[0.25, 0.75]], atol=1e-7)


def test_silent_windows_are_ignored_and_uncovered_silence_is_a_segment():
    spans = [(0, 4), (2, 6), (4, 8), (6, 10)]
    segments = merge(spans, probabilities(0.9, 0.0, 0.0, 0.8), np.array([False, True, True, False]))
    assert [(s.start, s.end) for s in segments] == [(0, 4), (4, 6), (6, 10)]
    assert segments[1].probability_RxC is None
    np.testing.assert_allclose(segments[0].probability_RxC, [[0.9, 0.1]], atol=1e-7)


def test_segments_equal_those_computed_sample_by_sample():
    random = np.random.default_rng(0)
    spans = windows(203, 20, 7)
    probability_WxRxC = random.dirichlet(np.ones(3), (len(spans), 2))
    silent_W = random.random(len(spans)) < 0.4
    total, n = np.zeros((203, 2, 3)), np.zeros(203)
    for (start, end), probability_RxC, silent in zip(
        spans, probability_WxRxC, silent_W, strict=True
    ):
        if not silent:
            total[start:end] += probability_RxC
            n[start:end] += 1
    assert (n == 0).any()
    segments = merge(spans, probability_WxRxC, silent_W)
    assert [segments[0].start, segments[-1].end] == [0, 203]
    previous = None
    for segment, following in zip(segments, [*segments[1:], None], strict=True):
        samples = slice(segment.start, segment.end)
        assert following is None or following.start == segment.end
        if segment.probability_RxC is None:
            assert not n[samples].any()
            label = -1
        else:
            mean_SxRxC = total[samples] / n[samples, None, None]
            np.testing.assert_allclose(segment.probability_RxC, mean_SxRxC.mean(axis=0), atol=1e-9)
            (label,) = set(mean_SxRxC.mean(axis=1).argmax(axis=-1).tolist())
        assert label != previous
        previous = label
