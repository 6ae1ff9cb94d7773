"""The shape of an autoencoder. Presets are functions. No torch here."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from openreel.pipeline.errors import InputError
from openreel.vae.heads import FSQ, LFQ, Continuous, Head


def _is_power_of_two(value: int) -> bool:
    return value >= 1 and value & (value - 1) == 0


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """Pixels are Haar-patched, then pass levels of residual blocks with a fold between two levels.

    The decoder is the mirror image. An error is an InputError that names the field.
    """

    head: Head = field(default_factory=Continuous)
    """what the latents are made of: Continuous(channels), FSQ(levels) or LFQ(bits)"""
    patch: int
    """side of the pixel patch that the Haar transform takes to one position; a power of two"""
    widths: tuple[int, ...]
    """channels of each level, from the pixels to the latents"""
    blocks: tuple[int, ...]
    """residual blocks of each level"""
    folds: tuple[tuple[int, int], ...]
    """(time, space) factors between a level and the next, powers of two; time is better late"""
    step: int = 1
    """latent frames of a micro-step. Part of the codec's identity: it fixes the arithmetic."""

    def __post_init__(self) -> None:
        if not _is_power_of_two(self.patch):
            raise InputError("patch", self.patch, "a power of two")
        levels = len(self.widths)
        if levels < 1 or min(self.widths) < 1:
            raise InputError("widths", self.widths, "at least one level, widths of 1 or more")
        if len(self.blocks) != levels or min(self.blocks) < 0:
            raise InputError("blocks", self.blocks, f"{levels} counts of 0 or more, one a level")
        if len(self.folds) != levels - 1 or not all(
            _is_power_of_two(factor) for fold in self.folds for factor in fold
        ):
            raise InputError("folds", self.folds, f"{levels - 1} pairs of powers of two")
        if self.step < 1:
            raise InputError("step", self.step, "1 or more")

    @property
    def channels(self) -> int:
        """of the latents"""
        return self.head.channels

    @property
    def time_factor(self) -> int:
        """frames of a latent frame after the first"""
        return math.prod(time for time, _ in self.folds)

    @property
    def space_factor(self) -> int:
        """pixels of a latent's side"""
        return self.patch * math.prod(space for _, space in self.folds)

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """(C, T, H, W) of the latents of a video: T = 1 + ceil((num_frames - 1) / time_factor)."""
        return (
            self.channels,
            1 + math.ceil((num_frames - 1) / self.time_factor),
            math.ceil(height / self.space_factor),
            math.ceil(width / self.space_factor),
        )

    def stored(self) -> dict[str, Any]:
        """Plain values for JSON; the head's own field (channels, levels or bits) tells which."""
        plain = dataclasses.asdict(self)
        head: dict[str, Any] = plain.pop("head")
        return {**head, **plain}


def from_stored(stored: object) -> AutoencoderConfig:
    """The inverse of stored(). Raises TypeError or InputError if it isn't one."""

    def as_tuples(value: object) -> object:  # JSON has lists
        return tuple(map(as_tuples, value)) if isinstance(value, list) else value

    if not isinstance(stored, dict):
        raise TypeError("a list or a number where a mapping should be")
    plain: dict[str, Any] = {name: as_tuples(value) for name, value in stored.items()}
    for kind in (Continuous, FSQ, LFQ):
        own = {f.name for f in dataclasses.fields(kind)}
        if own <= plain.keys():
            head = kind(**{name: plain.pop(name) for name in own})
            return AutoencoderConfig(head=head, **plain)
    raise TypeError("neither channels, levels nor bits")


def with_head(config: AutoencoderConfig, head: Head) -> AutoencoderConfig:
    """The same body with another head, as in with_head(small(), FSQ())."""
    return dataclasses.replace(config, head=head)


def tiny() -> AutoencoderConfig:
    """4x8x8, under a million parameters: learns coloured shapes in two minutes on two CPU cores."""
    return AutoencoderConfig(patch=8, widths=(96, 96), blocks=(1, 2), folds=((4, 1),), step=2)


def small() -> AutoencoderConfig:
    """4x8x8, 13 million parameters: real clips in hours on two CPU cores.

    No layer is narrower than 96 channels: below that, a CPU's convolutions become slow.
    """
    return AutoencoderConfig(
        patch=4, widths=(96, 192, 384), blocks=(1, 2, 3), folds=((1, 2), (4, 1)), step=2
    )


def base() -> AutoencoderConfig:
    """4x8x8, for real footage on a GPU; 136 million parameters."""
    return AutoencoderConfig(
        patch=2,
        widths=(128, 384, 768, 768),
        blocks=(2, 4, 4, 4),
        folds=((1, 2), (2, 2), (2, 1)),
        step=2,
    )


def coarse() -> AutoencoderConfig:
    """8x16x16, an eighth of base's latents, for long or large videos; 27 million parameters."""
    return AutoencoderConfig(
        patch=4,
        widths=(128, 256, 384, 512),
        blocks=(2, 2, 2, 2),
        folds=((1, 2), (2, 2), (4, 1)),
    )
