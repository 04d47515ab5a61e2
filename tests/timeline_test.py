"""Windows leave nothing unheard, and segments are what the windows say."""

import numpy as np
import pytest

from ser_jax.predict import segments as predict_segments


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
def test_windows_hear_the_end_and_no_window_is_cut(n_samples, expected):
    assert predict_segments.windows(n_samples, 10, 4) == expected


@pytest.mark.parametrize("hop", [1, 3, 7])
def test_windows_cover_every_sample(hop):
    for n_samples in range(1, 40):
        heard = np.zeros(n_samples, bool)
        for start, end in predict_segments.windows(n_samples, 7, hop):
            assert not heard[start:end].all()  # each adds something
            heard[start:end] = True
        assert heard.all()


def probabilities(*of_windows) -> np.ndarray:
    """One replica, two classes, of which the first one's probability is given."""
    first_W = np.array(of_windows, np.float32)
    return np.stack([first_W, 1 - first_W], axis=-1)[:, None, :]


def test_moments_have_the_mean_of_what_covers_them_and_runs_are_merged():
    spans = [(0, 4), (2, 6), (4, 8)]
    segments = predict_segments.merge(spans, probabilities(0.9, 0.4, 0.2), np.zeros(3, bool))
    assert [(s.start, s.end) for s in segments] == [(0, 4), (4, 8)]
    # 0–2: 0.9; 2–4: (0.9 + 0.4) / 2; 4–6: (0.4 + 0.2) / 2; 6–8: 0.2.
    np.testing.assert_allclose(segments[0].probability_RxC, [[0.775, 0.225]], atol=1e-7)
    np.testing.assert_allclose(segments[1].probability_RxC, [[0.25, 0.75]], atol=1e-7)


def test_silence_says_nothing_and_is_a_segment_where_nothing_else_is_heard():
    spans = [(0, 4), (2, 6), (4, 8), (6, 10)]
    segments = predict_segments.merge(
        spans, probabilities(0.9, 0.0, 0.0, 0.8), np.array([False, True, True, False])
    )
    assert [(s.start, s.end) for s in segments] == [(0, 4), (4, 6), (6, 10)]
    assert segments[1].probability_RxC is None
    np.testing.assert_allclose(segments[0].probability_RxC, [[0.9, 0.1]], atol=1e-7)


def test_segments_are_those_of_every_sample_alone():
    random = np.random.default_rng(0)
    spans = predict_segments.windows(203, 20, 7)
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
    segments = predict_segments.merge(spans, probability_WxRxC, silent_W)
    assert [segments[0].start, segments[-1].end] == [0, 203]
    before = None
    for one, following in zip(segments, [*segments[1:], None], strict=True):
        here = slice(one.start, one.end)
        assert following is None or following.start == one.end
        if one.probability_RxC is None:
            assert not n[here].any()
            named = -1
        else:
            moments = total[here] / n[here, None, None]
            np.testing.assert_allclose(one.probability_RxC, moments.mean(axis=0), atol=1e-9)
            (named,) = set(moments.mean(axis=1).argmax(axis=-1).tolist())
        assert named != before
        before = named
