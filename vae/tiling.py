"""Exact tiles: each is computed with a margin as wide as the layers reach, and cropped to its own.

No blending and no seams: the margin (halo) is derived from the layers, so a tile's latents and
pixels are those of the whole frame. No torch here.

    cell   one latent position; all sizes here are in cells
"""

import bisect
import math
from collections.abc import Iterator
from dataclasses import dataclass

from openreel.pipeline.errors import InputError
from openreel.vae.config import AutoencoderConfig

_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Span:
    """One axis of a tile: [start, stop) is its own; [outer_start, outer_stop) is computed."""

    start: int
    stop: int
    outer_start: int
    outer_stop: int

    def outer(self, scale: int = 1) -> slice:
        """What to read, with scale elements a cell."""
        return slice(self.outer_start * scale, self.outer_stop * scale)

    def own(self, scale: int = 1) -> slice:
        """Where the result goes."""
        return slice(self.start * scale, self.stop * scale)

    def crop(self, scale: int = 1) -> slice:
        """The tile's own part of what was computed."""
        first = self.start - self.outer_start
        return slice(first * scale, (first + self.stop - self.start) * scale)


def spans(size: int, side: int, halo: int) -> list[Span]:
    """Cut an axis of `size` cells into pieces of at most `side`, each with its halo."""
    return [
        Span(at, min(at + side, size), max(at - halo, 0), min(at + side + halo, size))
        for at in range(0, size, side)
    ]


def tiles(height: int, width: int, side: int, halo: int) -> Iterator[tuple[Span, Span]]:
    """Rows and columns of each tile of a grid of height x width cells."""
    for rows in spans(height, side, halo):
        for columns in spans(width, side, halo):
            yield rows, columns


@dataclass(frozen=True, kw_only=True)
class TilePlan:
    """What coding at a size will take, and the tile side that was chosen for it."""

    side: int
    """cells"""
    num_tiles: int
    cache_bytes: int
    """what one tile's stream remembers between micro-steps; exact"""
    working_bytes: int
    """the largest buffers inside a micro-step; an upper estimate"""
    overhead: float
    """cells computed over cells kept, minus 1"""
    step: int
    """latent frames of a micro-step; part of the codec's identity, so that it isn't chosen here"""

    @property
    def num_bytes(self) -> int:
        """Both together: what must fit the budget."""
        return self.cache_bytes + self.working_bytes

    @property
    def words(self) -> str:
        """For a person."""
        tiles = "whole frames" if self.num_tiles == 1 else f"{self.num_tiles} tiles a frame"
        extra = f", {self.overhead:.0%} computed twice" if self.num_tiles > 1 else ""
        return (
            f"{tiles}{extra}; micro-steps of {self.step} latent frames; "
            f"{self.cache_bytes / 2**20:,.1f} MiB carried on and about "
            f"{self.working_bytes / 2**20:,.1f} MiB at work, besides the weights"
        )


def cell_bytes(config: AutoencoderConfig) -> tuple[int, int]:
    """(cache, working) bytes a cell of one coder needs: two frames a block; its widest buffers."""
    positions, frames = (config.space_factor // config.patch) ** 2, config.step * config.time_factor
    pixels = 3 * config.space_factor**2 * frames * _FLOAT_BYTES
    cache = working = 0
    for i, width in enumerate(config.widths):
        if i > 0:
            time, space = config.folds[i - 1]
            positions, frames = positions // space**2, frames // time
        cache += config.blocks[i] * 2 * width * positions * _FLOAT_BYTES
        # A micro-step's three taps side by side beside what leads to them and comes of them; the
        # 3x3 convolution's nine columns are of one frame.
        working = max(working, (10 * frames + 9) * width * positions * _FLOAT_BYTES)
    return cache, pixels + working


def plan(
    config: AutoencoderConfig, *, halo: int, height: int, width: int, budget_bytes: int
) -> TilePlan:
    """The largest tile whose cache and buffers fit the budget, for a video of any length.

    Args:
        halo: cells, Autoencoder.halo.
        height, width: pixels.
        budget_bytes: memory for activations, besides the weights and the result.

    Raises:
        InputError: not even a tile of one cell fits.
    """
    _, _, rows, columns = config.latent_shape(1, height, width)

    def planned(side: int) -> TilePlan:
        # A tile's area is a product, so that the two axes can be looked at one after the other.
        outer = [
            [s.outer_stop - s.outer_start for s in spans(size, side, halo)]
            for size in (rows, columns)
        ]
        return _plan_of(
            side=side,
            num_tiles=len(outer[0]) * len(outer[1]),
            largest=max(outer[0]) * max(outer[1]),
            overhead=sum(outer[0]) * sum(outer[1]) / (rows * columns) - 1,
            step=config.step,
            bytes_each=cell_bytes(config),
        )

    def fits(side: int) -> bool:
        return planned(side).num_bytes <= budget_bytes

    if not fits(1):
        raise InputError("budget_bytes", budget_bytes, f"{planned(1).num_bytes} or more")
    longest = max(rows, columns)
    most = bisect.bisect_left(range(2, longest + 1), True, key=lambda side: not fits(side)) + 1
    # As few tiles along the longer axis, but of one size.
    return planned(math.ceil(longest / math.ceil(longest / most)))


def one_tile(
    *, rows: int, columns: int, step: int, cell_bytes: tuple[int, int], budget_bytes: int
) -> TilePlan:
    """The plan of an autoencoder that can't be tiled: rows x columns cells, (cache, working) bytes
    each. Raises InputError if they don't fit the budget."""
    found = _plan_of(
        side=max(rows, columns),
        num_tiles=1,
        largest=rows * columns,
        overhead=0.0,
        step=step,
        bytes_each=cell_bytes,
    )
    if found.num_bytes > budget_bytes:
        accepted = f"{found.num_bytes} or more: this autoencoder can't be computed in tiles exactly"
        raise InputError("budget_bytes", budget_bytes, accepted)
    return found


def _plan_of(
    *,
    side: int,
    num_tiles: int,
    largest: int,
    overhead: float,
    step: int,
    bytes_each: tuple[int, int],
) -> TilePlan:
    """The plan of tiles of which the largest has so many cells of (cache, working) bytes each."""
    cache, working = bytes_each
    return TilePlan(
        side=side,
        num_tiles=num_tiles,
        cache_bytes=largest * cache,
        working_bytes=largest * working,
        overhead=overhead,
        step=step,
    )
