"""Layers against plain references: they are causal, lossless where they should be, and no more."""

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange, repeat

from openreel.vae.blocks import Block, CausalConv, FoldDown, FoldUp, SpatialConv
from openreel.vae.haar import haar, inverse_haar, inverse_temporal_haar, temporal_haar


@pytest.mark.parametrize("group", [None, 3])
def test_haar_is_inverted_and_its_first_channels_are_means(group: int | None) -> None:
    x = torch.randn(2, 6, 10, 6)
    y = haar(x, group)
    assert y.shape == (2, 3, 5, 24)
    torch.testing.assert_close(inverse_haar(y, group), x)
    means = F.avg_pool2d(rearrange(x, "t h w c -> t c h w"), 2)
    torch.testing.assert_close(y[..., :3], rearrange(means, "t c h w -> t h w c")[..., :3])


def test_temporal_haar_is_inverted() -> None:
    x = torch.randn(6, 3, 2, 5)
    y = temporal_haar(x)
    torch.testing.assert_close(y[..., :5], (x[0::2] + x[1::2]) / 2)
    torch.testing.assert_close(inverse_temporal_haar(y), x)


def test_the_convolutions_are_conv3d_of_a_clip_that_stood_still_before() -> None:
    space, time = SpatialConv(4), CausalConv(4)
    x = torch.randn(7, 6, 5, 4)
    y, _ = time(space(x), None)
    reference_TCHW = F.conv2d(
        rearrange(x, "t h w c -> t c h w"), space.conv.weight, space.conv.bias, padding=1
    )
    still = torch.cat([reference_TCHW[:1]] * 2 + [reference_TCHW])
    reference = F.conv3d(
        rearrange(still, "t c h w -> 1 c t h w"),
        rearrange(time.linear.weight, "o (k i) -> o i k 1 1", k=3),
        time.linear.bias,
    )
    torch.testing.assert_close(y, rearrange(reference, "1 c t h w -> t h w c"))


def test_a_block_begins_as_the_identity() -> None:
    x = torch.randn(3, 4, 4, 8)
    assert torch.equal(Block(8)(x, None)[0], x)


def test_folds_with_room_for_every_channel_lose_nothing() -> None:
    x = torch.randn(1 + 8, 6, 4, 3)
    x[0] = x[0].mean(-1, keepdim=True)
    folded, past = FoldDown(3, 3 * 4 * 4, time=4, space=2)(x, None)
    assert folded.shape == (3, 3, 2, 48)
    assert past is not None
    unfolded, _ = FoldUp(48, 3, time=4, space=2)(folded, None)
    torch.testing.assert_close(unfolded, x)


def test_the_first_frame_is_a_fold_by_itself() -> None:
    fold = FoldDown(2, 8, time=4, space=1)
    x = torch.randn(5, 1, 1, 2)
    first, past = fold(x[:1], None)
    still, _ = fold(repeat(x[:1], "1 h w c -> t h w c", t=4), past)
    torch.testing.assert_close(first, still)
    whole, _ = fold(x, None)
    later, _ = fold(x[1:], past)
    torch.testing.assert_close(whole, torch.cat([first, later]))
