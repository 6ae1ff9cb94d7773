"""Attention plans: a pattern of attention is a permutation of the tokens plus segment lengths.

Attention is always variable-length attention over contiguous segments. A pattern brings the tokens
that may see each other together; the model never sees a mask, and a new pattern is a new planner
here, with no new kernel. No torch.

    Two samples with patch grids (t, h, w) = (2, 1, 2) and (1, 1, 2), tokens 0..5:

        full                 [0 1 2 3 | 4 5]            each sees its own sample
        windows (1, -, -)    [0 1 | 2 3 | 4 5]          one frame at a time (spatial)
        windows (-, 1, 1)    [0 2 | 1 3 | 4 | 5]        one place through time (temporal)

    L   packed tokens        S   samples        G   groups of a plan
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from openreel.pipeline.errors import InputError

Grid = tuple[int, int, int]
"""patches of a sample along (t, h, w)"""
Window = tuple[int | None, int | None, int | None]
"""tokens of a group along (t, h, w); None is the whole axis"""

FULL: Window = (None, None, None)
SPATIAL: Window = (1, None, None)
TEMPORAL: Window = (None, 1, 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class AttentionPlan:
    """Tokens reordered by permutation form groups of the given lengths."""

    permutation: npt.NDArray[np.int64] | None
    """(L,): the token that stands at each place; None is the identity"""
    lengths: tuple[int, ...]
    """(G,): tokens of each group, in the permuted order"""

    def __post_init__(self) -> None:
        if self.permutation is not None and sum(self.lengths) != len(self.permutation):
            raise ValueError(
                f"lengths: got a sum of {sum(self.lengths)}; accepted: {len(self.permutation)}"
            )

    @property
    def cu_seqlens(self) -> npt.NDArray[np.int32]:
        """(G + 1,) cumulative lengths, as variable-length attention kernels want them."""
        return cumulative(self.lengths)


def cumulative(lengths: Sequence[int]) -> npt.NDArray[np.int32]:
    """(S,) lengths -> (S + 1,) int32 offsets, beginning with 0."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)


def windows(grids: Sequence[Grid], window: Window) -> AttentionPlan:
    """Non-overlapping windows inside each sample; the last along an axis may be smaller.

    (None, None, None) is full attention, (1, None, None) spatial, (None, 1, 1) temporal,
    (None, h, w) patchwise columns, (t, h, w) a W.A.L.T space-time window. Raises InputError for a
    window side below 1.
    """
    if any(side is not None and side < 1 for side in window):
        raise InputError("window", window, "sides of at least 1, or None for the whole axis")
    if window == FULL:
        return AttentionPlan(permutation=None, lengths=tuple(t * h * w for t, h, w in grids))
    orders: list[npt.NDArray[np.int64]] = []
    lengths: list[int] = []
    offset = 0
    for grid in grids:
        order, group_lengths = _sample_windows(grid, window)
        orders.append(order + offset)
        lengths.extend(group_lengths)
        offset += grid[0] * grid[1] * grid[2]
    permutation = np.concatenate(orders) if orders else np.zeros(0, np.int64)
    return AttentionPlan(permutation=permutation, lengths=tuple(lengths))


@lru_cache(maxsize=4096)
def _sample_windows(grid: Grid, window: Window) -> tuple[npt.NDArray[np.int64], tuple[int, ...]]:
    """The token order and group lengths of one sample."""
    sides = [full if side is None else side for side, full in zip(window, grid, strict=True)]
    places = np.indices(grid).reshape(3, -1)
    counts = [-(-full // side) for side, full in zip(sides, grid, strict=True)]
    cell = [place // side for place, side in zip(places, sides, strict=True)]
    group = (cell[0] * counts[1] + cell[1]) * counts[2] + cell[2]
    order = np.argsort(group, kind="stable").astype(np.int64)
    order.setflags(write=False)
    return order, tuple(np.bincount(group).tolist())
