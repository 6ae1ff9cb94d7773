"""The Haar transform in space and in time: invertible, exact, and what every fold is made of.

T H W C   frames, rows, columns, channels
"""

import torch
from einops import rearrange
from torch import Tensor


def haar(x_THWC: Tensor, group: int | None = None) -> Tensor:
    """One level of the 2x2 Haar transform, means first: (T, H, W, C) -> (T, H/2, W/2, 4C).

    The low band is a mean and keeps the pixels' range; the others are halved sums, twice as loud
    as in the orthonormal scaling, which brings faint detail closer to the means. The four bands
    are laid out within each group of channels (default: all of them).
    """
    a, b, c, d = rearrange(x_THWC, "t (h i) (w j) c -> (i j) t h w c", i=2, j=2)
    low, right, down, cross = a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d
    bands = torch.stack([low / 4, right / 2, down / 2, cross / 2])
    return rearrange(bands, "k t h w (g c) -> t h w (g k c)", c=group or x_THWC.shape[-1])


def inverse_haar(x_THWC: Tensor, group: int | None = None) -> Tensor:
    """The transform's inverse: (T, H, W, 4C) -> (T, 2H, 2W, C)."""
    size = group or x_THWC.shape[-1] // 4
    low, right, down, cross = rearrange(x_THWC, "t h w (g k c) -> k t h w (g c)", k=4, c=size)
    right, down, cross = right / 2, down / 2, cross / 2
    a, b = low + right + down + cross, low - right + down - cross
    c, d = low + right - down - cross, low - right - down + cross
    return rearrange(torch.stack([a, b, c, d]), "(i j) t h w c -> t (h i) (w j) c", i=2)


def temporal_haar(x_THWC: Tensor) -> Tensor:
    """Mean and difference of pairs of frames: (T, H, W, C) -> (T/2, H, W, 2C)."""
    a, b = rearrange(x_THWC, "(t k) h w c -> k t h w c", k=2)
    return torch.cat([(a + b) / 2, a - b], dim=-1)


def inverse_temporal_haar(x_THWC: Tensor) -> Tensor:
    """The transform's inverse: (T, H, W, 2C) -> (2T, H, W, C)."""
    mean, difference = x_THWC.chunk(2, dim=-1)
    pair = torch.stack([mean + difference / 2, mean - difference / 2])
    return rearrange(pair, "k t h w c -> (t k) h w c")


def halvings(factor: int) -> int:
    """How often a power of two is halved down to 1."""
    return factor.bit_length() - 1
