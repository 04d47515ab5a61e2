"""Augmentation within the step: drawn anew for every clip in every epoch, on the device.

Axes: B batch, T frames, F feature columns, M masks.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp


class OnlineAugmentation(NamedTuple):
    """What to do to each clip; zeros leave it as it is."""

    time_masks: int = 0  # spans of frames set to zero, the training mean (SpecAugment, Park et al.,
    time_mask_frames: int = 25  # Interspeech 2019); each has a width drawn from 0 to this
    frequency_masks: int = 0  # likewise of columns
    frequency_mask_columns: int = 10

    def __bool__(self) -> bool:
        return bool(self.time_masks or self.frequency_masks)


NONE = OnlineAugmentation()


def augment(
    settings: OnlineAugmentation, key: jax.Array, x_BxTxF: jax.Array, n_frames_B: jax.Array
) -> jax.Array:
    """Return a normalised batch, changed; frames past the end of a clip stay as they are."""
    time_key, frequency_key = jax.random.split(key)
    n_columns_B = jnp.full_like(n_frames_B, x_BxTxF.shape[2])
    spans = functools.partial(_masked, n_rows=x_BxTxF.shape[0])
    hidden_BxT = spans(
        time_key, settings.time_masks, settings.time_mask_frames, n_frames_B, x_BxTxF.shape[1]
    )
    hidden_BxF = spans(
        frequency_key,
        settings.frequency_masks,
        settings.frequency_mask_columns,
        n_columns_B,
        x_BxTxF.shape[2],
    )
    return jnp.where(hidden_BxT[..., None] | hidden_BxF[:, None], 0.0, x_BxTxF)


def _masked(
    key: jax.Array, n_masks: int, widest: int, length_B: jax.Array, size: int, *, n_rows: int
) -> jax.Array:
    """Return which of `size` indices are masked, bool [B, size], by spans within each length."""
    width_key, start_key = jax.random.split(key)
    width_BxM = jax.random.randint(width_key, (n_rows, n_masks), 0, widest + 1)
    width_BxM = jnp.minimum(width_BxM, length_B[:, None])
    share_BxM = jax.random.uniform(start_key, (n_rows, n_masks))
    start_BxM = jnp.floor(share_BxM * (length_B[:, None] - width_BxM + 1)).astype(jnp.int32)
    index = jnp.arange(size)
    after_BxMxS = index >= start_BxM[..., None]
    return jnp.any(after_BxMxS & (index < (start_BxM + width_BxM)[..., None]), axis=1)
