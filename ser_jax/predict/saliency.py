"""Which parts of its input plane a class's logit hangs on: gradient × input, integrated gradients.

Both are taken on the normalised plane, whose zero is the training mean. A network that is fed a
vector is no exception: its plane is flattened inside.
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
# Of one type with the points between them, or XLA would compile twice.
_MEAN, _CLIP = np.float32(0), np.float32(1)


class Attribution(NamedTuple):
    """What each value of the planes adds to the class's logit.

    Attributes:
      values_BxTxF: logits; exactly 0 past a clip's end, for the network is fed nothing there.
      logits_BxC: of the inputs as they are.
      gap_B: Σ values − (logit − logit of the training mean). It is 0 for exact integrated
        gradients, and says nothing of gradient × input, unless the network is linear.
      change_B: logit − logit of the training mean.
    """

    values_BxTxF: np.ndarray
    logits_BxC: np.ndarray
    gap_B: np.ndarray
    change_B: np.ndarray


def make_gradient(trained: TrainedModel) -> Gradient:
    """The compiled gradient of one logit a clip; one program for all replicas and points.

    It takes raw features, shrinks them towards the training mean by `scale` (0 is the mean, 1 the
    clip itself), and returns them on the normalised plane, the gradient there, and the logits.
    """

    def gradient(
        weights: Weights, x_BxTxF: jax.Array, n_frames_B: jax.Array, class_B: jax.Array, scale
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        mean_F, sd_F = weights.normalisation.mean_F, weights.normalisation.sd_F
        z_BxTxF = scale * (x_BxTxF - mean_F) / sd_F

        def chosen(z_BxTxF: jax.Array) -> tuple[jax.Array, jax.Array]:
            logits_BxC = trained.logits(weights, z_BxTxF * sd_F + mean_F, n_frames_B)
            # An example's logit hangs on no other example: the sum's gradient is each one's own.
            return jnp.take_along_axis(logits_BxC, class_B[:, None], axis=1).sum(), logits_BxC

        gradient_BxTxF, logits_BxC = jax.grad(chosen, has_aux=True)(z_BxTxF)
        return z_BxTxF, gradient_BxTxF, logits_BxC

    return jax.jit(gradient)


def gradient_times_input(
    gradient: Gradient, weights: Weights, x_BxTxF, n_frames_B, class_B
) -> Attribution:
    """z · ∂logit/∂z on the normalised plane: what a linear network would owe to each value.

    Args:
      gradient: of make_gradient.
      weights: of one replica.
      x_BxTxF: raw features, as TrainedModel.examples gives them.
      n_frames_B: the clips' lengths.
      class_B: the class asked about, of each clip.
    """
    return _attribution(gradient, (weights, x_BxTxF, n_frames_B, class_B), [_CLIP], [1])


def integrated_gradients(
    gradient: Gradient, weights: Weights, x_BxTxF, n_frames_B, class_B, n_points: int = 16
) -> Attribution:
    """z · ∫₀¹ ∂logit/∂z (a·z) da (Sundararajan, Taly & Yan, ICML 2017), from the training mean.

    Args:
      gradient: of make_gradient.
      weights: of one replica.
      x_BxTxF: raw features, as TrainedModel.examples gives them.
      n_frames_B: the clips' lengths.
      class_B: the class asked about, of each clip.
      n_points: of the Gauss–Legendre quadrature. Max pools and ReLUs bend the path, so that more
        points leave a smaller gap.
    """
    points, shares = map(np.float32, np.polynomial.legendre.leggauss(n_points))
    batch = weights, x_BxTxF, n_frames_B, class_B
    return _attribution(gradient, batch, (points + 1) / 2, shares / 2)


def peak(values_TxF: np.ndarray, share: float = 0.5) -> tuple[int, int] | None:
    """The shortest stretch of frames that holds a share of all that speaks for the class.

    Returns:
      Its first frame and the one after its last; None if nothing speaks for the class.
    """
    sum_T = np.concatenate([[0.0], np.maximum(values_TxF, 0).sum(1, dtype=np.float64).cumsum()])
    if not sum_T[-1] > 0:
        return None
    # For each first frame the earliest end that is enough; rounding may leave none for the last.
    ends = np.searchsorted(sum_T, sum_T[:-1] + share * sum_T[-1] * (1 - 1e-9))
    first = int(np.argmin(np.where(ends < len(sum_T), ends - np.arange(len(ends)), len(sum_T))))
    return first, int(ends[first])


def _attribution(
    gradient: Gradient, batch: tuple, points: Sequence[float], shares: Sequence[float]
) -> Attribution:
    """z · the mean of ∂logit/∂z at points between the training mean and the clip, by their shares.

    Args:
      gradient: of make_gradient.
      batch: weights, x_BxTxF, n_frames_B, class_B.
      points: the scales that `gradient` takes.
      shares: one a point.
    """
    weights, *arrays = batch
    arrays = [jnp.asarray(array) for array in arrays]
    slope_BxTxF = 0.0
    # A loop of the host: XLA's CPU convolves many times slower inside a loop of its own.
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
