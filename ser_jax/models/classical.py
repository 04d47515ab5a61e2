"""The classical baseline: functionals of a clip, standardised, and an SVM or logistic regression.

scikit-learn finds the parameters, see ser_jax.train.classical; all else takes them as a network's.
Axes: B batch, T frames, F columns, Q percentiles, D functionals, S support vectors, C classes,
P pairs of classes.
"""

import itertools
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ser_jax.common.errors import UserError
from ser_jax.features import Array
from ser_jax.models.network import Network, check_choice

CLASSIFIERS = ("svm", "logistic")
PERCENTILES = (5, 25, 50, 75, 95)
_REACH = 2  # frames to each side that a delta is computed from


class Classical(Network):
    """Plane → functionals → an RBF kernel with support vectors, or a linear map → logits.

    An SVM has a machine for each pair of classes, whose decision is 1 at its margin. Its tanh is a
    vote, for the pair's first class or against: unlike the votes that SVC counts, it does not jump
    where a decision changes its sign, and has a slope for saliency; unlike the decisions' sum, it
    lets no single machine outvote the others.

    logits = vote·tanh(exp(−γ‖z − s‖²)·dual + threshold)·pairs + z·linear + bias, where an SVM has
    linear = 0 and a logistic regression vote = 0, so that one run can hold both.
    """

    classifier: str = "svm"  # RBF kernel, one against one; or logistic, multinomial
    cost: float = 1.0  # scikit-learn's C, the inverse weight of the penalty; of logistic, C · D

    takes_steps: ClassVar[bool] = False

    @nn.nowrap
    def check(self) -> None:
        check_choice("classifier", self.classifier, CLASSIFIERS)
        if not 0 < self.cost < np.inf:
            raise UserError(f"model.cost={self.cost} must be above 0.")

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        *,
        train: bool,
        dropout_rate: float | jax.Array = 0.0,
        mask_B: jax.Array | None = None,
        n_frames_B: jax.Array | None = None,
    ) -> jax.Array:
        """Return the logits of a batch; see Network."""
        del train, dropout_rate, mask_B
        x_BxD = functionals(x, n_frames_B)
        n_columns = x_BxD.shape[1]
        z_BxD = (x_BxD - self._fitted("mean", n_columns)) / self._fitted("sd", n_columns)
        support_SxD = self._fitted("support", 1, n_columns)
        pairs_PxC = pairs(self.n_classes)
        n_pairs = len(pairs_PxC)
        squares_BxS = (z_BxD**2).sum(1)[:, None] + (support_SxD**2).sum(1)
        # At the default precision, TF32 on a GPU, distances would be off by more than they differ.
        with jax.default_matmul_precision("highest"):
            distance_BxS = jnp.maximum(squares_BxS - 2 * z_BxD @ support_SxD.T, 0.0)
            kernel_BxS = jnp.exp(-self._fitted("gamma") * distance_BxS)
            dual_SxP = self._fitted("dual", 1, n_pairs)
            decision_BxP = kernel_BxS @ dual_SxP + self._fitted("threshold", n_pairs)
            votes_BxC = jnp.tanh(decision_BxP) @ pairs_PxC
            by_columns_BxC = z_BxD @ self._fitted("linear", n_columns, self.n_classes)
        return (
            self._fitted("vote") * votes_BxC + by_columns_BxC + self._fitted("bias", self.n_classes)
        )

    def _fitted(self, name: str, *shape: int) -> jax.Array:
        """Return a parameter; `shape` is that before the fit, which finds the support vectors."""
        if self.has_variable("params", name):
            return self.get_variable("params", name)
        return self.param(name, nn.initializers.ones, shape)


def pairs(n_classes: int) -> np.ndarray:
    """Return +1 for the first class of each pair and −1 for the second, in SVC's order: [P, C]."""
    unit_CxC = np.eye(n_classes, dtype=np.float32)
    return np.stack([a_C - b_C for a_C, b_C in itertools.combinations(unit_CxC, 2)])


def functionals(x_BxTxF: Array, n_frames_B: "Array | None" = None) -> Array:
    """Return mean, sd and percentiles over a clip's frames, of a plane and of its deltas.

    Deltas are the slope of a line through five frames, with the first and last frame repeated.

    Args:
      x_BxTxF: a plane, NumPy or JAX; XLA:CPU takes many times as long to sort as NumPy.
      n_frames_B: length of each clip; None if all have T frames.

    Returns:
      x_BxD, float32, D = 14·F: each functional's columns together, those of deltas after the
      plane's.
    """
    xp = x_BxTxF.__array_namespace__()
    x_BxTxF = x_BxTxF.astype(np.float32)
    n_clips, n_frames, _ = x_BxTxF.shape
    n_B = xp.full(n_clips, n_frames) if n_frames_B is None else n_frames_B
    inside_BxTx1 = (xp.arange(n_frames) < n_B[:, None])[..., None]
    last_Bx1xF = xp.take_along_axis(x_BxTxF, (n_B - 1)[:, None, None], axis=1)
    held_BxTxF = xp.where(inside_BxTx1, x_BxTxF, last_Bx1xF)
    held_BxTxF = xp.pad(held_BxTxF, ((0, 0), (_REACH, _REACH), (0, 0)), mode="edge")

    def shifted(by: int) -> Array:
        return held_BxTxF[:, _REACH + by : _REACH + by + n_frames]

    steps = range(1, _REACH + 1)
    delta_BxTxF = sum(k * (shifted(k) - shifted(-k)) for k in steps) / (
        2 * sum(k**2 for k in steps)
    )
    y_BxTxF = xp.concatenate([x_BxTxF, delta_BxTxF], axis=-1)

    def mean(of_BxTxF: Array) -> Array:
        return xp.where(inside_BxTx1, of_BxTxF, 0.0).sum(1) / n_B[:, None]

    mean_BxF = mean(y_BxTxF)
    sd_BxF = xp.sqrt(mean((y_BxTxF - mean_BxF[:, None]) ** 2) + 1e-12)  # has a slope at 0 too
    # Linear between the two nearest ranks, as numpy.percentile.
    ordered_BxFxT = xp.sort(xp.where(inside_BxTx1, y_BxTxF, xp.inf).swapaxes(1, 2), axis=-1)
    rank_BxQ = (n_B - 1)[:, None] * np.float32([p / 100 for p in PERCENTILES])
    below_BxQ = xp.floor(rank_BxQ).astype(xp.int32)
    above_BxQ = xp.minimum(below_BxQ + 1, (n_B - 1)[:, None])
    low_BxFxQ, high_BxFxQ = (
        xp.take_along_axis(ordered_BxFxT, rank[:, None], axis=-1) for rank in (below_BxQ, above_BxQ)
    )
    percentile_BxFxQ = low_BxFxQ + (rank_BxQ - below_BxQ)[:, None] * (high_BxFxQ - low_BxFxQ)
    percentile_BxQF = percentile_BxFxQ.swapaxes(1, 2).reshape(n_clips, -1)
    return xp.concatenate([mean_BxF, sd_BxF, percentile_BxQF], axis=-1)
