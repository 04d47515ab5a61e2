"""Saliency: how much each input value contributes to the logit of a class.

Gradient × input and integrated gradients, both on the normalised plane, whose zero is the training
mean; networks with vector input flatten the plane inside.
Axes: B batch, T frames, F feature columns, C classes.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ser_jax.predict.trained_model import TrainedModel
from ser_jax.train.state import Weights

# (weights, x_BxTxF, n_frames_B, class_B, scale) → (input_BxTxF, gradient_BxTxF, logits_BxC)
Gradient = Callable[..., tuple[jax.Array, jax.Array, jax.Array]]
# Scales of the clip, in the type of the points between them, so that XLA compiles once.
_MEAN, _CLIP = np.float32(0), np.float32(1)


class Attribution(NamedTuple):
    """The contribution of each input value to the logit of a class."""

    values_BxTxF: np.ndarray  # in logits; exactly 0 past the end of a clip
    logits_BxC: np.ndarray  # of the clips
    gap_B: np.ndarray  # Σ values − change_B; 0 if exact, and for linear networks
    change_B: np.ndarray  # logit of the clip − logit of the training mean


def make_gradient(model: TrainedModel) -> Gradient:
    """Return the compiled gradient of one logit per clip, shared by all replicas and points.

    It takes raw features, scales them about the training mean (0 gives the mean, 1 the clip), and
    returns them on the normalised plane, the gradient there, and the logits.
    """

    def gradient(
        weights: Weights, x_BxTxF: jax.Array, n_frames_B: jax.Array, class_B: jax.Array, scale
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        mean_F, sd_F = weights.normalisation.mean_F, weights.normalisation.sd_F
        z_BxTxF = scale * (x_BxTxF - mean_F) / sd_F

        def sum_of_logits(z_BxTxF: jax.Array) -> tuple[jax.Array, jax.Array]:
            logits_BxC = model.logits(weights, z_BxTxF * sd_F + mean_F, n_frames_B)
            # Clips are independent, so the gradient of the sum is that of each clip's logit.
            return jnp.take_along_axis(logits_BxC, class_B[:, None], axis=1).sum(), logits_BxC

        gradient_BxTxF, logits_BxC = jax.grad(sum_of_logits, has_aux=True)(z_BxTxF)
        return z_BxTxF, gradient_BxTxF, logits_BxC

    return jax.jit(gradient)


def gradient_times_input(
    gradient: Gradient, weights: Weights, x_BxTxF, n_frames_B, class_B
) -> Attribution:
    """Return z · ∂logit/∂z on the normalised plane, exact for a linear network.

    Args:
      gradient: from make_gradient.
      weights: of one replica.
      x_BxTxF: raw features from TrainedModel.examples.
      n_frames_B: length of each clip.
      class_B: the class whose logit is attributed, per clip.
    """
    return _attribution(gradient, weights, (x_BxTxF, n_frames_B, class_B), [_CLIP], [1])


def integrated_gradients(
    gradient: Gradient, weights: Weights, x_BxTxF, n_frames_B, class_B, n_points: int = 16
) -> Attribution:
    """Return z · ∫₀¹ ∂logit/∂z (a·z) da (Sundararajan, Taly & Yan, ICML 2017).

    The path runs from the training mean to the clip; see gradient_times_input for the arguments.

    Args:
      n_points: of the Gauss–Legendre quadrature. ReLUs and max pooling make the integrand
        discontinuous; more points leave a smaller gap.
    """
    points, point_weights = map(np.float32, np.polynomial.legendre.leggauss(n_points))
    clips = x_BxTxF, n_frames_B, class_B
    return _attribution(gradient, weights, clips, (points + 1) / 2, point_weights / 2)


def peak(values_TxF: np.ndarray, share: float = 0.5) -> tuple[int, int] | None:
    """Find the shortest stretch of frames with a given share of all positive contributions.

    Returns:
      Its first frame and one past its last; None if no contribution is positive.
    """
    sum_T = np.concatenate([[0.0], np.maximum(values_TxF, 0).sum(1, dtype=np.float64).cumsum()])
    if not sum_T[-1] > 0:
        return None
    # The earliest sufficient end for each first frame; rounding may leave the last ones without.
    ends = np.searchsorted(sum_T, sum_T[:-1] + share * sum_T[-1] * (1 - 1e-9))
    first = int(np.argmin(np.where(ends < len(sum_T), ends - np.arange(len(ends)), len(sum_T))))
    return first, int(ends[first])


def _attribution(
    gradient: Gradient, weights: Weights, clips: Sequence, points: Sequence, shares: Sequence
) -> Attribution:
    """Return z · the mean of ∂logit/∂z at points from 0 (training mean) to 1 (clip), by shares."""
    arrays = [jnp.asarray(array) for array in clips]
    slope_BxTxF = 0.0
    # A loop on the host: on CPU, XLA convolves many times slower inside its own loops.
    for point, share in zip(points, shares, strict=True):
        slope_BxTxF += share * gradient(weights, *arrays, point)[1]
    z_BxTxF, _, logits_BxC = gradient(weights, *arrays, _CLIP)
    mean_logits_BxC = gradient(weights, *arrays, _MEAN)[-1]
    class_B = np.asarray(arrays[-1])
    rows, logits_BxC = np.arange(len(class_B)), np.asarray(logits_BxC)
    values_BxTxF = np.asarray(z_BxTxF * slope_BxTxF)
    change_B = logits_BxC[rows, class_B] - np.asarray(mean_logits_BxC)[rows, class_B]
    gap_B = values_BxTxF.sum((1, 2), dtype=np.float64) - change_B
    return Attribution(values_BxTxF, logits_BxC, gap_B, change_B)
