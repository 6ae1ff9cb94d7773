"""Attention stays inside its segments, in every backend that runs here and for every plan."""

import pytest
import torch
from torch import Tensor

from openreel.dit.attention import Segments, attend, choose_backend
from openreel.packing.plan import FULL, SPATIAL, TEMPORAL, Grid, Window, windows

CPU = torch.device("cpu")
GRIDS: tuple[Grid, ...] = ((2, 3, 4), (1, 5, 2), (2, 3, 4), (3, 1, 1))


def self_segments(window: Window) -> Segments:
    plan = windows(GRIDS, window)
    order = None if plan.permutation is None else torch.from_numpy(plan.permutation)
    return Segments(plan.lengths, plan.lengths, CPU, order)


def random_qkv(queries: int, keys: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    lengths = (queries, keys, keys)
    q, k, v = (torch.randn(n, 2, 8, generator=generator, requires_grad=True) for n in lengths)
    return q, k, v


@pytest.mark.parametrize("window", [FULL, SPATIAL, TEMPORAL, (1, 2, 2), (2, 2, None)], ids=str)
def test_stacked_segments_equal_one_masked_attention(window: Window) -> None:
    segments = self_segments(window)
    assert len(segments.stacks.shapes) < len(segments.q_lengths), "some segments must be stacked"
    total = sum(segments.q_lengths)
    results = []
    for backend in ("sdpa", "reference"):
        q, k, v = random_qkv(total, total)
        out = attend(q, k, v, segments, backend)
        gradients = torch.autograd.grad(out.square().sum(), (q, k, v))
        results.append((out, *gradients))
    for ours, reference in zip(*results, strict=True):
        torch.testing.assert_close(ours, reference, atol=1e-5, rtol=1e-5)


def test_cross_attention_takes_other_lengths_for_keys() -> None:
    segments = Segments((5, 3, 5), (2, 7, 2), CPU)
    q, k, v = random_qkv(13, 11)
    torch.testing.assert_close(
        attend(q, k, v, segments, "sdpa"), attend(q, k, v, segments, "reference")
    )


@pytest.mark.parametrize("window", [FULL, SPATIAL, TEMPORAL, (1, 2, 2)], ids=str)
def test_no_gradient_crosses_a_segment(window: Window) -> None:
    segments = self_segments(window)
    total = sum(segments.q_lengths)
    order = torch.arange(total) if segments.permutation is None else segments.permutation
    mine = order[: segments.q_lengths[0]]
    others = order[segments.q_lengths[0] :]
    q, k, v = random_qkv(total, total)
    loss = attend(q, k, v, segments, "sdpa")[mine].square().sum()
    for gradient in torch.autograd.grad(loss, (q, k, v)):
        assert gradient[mine].abs().sum() > 0
        assert not gradient[others].any(), "exactly zero, not merely small"


def test_the_backend_follows_device_and_precision() -> None:
    assert choose_backend(CPU, torch.float32) == "sdpa"
    assert choose_backend(torch.device("cuda"), torch.bfloat16) == "varlen"
    assert choose_backend(torch.device("cuda"), torch.float32) == "sdpa"
