"""Plans are permutations whose groups are exactly the windows."""

from itertools import product

import numpy as np
import pytest

from openreel.packing.plan import FULL, SPATIAL, TEMPORAL, Grid, Window, windows
from openreel.pipeline.errors import InputError

GRIDS: tuple[Grid, ...] = ((5, 6, 10), (1, 3, 7), (3, 1, 1), (4, 7, 5))


def groups_by_loop(grids: tuple[Grid, ...], window: Window) -> list[frozenset[int]]:
    """Tokens that share a window, the slow way."""
    found, offset = [], 0
    for grid in grids:
        cells: dict[tuple[int, ...], list[int]] = {}
        for token, place in enumerate(product(*(range(n) for n in grid))):
            cell = tuple(0 if s is None else p // s for p, s in zip(place, window, strict=True))
            cells.setdefault(cell, []).append(offset + token)
        found += [frozenset(tokens) for tokens in cells.values()]
        offset += int(np.prod(grid))
    return found


@pytest.mark.parametrize(
    "window",
    [FULL, SPATIAL, TEMPORAL, (5, 3, 4), (None, 2, 3), (1, 1, None), (2, 4, 4)],
    ids=str,
)
def test_groups_are_the_windows_of_each_sample(window: Window) -> None:
    plan = windows(GRIDS, window)
    total = sum(int(np.prod(g)) for g in GRIDS)
    order = np.arange(total) if plan.permutation is None else plan.permutation
    assert sorted(order) == list(range(total))
    got = [
        frozenset(order[a:b].tolist())
        for a, b in zip(plan.cu_seqlens, plan.cu_seqlens[1:], strict=False)
    ]
    assert set(got) == set(groups_by_loop(GRIDS, window))
    assert plan.cu_seqlens.dtype == np.int32


def test_full_attention_needs_no_permutation() -> None:
    assert windows(GRIDS, FULL).permutation is None
    assert windows(GRIDS, FULL).lengths == (300, 21, 3, 140)


def test_a_window_of_no_size_is_refused() -> None:
    with pytest.raises(InputError, match="window"):
        windows(GRIDS, (0, None, None))
