"""Exact tiles: each is computed with a margin as wide as the layers reach, and cropped to its own.

No blending and no seams: the margin (halo) is derived from the layers, so a tile's latents and
pixels are those of the whole frame. No torch here.

    cell   one latent position; all sizes here are in cells
"""

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


def cell_bytes(config: AutoencoderConfig) -> tuple[int, int]:
    """(cache, working) bytes a cell of one coder needs: two frames a block; its widest buffers."""
    cache = working = 0
    positions, frames = (config.space_factor // config.patch) ** 2, config.step * config.time_factor
    for i, width in enumerate(config.widths):
        if i > 0:
            time, space = config.folds[i - 1]
            positions, frames = positions // space**2, frames // time
        cache += config.blocks[i] * 2 * width * positions * _FLOAT_BYTES
        # the 3x3 convolution's nine columns beside a block's input, activation and output
        working = max(working, (9 + 3) * width * positions * frames * _FLOAT_BYTES)
    return cache, working


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
    cache, working = cell_bytes(config)

    def planned(side: int) -> TilePlan:
        cut = list(tiles(rows, columns, side, halo))
        areas = [(r.outer_stop - r.outer_start) * (c.outer_stop - c.outer_start) for r, c in cut]
        return TilePlan(
            side=side,
            num_tiles=len(cut),
            cache_bytes=max(areas) * cache,
            working_bytes=max(areas) * working,
            overhead=sum(areas) / (rows * columns) - 1,
        )

    sides = sorted({max(1, math.ceil(max(rows, columns) / n)) for n in range(1, 65)} | {1})
    for side in reversed(sides):
        candidate = planned(side)
        if candidate.cache_bytes + candidate.working_bytes <= budget_bytes:
            return candidate
    least = planned(1)
    raise InputError(
        "budget_bytes", budget_bytes, f"{least.cache_bytes + least.working_bytes} or more"
    )
