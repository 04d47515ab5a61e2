"""Augmentation within the step: drawn anew for every clip in every epoch, on the device.

All of it acts on normalised planes, whose zero is the training mean.

Axes: B batch, T frames, F feature columns, M masks, C classes.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class OnlineAugmentation(NamedTuple):
    """What to do to each clip; a zero leaves it as it is."""

    time_masks: int = 0  # spans of frames set to zero (SpecAugment, Park et al., Interspeech 2019)
    time_mask_frames: int = 25  # the widest; each has a width drawn from 0 to this
    frequency_masks: int = 0  # likewise of columns
    frequency_mask_columns: int = 10
    frequency_shift: int = 0  # columns, up or down: of a log-mel, its pitch and formants
    time_shift: int = 0  # frames cut off at the start, at most
    level_sd: float = 0.0  # of a number added to a whole clip: of a log-mel, its gain
    noise_sd: float = 0.0  # of a number added to each value
    mixup: float = 0.0  # α of Beta(α, α), from which shares are drawn (Zhang et al., ICLR 2018)

    @property
    def changes_clips(self) -> bool:
        """Whether anything but mixup is on."""
        amounts = self.frequency_shift, self.time_shift, self.level_sd, self.noise_sd
        return any((self.time_masks, self.frequency_masks, *amounts))


NONE = OnlineAugmentation()


def augment(
    settings: OnlineAugmentation, key: jax.Array, x_BxTxF: jax.Array, n_frames_B: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return a batch with each clip changed, and the clips' lengths; the padding stays zero.

    Args:
      settings: its mixup is ignored, see `mix`.
      key: of everything that is drawn.
      x_BxTxF: normalised planes.
      n_frames_B: length of each clip.
    """
    n_clips, n_frames, n_columns = x_BxTxF.shape
    shift_key, start_key, level_key, noise_key, time_key, frequency_key = jax.random.split(key, 6)
    if settings.time_shift:
        # At most half of a clip.
        most_B = jnp.minimum(settings.time_shift, n_frames_B // 2)
        start_B = jnp.floor(jax.random.uniform(start_key, (n_clips,)) * (most_B + 1))
        start_B = start_B.astype(jnp.int32)
        x_BxTxF = _shifted(x_BxTxF, -start_B, axis=1)
        n_frames_B = n_frames_B - start_B
    if settings.frequency_shift:
        most = settings.frequency_shift
        x_BxTxF = _shifted(x_BxTxF, jax.random.randint(shift_key, (n_clips,), -most, most + 1), 2)
    if settings.level_sd:
        x_BxTxF += settings.level_sd * jax.random.normal(level_key, (n_clips, 1, 1))
    if settings.noise_sd:
        x_BxTxF += settings.noise_sd * jax.random.normal(noise_key, x_BxTxF.shape)
    inside_BxT = jnp.arange(n_frames) < n_frames_B[:, None]
    shown = inside_BxT[..., None]
    if settings.time_masks:
        spans = settings.time_masks, settings.time_mask_frames
        shown &= ~_spans(time_key, *spans, n_frames_B, n_frames)[..., None]
    if settings.frequency_masks:
        spans = settings.frequency_masks, settings.frequency_mask_columns
        n_columns_B = jnp.full_like(n_frames_B, n_columns)
        shown &= ~_spans(frequency_key, *spans, n_columns_B, n_columns)[:, None]
    return jnp.where(shown, x_BxTxF, 0.0), n_frames_B


def mix(
    alpha: float,
    key: jax.Array,
    x_BxTxF: jax.Array,
    n_frames_B: jax.Array,
    target_BxC: jax.Array,
    mask_B: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return clips mixed with the next one of the batch, lengths and targets (mixup).

    Batches are shuffled, so the next one is any. A mixture is as long as the longer of the two.
    Rows that pad the batch mix with nothing.
    """
    share_B = jax.random.beta(key, alpha, alpha, (len(mask_B),))
    share_B = jnp.where(mask_B & jnp.roll(mask_B, -1), share_B, 1.0)

    def mixed(of_B___: jax.Array) -> jax.Array:
        share = share_B.reshape(-1, *(1,) * (of_B___.ndim - 1)).astype(of_B___.dtype)
        return share * of_B___ + (1 - share) * jnp.roll(of_B___, -1, axis=0)

    longer_B = jnp.maximum(n_frames_B, jnp.roll(n_frames_B, -1))
    n_frames_B = jnp.where(share_B < 1, longer_B, n_frames_B)
    return mixed(x_BxTxF), n_frames_B, mixed(target_BxC)


def _shifted(x_BxTxF: jax.Array, by_B: jax.Array, axis: int) -> jax.Array:
    """Return each clip moved along an axis, with zeros where nothing comes from."""
    size = x_BxTxF.shape[axis]
    source_BxS = jnp.arange(size) - by_B[:, None]
    shape = [len(by_B), 1, 1]
    shape[axis] = size
    moved = jnp.take_along_axis(
        x_BxTxF, jnp.clip(source_BxS, 0, size - 1).reshape(shape), axis=axis
    )
    return jnp.where(((source_BxS >= 0) & (source_BxS < size)).reshape(shape), moved, 0.0)


def _spans(key: jax.Array, n_masks: int, widest: int, length_B: jax.Array, size: int) -> jax.Array:
    """Return which of `size` indices are masked, bool [B, size], by spans within each length."""
    width_key, start_key = jax.random.split(key)
    shape = len(length_B), n_masks
    width_BxM = jax.random.randint(width_key, shape, 0, widest + 1)
    width_BxM = jnp.minimum(width_BxM, length_B[:, None])
    share_BxM = jax.random.uniform(start_key, shape)
    start_BxM = jnp.floor(share_BxM * (length_B[:, None] - width_BxM + 1)).astype(jnp.int32)
    index = jnp.arange(size)
    after_BxMxS = index >= start_BxM[..., None]
    return jnp.any(after_BxMxS & (index < (start_BxM + width_BxM)[..., None]), axis=1)
