"""Rotary positions in three axes (Su et al., arXiv 2104.09864, eq. 34), as Wan 2.1 splits them.

Computed from a token's own place (t, h, w), not from its place in a pack, and for any place: there
is no table to run off the end of.

    L packed tokens   N heads   K values of a head   P = K / 2 rotated pairs
"""

import torch
from einops import rearrange
from torch import Tensor


def axis_pairs(head_dim: int) -> tuple[int, int, int]:
    """Rotated pairs for (t, h, w): a third of the pairs each, what is left over goes to time."""
    side = head_dim // 6
    return head_dim // 2 - 2 * side, side, side


def rotations(positions_L3: Tensor, head_dim: int, theta: float = 10_000.0) -> Tensor:
    """(L, 3) places -> (L, P) complex rotations; angles in float64, so far places stay exact."""
    angles = []
    for axis, pairs in enumerate(axis_pairs(head_dim)):
        exponents = torch.arange(pairs, dtype=torch.float64, device=positions_L3.device) / pairs
        angles.append(torch.outer(positions_L3[:, axis].double(), theta**-exponents))
    angles_LP = torch.cat(angles, dim=-1)
    return torch.polar(torch.ones_like(angles_LP), angles_LP).to(torch.complex64)


def rotate(x_LNK: Tensor, rotations_LP: Tensor) -> Tensor:
    """Turn each neighbouring pair of values by its token's angle; in float32, back to x's dtype."""
    pairs = torch.view_as_complex(
        rearrange(x_LNK.float(), "l n (p two) -> l n p two", two=2).contiguous()
    )
    turned = torch.view_as_real(pairs * rearrange(rotations_LP, "l p -> l 1 p"))
    return rearrange(turned, "l n p two -> l n (p two)").to(x_LNK.dtype)
