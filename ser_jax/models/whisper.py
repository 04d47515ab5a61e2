"""Fine-tuning: Whisper's encoder and a probe of its hidden states, as one network.

Axes: B batch, T frames, M mel bands, P positions, D width, N hidden states of a position, F columns
of their statistics, C classes.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from ser_jax.common import files
from ser_jax.common.errors import UserError
from ser_jax.encoders import embedding, weights, whisper
from ser_jax.encoders import network as encoder_network
from ser_jax.features.spec import LONGEST_EMBEDDED
from ser_jax.models.network import Network
from ser_jax.models.probe import Probe

ENCODER, NORM, PROBE = "encoder", "norm", "probe"  # the names of their parameters
_MOMENTUM = 0.99  # of the running statistics
_EPSILON = 1e-12  # of variances
_TOP = 2.0  # how far the floor of a clip's scaled log-mel lies below its peak
_SILENCE = -1.5  # its lowest value
# What the front end does not share with these settings: the end of a clip, and other planes.
_FREE = ("planes", "centered", "n_mfcc")


class Whisper(Network):
    """Log-mel → hidden states of every layer → mean and sd of each over a clip → a probe.

    So a training may begin with the probe of a frozen encoder (Kumar et al., ICLR 2022). A batch
    norm takes the place of that one's normalisation. Padding changes nothing.
    """

    size: tuple[int, ...] = ()  # mel bands, width, layers, MLP width, positions; () is read
    trained_layers: int = -1  # upper layers that train; −1 is all, with the convolutions
    context: float = 3.0  # s of silence, the clip included, that its positions see
    hidden: tuple[int, ...] = (256,)  # units of each dense layer of the probe
    input_dropout: float = 0.3  # of the pooled vector; train.dropout is that of the hidden layers
    rematerialise: bool = False  # compute layers again for their gradients, to save memory

    normalisation: ClassVar[tuple[float, float]] = whisper.SCALE
    is_pretrained: ClassVar[bool] = True

    @nn.nowrap
    def check(self) -> None:
        self._probe.check()
        if not (len(self.size) == 5 and all(type(n) is int and n > 0 for n in self.size)):
            raise UserError(
                f"model.size={self.size} must be five positive integers, or () to read them off "
                "the encoder's file."
            )
        if not 0 <= self.context <= LONGEST_EMBEDDED:
            raise UserError(
                f"model.context={self.context} must be between 0 and {LONGEST_EMBEDDED} seconds."
            )
        n_layers = self._size.n_layers
        if not (type(self.trained_layers) is int and -1 <= self.trained_layers <= n_layers):
            raise UserError(
                f"model.trained_layers={self.trained_layers} must be from −1 (all) to {n_layers}."
            )

    @nn.nowrap
    def check_features(self, settings: Mapping[str, Any]) -> None:
        needed = dataclasses.asdict(whisper.front_end(self._size.n_mels))
        wrong = [
            f"features.{key} is {settings[key]!r}, not {value!r}"
            for key, value in needed.items()
            if key not in _FREE and key in settings and settings[key] != value
        ]
        if wrong:
            raise UserError(
                f"the encoder needs the log-mel that it was trained on: {'; '.join(wrong)}."
            )

    @classmethod
    def read_fields(cls, fields: Mapping[str, Any], encoder: Path) -> dict[str, Any]:
        if fields.get("size"):
            return {}
        return {"size": dataclasses.astuple(weights.read_size(weights.file_in(encoder)))}

    @nn.nowrap
    def pretrained(self, encoder: Path) -> dict[str, Any]:
        size, params = weights.read(weights.file_in(encoder))
        if size != self._size:
            raise UserError(f"the encoder at {encoder} is {size}, and model.size is {self.size}.")
        return {ENCODER: params}

    @nn.nowrap
    def check_source(self, metadata: Mapping[str, Any], encoder: Path) -> None:
        if not (spec := metadata["features"].get("encoder")):
            return
        needed = {
            "sha256": files.sha256_of(weights.file_in(encoder)),
            "pooling": "statistics",
            "states": (),
            "context": self.context,
        }
        for key, value in needed.items():
            found = tuple(spec[key]) if key == "states" else spec[key]
            if found != value:
                raise UserError(
                    f"the probe in init_from has encoder.{key}={found!r}, and fine-tuning takes "
                    f"{value!r}; give a run with that, or change model.context."
                )

    @nn.nowrap
    def adopt(
        self, params: Mapping[str, Any], batch_stats: Mapping[str, Any], source: Mapping[str, Any]
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        if ENCODER in source["params"]:
            return super().adopt(params, batch_stats, source)
        mean_NxF, sd_NxF = (source["normalisation"][key] for key in ("mean_F", "sd_F"))
        running = {"mean": mean_NxF.reshape(-1), "var": sd_NxF.reshape(-1) ** 2}
        return {**params, PROBE: source["params"]}, {**batch_stats, NORM: running}

    @nn.nowrap
    def rate_factors(self, encoder_factor: float, layer_decay: float) -> "LayerwiseRates":
        return LayerwiseRates(encoder_factor, layer_decay, self._size.n_layers, self.trained_layers)

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
        if n_frames_B is None:
            n_frames_B = jnp.full(x.shape[0], x.shape[1])
        n_positions = -(-x.shape[1] // encoder_network.STRIDE)
        if n_positions > self._size.n_positions:
            raise UserError(
                f"clips of {x.shape[1]} frames are longer than the encoder takes; set "
                f"--config.input.max_frames={self._size.n_positions * encoder_network.STRIDE}."
            )
        n_context = round(self.context * whisper.Whisper.sampling_rate / whisper.Whisper.hop_length)
        # One position more, since the convolutions of the last one look beyond it.
        n_computed = min(max(n_positions, n_context) + 1, self._size.n_positions + 1)
        n_missing = n_computed * encoder_network.STRIDE - x.shape[1]
        x_BxTxM = jnp.pad(x, ((0, 0), (0, n_missing), (0, 0)))
        inside_BxTx1 = (jnp.arange(x_BxTxM.shape[1]) < n_frames_B[:, None])[..., None]
        peak_Bx1x1 = jnp.max(
            x_BxTxM, axis=(1, 2), where=inside_BxTx1, initial=_SILENCE, keepdims=True
        )
        x_BxTxM = jnp.where(inside_BxTx1, x_BxTxM, jnp.maximum(peak_Bx1x1 - _TOP, _SILENCE))
        n_positions_B = -(-n_frames_B // encoder_network.STRIDE)
        n_trained = self.trained_layers if train else -1  # saliency needs the input's gradient
        encoder = encoder_network.Encoder(
            self._size, self.dtype, n_trained, self.rematerialise, name=ENCODER
        )
        states = encoder(x_BxTxM, jnp.maximum(n_positions_B, n_context))
        x_BxNxF = embedding.statistics(states, n_positions_B, _EPSILON)
        norm = nn.BatchNorm(
            use_running_average=not train,
            momentum=_MOMENTUM,
            use_scale=False,
            use_bias=False,
            name=NORM,
        )
        mask_Bx1 = None if mask_B is None else mask_B[:, None]
        z_BxNF = norm(x_BxNxF.reshape(x.shape[0], -1), mask=mask_Bx1)
        return self._probe.copy(name=PROBE, parent=self)(
            z_BxNF.reshape(x_BxNxF.shape), train=train, dropout_rate=dropout_rate
        )

    @property
    def _size(self) -> encoder_network.Size:
        return encoder_network.Size(*self.size)

    @property
    def _probe(self) -> Probe:
        return Probe(
            n_classes=self.n_classes,
            dtype=self.dtype,
            pooling="weights",
            hidden=self.hidden,
            input_dropout=self.input_dropout,
            parent=None,
        )


@dataclasses.dataclass(frozen=True)
class LayerwiseRates:
    """Factors of the learning rate: less for lower layers, which hold what is general.

    Layer-wise decay as in ULMFiT (Howard & Ruder, ACL 2018).
    """

    encoder_factor: float  # of the topmost layer
    layer_decay: float  # from each layer to the one below
    n_layers: int
    n_trained: int  # −1 is all, with the convolutions

    def __call__(self, names: tuple[str, ...]) -> float:
        """Return the factor of a parameter; 0 if it does not train."""
        if names[0] != ENCODER:
            return 1.0
        if names[1] == "final_norm":
            depth = 0
        elif names[1].startswith("layer"):
            depth = self.n_layers - 1 - int(names[1].removeprefix("layer"))
        else:
            depth = self.n_layers
        if 0 <= self.n_trained <= depth and names[1] != "final_norm":
            return 0.0
        return self.encoder_factor * self.layer_decay**depth
