"""The known mask: which tokens of a sample are given.

One mask is the only conditioning on pixels there is: an image is frame 0, a video to be extended is
a prefix or a suffix, a join is both ends, inpainting is everything outside a box.

    L tokens of one sample, in the order (t h w)
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from einops import rearrange

from openreel.packing.plan import Grid
from openreel.pipeline.errors import InputError
from openreel.pipeline.keyed import generator

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class TaskMix:
    """How often each kind of conditioning is trained; the rest generates from text alone."""

    image: float = 0.1
    """the first latent frame is given"""
    prefix: float = 0.05
    suffix: float = 0.025
    both_ends: float = 0.025

    def __post_init__(self) -> None:
        shares = (self.image, self.prefix, self.suffix, self.both_ends)
        if min(shares) < 0 or sum(shares) > 1:
            raise InputError("task mix", shares, "shares of at least 0 with a sum of at most 1")

    def draw(self, grid: Grid, seed: int, *key: object) -> Mask:
        """(L,) known mask of one example; never all known."""
        frames = grid[0]
        if frames == 1:
            return known_frames(grid, 0, 0)
        random = generator(seed, "task", *key)
        place, count = random.random(), int(random.integers(1, frames))
        both = max(count, min(2, frames - 1))
        for share, head, tail in (
            (self.image, 1, 0),
            (self.prefix, count, 0),
            (self.suffix, 0, count),
            (self.both_ends, (both + 1) // 2, both // 2),
        ):
            if place < share:
                return known_frames(grid, head, tail)
            place -= share
        return known_frames(grid, 0, 0)


def known_frames(grid: Grid, head: int, tail: int) -> Mask:
    """(L,) True in the first `head` and the last `tail` latent frames."""
    known = np.zeros(grid, bool)
    known[:head] = True
    known[grid[0] - tail :] = True
    flat: Mask = rearrange(known, "t h w -> (t h w)")
    return flat
