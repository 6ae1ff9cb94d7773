"""Attention plans: a pattern of attention is a permutation of the tokens plus segment lengths.

Attention is always variable-length attention over contiguous segments. A pattern brings the tokens
that may see each other together; the model never sees a mask, and a new pattern is a new planner
here, with no new kernel. No torch.

    Two samples with patch grids (t, h, w) = (2, 1, 2) and (1, 1, 2), tokens 0..5:

        full                 [0 1 2 3 | 4 5]            each sees its own sample
        windows (1, -, -)    [0 1 | 2 3 | 4 5]          one frame at a time (spatial)
        windows (-, 1, 1)    [0 2 | 1 3 | 4 | 5]        one place through time (temporal)
        causal               [0 1 | 2 3 | 4 5]          its own frame and those before: here the
             keys            [0 1 | 0 1 2 3 | 4 5]      groups of queries and keys differ

    L   packed tokens        S   samples        G   groups of a plan        M   places of keys
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from openreel.pipeline.errors import InputError

Grid = tuple[int, int, int]
"""patches of a sample along (t, h, w)"""
Sides = tuple[int | None, int | None, int | None]
"""tokens of a group along (t, h, w); None is the whole axis"""
Window = Sides | Literal["causal"]
"""what a token sees: its window's tokens, or its own and the earlier frames of its sample"""
Kept = npt.NDArray[np.int64]
"""ascending places, in a sample's order (t h w), of the tokens that it keeps"""

FULL: Window = (None, None, None)
SPATIAL: Window = (1, None, None)
TEMPORAL: Window = (None, 1, 1)
CAUSAL: Window = "causal"


@dataclass(frozen=True, kw_only=True, eq=False)
class AttentionPlan:
    """Tokens reordered by permutation form groups of the given lengths.

    A group's tokens see each other; or, where key_order is given, the tokens of its own group of
    keys. A token may stand in several of those.
    """

    permutation: npt.NDArray[np.int64] | None
    """(L,): the token that stands at each place; None is the identity"""
    lengths: tuple[int, ...]
    """(G,): tokens of each group, in the permuted order"""
    key_order: npt.NDArray[np.int64] | None = None
    """(M,): the token that stands at each place of the keys; None: the same as the queries"""
    key_lengths: tuple[int, ...] | None = None
    """(G,): keys of each group; None: the same as the queries"""

    def __post_init__(self) -> None:
        if (self.key_order is None) != (self.key_lengths is None):
            raise ValueError("key_order, key_lengths: got one of the two; accepted: both or none")
        orders = (("lengths", self.lengths, self.permutation),)
        keys = (("key_lengths", self.key_lengths or (), self.key_order),)
        for name, lengths, order in orders + keys:
            if order is not None and sum(lengths) != len(order):
                raise ValueError(f"{name}: got a sum of {sum(lengths)}; accepted: {len(order)}")
        if self.key_lengths is not None and len(self.key_lengths) != len(self.lengths):
            got = len(self.key_lengths)
            raise ValueError(f"key_lengths: got {got} groups; accepted: {len(self.lengths)}")

    @property
    def cu_seqlens(self) -> npt.NDArray[np.int32]:
        """(G + 1,) cumulative lengths, as variable-length attention kernels want them."""
        return cumulative(self.lengths)


def cumulative(lengths: Sequence[int]) -> npt.NDArray[np.int32]:
    """(S,) lengths -> (S + 1,) int32 offsets, beginning with 0."""
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)


def windows(
    grids: Sequence[Grid], window: Window, kept: Sequence[Kept | None] | None = None
) -> AttentionPlan:
    """Non-overlapping windows inside each sample; the last along an axis may be smaller.

    (None, None, None) is full attention, (1, None, None) spatial, (None, 1, 1) temporal,
    (None, h, w) patchwise columns, (t, h, w) a W.A.L.T space-time window, "causal" a sample's own
    and earlier frames. Tokens are grouped by their places in the whole grid, of which kept names
    those that are there; None keeps all. Raises InputError for a window side below 1.
    """
    if kept is None:
        kept = [None] * len(grids)
    if window == CAUSAL:
        return _causal(grids, kept)
    if isinstance(window, str) or any(side is not None and side < 1 for side in window):
        accepted = "sides of at least 1, or None for the whole axis; or causal"
        raise InputError("window", window, accepted)
    if window == FULL:
        pairs = zip(grids, kept, strict=True)
        return AttentionPlan(permutation=None, lengths=tuple(length(g, k) for g, k in pairs))
    orders: list[npt.NDArray[np.int64]] = []
    lengths: list[int] = []
    offset = 0
    for grid, own in zip(grids, kept, strict=True):
        if own is None:
            order, group_lengths = _sample_windows(grid, window)
        else:
            order, group_lengths = _grouped(_cells(grid, window)[own])
        orders.append(order + offset)
        lengths.extend(group_lengths)
        offset += len(order)
    permutation = np.concatenate(orders) if orders else np.zeros(0, np.int64)
    return AttentionPlan(permutation=permutation, lengths=tuple(lengths))


def length(grid: Grid, kept: Kept | None) -> int:
    """Tokens of a sample that are there."""
    t, h, w = grid
    return t * h * w if kept is None else len(kept)


def _causal(grids: Sequence[Grid], kept: Sequence[Kept | None]) -> AttentionPlan:
    """A group of queries a frame, whose keys are all tokens of the sample up to that frame.

    Tokens lie in the order of their frames, so that queries stay where they are and keys are a
    prefix of the sample. Prefixes overlap, and a kernel takes each place for one group: keys are
    laid out once for every frame that sees them, (t + 1) / 2 times in all. That costs memory for a
    layer's keys and values, and no product more than the pattern has.
    """
    lengths: list[int] = []
    key_lengths: list[int] = []
    orders: list[npt.NDArray[np.int64]] = []
    offset = 0
    for grid, own in zip(grids, kept, strict=True):
        t, h, w = grid
        frames = np.full(t, h * w) if own is None else np.bincount(own // (h * w), minlength=t)
        frames = frames[frames > 0]
        seen = np.cumsum(frames)
        lengths.extend(frames.tolist())
        key_lengths.extend(seen.tolist())
        orders.extend(np.arange(offset, offset + n, dtype=np.int64) for n in seen)
        offset += int(seen[-1])
    key_order = np.concatenate(orders) if orders else np.zeros(0, np.int64)
    return AttentionPlan(
        permutation=None,
        lengths=tuple(lengths),
        key_order=key_order,
        key_lengths=tuple(key_lengths),
    )


@lru_cache(maxsize=4096)
def _sample_windows(grid: Grid, window: Sides) -> tuple[npt.NDArray[np.int64], tuple[int, ...]]:
    """The token order and group lengths of one whole sample."""
    order, lengths = _grouped(_cells(grid, window))
    order.setflags(write=False)
    return order, lengths


def _cells(grid: Grid, window: Sides) -> npt.NDArray[np.int64]:
    """(L,) the number of the window that each token of a whole sample lies in."""
    sides = [full if side is None else side for side, full in zip(window, grid, strict=True)]
    places = np.indices(grid).reshape(3, -1)
    counts = [-(-full // side) for side, full in zip(sides, grid, strict=True)]
    cell = [place // side for place, side in zip(places, sides, strict=True)]
    numbers: npt.NDArray[np.int64] = (cell[0] * counts[1] + cell[1]) * counts[2] + cell[2]
    return numbers


def _grouped(cells: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], tuple[int, ...]]:
    """Tokens brought together by their cells, and how many each cell has that has any."""
    numbers = np.bincount(cells)
    order = np.argsort(cells, kind="stable").astype(np.int64)
    return order, tuple(numbers[numbers > 0].tolist())
