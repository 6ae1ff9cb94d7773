"""Every planner equals one masked dense attention, and nothing leaks through what it hides.

The mask is written down token by token from positions; it knows nothing of permutations or groups.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from openreel.dit.attention import Segments, attend
from openreel.packing.patches import positions
from openreel.packing.plan import CAUSAL, FULL, SPATIAL, TEMPORAL, Grid, Kept, Window, windows
from openreel.pipeline.errors import InputError

GRIDS: tuple[Grid, ...] = ((3, 4, 5), (1, 3, 6), (2, 5, 3), (4, 1, 1), (3, 4, 5))
PLANNERS: dict[str, Window] = {
    "full": FULL,
    "spatial": SPATIAL,
    "temporal": TEMPORAL,
    "W.A.L.T spatial window": (1, 4, 4),
    "W.A.L.T space-time window": (5, 2, 2),
    "patchwise columns": (None, 2, 3),
    "causal in time": CAUSAL,
}
planners = pytest.mark.parametrize("window", PLANNERS.values(), ids=PLANNERS)
dropped = pytest.mark.parametrize("drop", [False, True], ids=["whole", "dropped"])


def kept_tokens(drop: bool) -> list[Kept | None]:
    """Half of the tokens of most samples; one keeps all, and one a single token."""
    if not drop:
        return [None] * len(GRIDS)
    rng = np.random.default_rng(0)
    counts = [int(np.prod(grid)) for grid in GRIDS]
    halves: list[Kept | None] = [np.sort(rng.permutation(n)[: n // 2]) for n in counts]
    halves[1], halves[3] = None, np.array([2])
    return halves


def places(kept: list[Kept | None]) -> list[tuple[int, ...]]:
    """(sample, t, h, w) of each packed token."""
    return [
        (sample, *place)
        for sample, (grid, own) in enumerate(zip(GRIDS, kept, strict=True))
        for place in positions(grid)[slice(None) if own is None else own].tolist()
    ]


def sees(query: tuple[int, ...], key: tuple[int, ...], window: Window) -> bool:
    if query[0] != key[0]:
        return False
    if isinstance(window, str):
        return key[1] <= query[1]
    sides = zip(query[1:], key[1:], window, strict=True)
    return all(side is None or a // side == b // side for a, b, side in sides)


def mask_of(kept: list[Kept | None], window: Window) -> Tensor:
    tokens = places(kept)
    return torch.tensor([[sees(q, k, window) for k in tokens] for q in tokens])


def random_qkv(count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(count, 2, 8, generator=generator).requires_grad_() for _ in range(3)]


def planned(qkv: list[Tensor], kept: list[Kept | None], window: Window) -> Tensor:
    plan = windows(GRIDS, window, kept)
    q, k, v = qkv
    return attend(q, k, v, Segments.of(plan, torch.device("cpu")), "sdpa")


@planners
@dropped
def test_a_plan_equals_one_masked_attention(window: Window, drop: bool) -> None:
    kept = kept_tokens(drop)
    mask = mask_of(kept, window)
    assert mask.any(1).all()
    assert 0 < mask.sum() < mask.numel(), "the pattern must hide something"
    weights = torch.randn(len(mask), 2, 8, generator=torch.Generator().manual_seed(1))
    results = []
    for ours in (True, False):
        qkv = random_qkv(len(mask))
        if ours:
            out = planned(qkv, kept, window)
        else:
            q, k, v = (rearrange(x, "l n k -> n l k") for x in qkv)
            dense = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
            out = rearrange(dense, "n l k -> l n k")
        results.append((out, *torch.autograd.grad((out * weights).sum(), qkv)))
    for got, wanted in zip(*results, strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)


@planners
@dropped
def test_gradients_are_zero_wherever_a_token_sees_nothing(window: Window, drop: bool) -> None:
    kept = kept_tokens(drop)
    mask = mask_of(kept, window)
    qkv = random_qkv(len(mask))
    out = planned(qkv, kept, window)
    for token in range(0, len(mask), 5):
        gradients = torch.autograd.grad(out[token].sum(), qkv, retain_graph=True)
        q, k, v = (g.flatten(1).abs().sum(1) for g in gradients)
        assert not q[torch.arange(len(mask)) != token].any(), "a query moves its own output alone"
        assert not k[~mask[token]].any(), "exactly zero, not merely small"
        assert not v[~mask[token]].any()
        assert v[mask[token]].all(), "what is seen has a gradient"


def test_dropping_nothing_leaves_every_plan_as_it_is() -> None:
    everything = [np.arange(np.prod(grid)) for grid in GRIDS]
    for window in PLANNERS.values():
        whole, listed = windows(GRIDS, window), windows(GRIDS, window, everything)
        assert whole.lengths == listed.lengths
        assert whole.key_lengths == listed.key_lengths
        for name in ("permutation", "key_order"):
            assert np.array_equal(getattr(whole, name), getattr(listed, name))


def test_causal_keys_are_prefixes_and_an_image_is_full_attention() -> None:
    plan = windows([(3, 1, 2), (1, 2, 2)], CAUSAL)
    assert plan.lengths == (2, 2, 2, 4)
    assert plan.key_lengths == (2, 4, 6, 4)
    assert plan.permutation is None
    assert plan.key_order is not None
    assert plan.key_order.tolist() == [0, 1, *range(4), *range(6), 6, 7, 8, 9]


def test_a_pattern_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match=r"window: got .casual.; accepted: .* or causal"):
        windows(GRIDS, "casual")  # type: ignore[arg-type]
