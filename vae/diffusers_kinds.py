"""The four classes of diffusers that openreel drives: what each promises, and how it is stepped.

One entry of KINDS a class. A driver runs one window of frames or latents, with what the windows
before it left behind; nothing is kept in the module, so that two streams can't mix.

B C T H W   batch of 1, channels, frames, rows, columns; t latent frames
"""

import dataclasses
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from openreel.pipeline.errors import InputError
from openreel.vae.codec import Abilities

Model = Any
"""a class of diffusers' autoencoders; they share no interface that could be named"""
EVERYTHING = sys.maxsize
"""as a window: the whole video"""
Driver = Callable[[Model, Tensor, Any], tuple[Tensor, Any]]
"""(model, window (B, C, T, H, W), past) -> (result, past); past is None at a stream's start"""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The extents of a model's latents. A vae.codec.Shape."""

    channels: int
    time_factor: int
    space_factor: int
    first: int
    """latent frames that are computed together at a stream's start"""
    window: int
    """latent frames that are computed together later"""

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """(C, T, H, W) of the latents: T is 1 and whole windows."""
        count = -(-(num_frames - 1) // (self.time_factor * self.window))
        return (
            self.channels,
            1 + count * self.window,
            -(-height // self.space_factor),
            -(-width // self.space_factor),
        )


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Of each latent channel over the training set."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std):
            raise InputError("latents_std", f"{len(self.std)} values", f"{len(self.mean)}")
        if min(self.std) <= 0:
            raise InputError("latents_std", min(self.std), "values above 0")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One class of diffusers."""

    abilities: Abilities
    layout: Callable[[Model], Layout]
    """needs no weights; raises InputError for a configuration that can't be driven"""
    statistics: Callable[[Model], Statistics]
    encode: Driver
    """pixels in [-1, 1] -> mean and log variance side by side"""
    decode: Driver
    """latents as the model wants them -> pixels"""


def _wan_layout(model: Model) -> Layout:
    config = model.config
    return Layout(
        channels=config.z_dim,
        time_factor=2 ** sum(config.temperal_downsample),
        space_factor=2 ** (len(config.dim_mult) - 1) * (config.patch_size or 1),
        first=1,
        window=1,
    )


def _wan_statistics(model: Model) -> Statistics:
    config = model.config
    return Statistics(mean=tuple(config.latents_mean), std=tuple(config.latents_std))


def _wan_encode(model: Model, x_BCTHW: Tensor, past: Any) -> tuple[Tensor, Any]:
    from diffusers.models.autoencoders.autoencoder_kl_wan import patchify

    count = model._cached_conv_counts["encoder"]
    cache = [None] * count if past is None else list(past)
    if model.config.patch_size is not None:
        x_BCTHW = patchify(x_BCTHW, patch_size=model.config.patch_size)
    found = model.encoder(x_BCTHW, feat_cache=cache, feat_idx=[0])
    return model.quant_conv(found), tuple(cache)


def _wan_decode(model: Model, z_BCtHW: Tensor, past: Any) -> tuple[Tensor, Any]:
    from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify

    count = model._cached_conv_counts["decoder"]
    cache = [None] * count if past is None else list(past)
    found = model.decoder(
        model.post_quant_conv(z_BCtHW), feat_cache=cache, feat_idx=[0], first_chunk=past is None
    )
    if model.config.patch_size is not None:
        found = unpatchify(found, patch_size=model.config.patch_size)
    return found, tuple(cache)


def _scaled(model: Model) -> Statistics:
    """One scale for all channels, and no shift."""
    channels = model.config.latent_channels
    return Statistics(mean=(0.0,) * channels, std=(1 / model.config.scaling_factor,) * channels)


def _cogvideox_layout(model: Model) -> Layout:
    config = model.config
    return Layout(
        channels=config.latent_channels,
        time_factor=int(config.temporal_compression_ratio),
        space_factor=2 ** (len(config.block_out_channels) - 1),
        first=1 + model.num_latent_frames_batch_size,
        window=model.num_latent_frames_batch_size,
    )


def _cogvideox_encode(model: Model, x_BCTHW: Tensor, past: Any) -> tuple[Tensor, Any]:
    found, cache = model.encoder(x_BCTHW, conv_cache=past)
    return (found if model.quant_conv is None else model.quant_conv(found)), cache


def _cogvideox_decode(model: Model, z_BCtHW: Tensor, past: Any) -> tuple[Tensor, Any]:
    z_BCtHW = z_BCtHW if model.post_quant_conv is None else model.post_quant_conv(z_BCtHW)
    found, cache = model.decoder(z_BCtHW, conv_cache=past)
    return found, cache


def _hunyuan_layout(model: Model) -> Layout:
    config = model.config
    return Layout(
        channels=config.latent_channels,
        time_factor=config.temporal_compression_ratio,
        space_factor=config.spatial_compression_ratio,
        first=EVERYTHING,
        window=1,
    )


def _ltx_layout(model: Model) -> Layout:
    config = model.config
    if config.timestep_conditioning:
        accepted = "false: a decoder that denoises has no one answer to a latent"
        raise InputError("timestep_conditioning", True, accepted)
    return Layout(
        channels=config.latent_channels,
        time_factor=model.temporal_compression_ratio,
        space_factor=model.spatial_compression_ratio,
        first=EVERYTHING,
        window=1,
    )


def _ltx_statistics(model: Model) -> Statistics:
    std = model.latents_std / model.config.scaling_factor
    return Statistics(mean=tuple(model.latents_mean.tolist()), std=tuple(std.tolist()))


def _whole_encode(model: Model, x_BCTHW: Tensor, past: Any) -> tuple[Tensor, Any]:
    return model._encode(x_BCTHW), ()


def _whole_decode(model: Model, z_BCtHW: Tensor, past: Any) -> tuple[Tensor, Any]:
    return model.decode(z_BCtHW).sample, ()


_WHOLE = Abilities(causal=False, streams=False, tiles=False)

KINDS: Mapping[str, Kind] = {
    "AutoencoderKLWan": Kind(
        # Attention over a whole frame keeps it from being tiled.
        abilities=Abilities(causal=True, streams=True, tiles=False),
        layout=_wan_layout,
        statistics=_wan_statistics,
        encode=_wan_encode,
        decode=_wan_decode,
    ),
    "AutoencoderKLCogVideoX": Kind(
        abilities=Abilities(
            causal=False,
            streams=True,
            tiles=False,
            note="windows of 8 frames and 2 latents, fixed here, because its result depends on "
            "them; a frame moves the latents of its own window",
        ),
        layout=_cogvideox_layout,
        statistics=_scaled,
        encode=_cogvideox_encode,
        decode=_cogvideox_decode,
    ),
    "AutoencoderKLHunyuanVideo": Kind(
        abilities=dataclasses.replace(
            _WHOLE,
            note="videos above 16 frames go through its own temporal tiles, 16 frames each and 4 "
            "of them blended: its default",
        ),
        layout=_hunyuan_layout,
        statistics=_scaled,
        encode=_whole_encode,
        decode=_whole_decode,
    ),
    "AutoencoderKLLTXVideo": Kind(
        abilities=dataclasses.replace(_WHOLE, note="a clip is held whole"),
        layout=_ltx_layout,
        statistics=_ltx_statistics,
        encode=_whole_encode,
        decode=_whole_decode,
    ),
}
