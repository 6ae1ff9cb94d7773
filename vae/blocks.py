"""The layers: causal in time, finite reach in space, and each carries its past as a value.

Every layer maps (x, past) to (y, past). The past is None at the start of a stream, and what a call
returns is handed to the next one. Nothing is kept in the module, so two streams cannot mix.

    T H W C   frames, rows, columns, channels; channels come last, so that a norm or a linear map
              sees each position alone and gives it the same bits whatever surrounds it
"""

from typing import TypeAlias, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from openreel.vae.haar import (
    haar,
    halvings,
    inverse_haar,
    inverse_temporal_haar,
    temporal_haar,
)

Past: TypeAlias = "Tensor | tuple[Past, ...] | None"
"""what a layer remembers; None at the start of a stream"""


def _least_positions() -> int:
    """Below some rows a thread, a CPU's matrix product takes another kernel, with other last bits.

    Adding zeros up to this many positions keeps small tiles on the kernel of the large ones.
    """
    return 16 * torch.get_num_threads()


class Pointwise(nn.Linear):
    """A linear map of each position's channels; (T, H, W, C) -> (T, H, W, C')."""

    def forward(self, x_THWC: Tensor) -> Tensor:
        frames, height, width, _ = x_THWC.shape
        missing = _least_positions() - frames * height * width
        if missing <= 0:
            return F.linear(x_THWC, self.weight, self.bias)
        rows = F.pad(rearrange(x_THWC, "t h w c -> (t h w) c"), (0, 0, 0, missing))
        y = F.linear(rows, self.weight, self.bias)[:-missing]
        return rearrange(y, "(t h w) c -> t h w c", t=frames, h=height)


def passing(width: int, width_out: int) -> Pointwise:
    """A linear map that begins by passing on as many channels as fit, unchanged.

    With the blocks beginning as identities, the whole autoencoder begins as a linear transform
    coder and learns from there, instead of first having to find out how to pass a picture on.
    """
    linear = Pointwise(width, width_out)
    nn.init.eye_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


class RMSNorm(nn.Module):
    """Divide each position by the root mean square of its channels: no statistics over T, H, W."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x_THWC: Tensor) -> Tensor:
        return F.rms_norm(x_THWC, (x_THWC.shape[-1],), self.weight, eps=1e-6)


class SpatialConv(nn.Module):
    """A 3x3 convolution of each frame alone; (T, H, W, C) -> (T, H, W, C)."""

    reach = 1

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=self.reach)

    def forward(self, x_THWC: Tensor) -> Tensor:
        height, width = x_THWC.shape[1:3]
        missing = max(0, -(-_least_positions() // height) - width)
        x_TCHW = rearrange(F.pad(x_THWC, (0, 0, 0, missing)), "t h w c -> t c h w")
        return rearrange(self._convolved(x_TCHW)[..., :width], "t c h w -> t h w c")

    def _convolved(self, x_TCHW: Tensor) -> Tensor:
        if torch.is_grad_enabled() or x_TCHW.is_cuda:
            return cast(Tensor, self.conv(x_TCHW))
        # A CPU's convolution unfolds all that it gets to nine times its size: one frame at a time.
        # Parts keep the strides by which it knows that channels come last; a frame with a new axis
        # would be taken for a picture with channels first, whose sums depend on its size.
        return torch.cat([self.conv(x_1CHW) for x_1CHW in torch.split(x_TCHW, 1)])


class CausalConv(nn.Module):
    """A convolution in time over a frame and the two before it; (T, H, W, C) -> (T, H, W, C).

    The past is the last two input frames; a stream starts as if its first frame had stood still.
    """

    taps = 3

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = Pointwise(self.taps * width, width)

    def forward(self, x: Tensor, past: Past) -> tuple[Tensor, Past]:
        frames = x.shape[0]
        if past is None:
            past = x[:1].expand(self.taps - 1, -1, -1, -1)
        x = torch.cat([cast(Tensor, past), x])
        side_by_side = torch.cat([x[i : i + frames] for i in range(self.taps)], dim=-1)
        return self.linear(side_by_side), x[frames:].clone()


class Block(nn.Module):
    """x + time(act(norm(space(act(norm(x)))))): begins as the identity.

    The activation is the hard swish, SiLU made of a clamp and two products: on a CPU, torch's SiLU
    and GELU give a number other last bits in the middle of a tensor than near its end, which would
    break exact tiling.
    """

    reach = SpatialConv.reach

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm_space, self.space = RMSNorm(width), SpatialConv(width)
        self.norm_time, self.time = RMSNorm(width), CausalConv(width)
        nn.init.zeros_(self.time.linear.weight)
        nn.init.zeros_(self.time.linear.bias)

    def forward(self, x: Tensor, past: Past) -> tuple[Tensor, Past]:
        y = self.space(F.hardswish(self.norm_space(x)))
        y, kept = self.time(F.hardswish(self.norm_time(y)), past)
        return x + y, kept


class FoldDown(nn.Module):
    """Haar-fold time x space x space positions into one; the first frame is a fold by itself."""

    def __init__(self, width: int, width_out: int, time: int, space: int) -> None:
        super().__init__()
        self.time, self.space = time, space
        self.linear = passing(width * time * space * space, width_out)

    def forward(self, x: Tensor, past: Past) -> tuple[Tensor, Past]:
        if past is None:
            x = torch.cat([x[:1].expand(self.time - 1, -1, -1, -1), x])
        for _ in range(halvings(self.space)):
            x = haar(x)
        for _ in range(halvings(self.time)):
            x = temporal_haar(x)
        return self.linear(x), ()


class FoldUp(nn.Module):
    """The way back: one position becomes time x space x space; the first fold keeps one frame."""

    def __init__(self, width: int, width_out: int, time: int, space: int) -> None:
        super().__init__()
        self.time, self.space = time, space
        self.linear = passing(width, width_out * time * space * space)

    def forward(self, x: Tensor, past: Past) -> tuple[Tensor, Past]:
        x = self.linear(x)
        for _ in range(halvings(self.time)):
            x = inverse_temporal_haar(x)
        for _ in range(halvings(self.space)):
            x = inverse_haar(x)
        return (x[self.time - 1 :] if past is None else x), ()


class Chain(nn.ModuleList):
    """Layers one after the other; its past is the tuple of theirs."""

    def forward(self, x: Tensor, past: Past) -> tuple[Tensor, Past]:
        now = []
        for i, layer in enumerate(self):
            x, kept = layer(x, None if past is None else cast(tuple[Past, ...], past)[i])
            now.append(kept)
        return x, tuple(now)
