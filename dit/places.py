"""Where a token lies in its own sample, as fractions of its sides (NaViT, arXiv 2307.06304, 2.1).

Rotary positions tell tokens how far apart they are; a prompt such as "moves left" also needs to
know which are at the left and which come last. Fractions mean the same at any size and length.

    L packed tokens   S samples   F frequencies
"""

import math

import torch
from einops import rearrange
from torch import Tensor

NUM_FREQUENCIES = 4
WIDTH = 3 * (1 + 2 * NUM_FREQUENCIES)
"""values of a token's place"""


def places(positions_L3: Tensor, grids_S3: Tensor, sample_L: Tensor) -> Tensor:
    """(L, WIDTH): each axis from -1 to 1, with sines and cosines of half a turn, one, two, four."""
    centre_L3 = 2 * (positions_L3.float() + 0.5) / grids_S3.float()[sample_L] - 1
    octave_F = 2.0 ** torch.arange(NUM_FREQUENCIES, device=positions_L3.device)
    angle_L3F = math.pi / 2 * rearrange(centre_L3, "l a -> l a 1") * octave_F
    parts = [rearrange(centre_L3, "l a -> l a 1"), angle_L3F.sin(), angle_L3F.cos()]
    return rearrange(torch.cat(parts, dim=-1), "l a f -> l (a f)")
