"""What plain VideoCoCa cannot see: the order of frames, and what moves between them.

Both additions are exactly zero for the first frame of a clip, whatever has been learnt, so that a
single image remains CoCa's to the bit.

    N frames of any number of clips, H W pixels, P patches a frame, D width
"""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F


class Moment(nn.Module):
    """A vector for each frame's number, less that of frame 0.

    Large at the start: one that begins near zero, like positions do, is not learnt (std 0.02 left
    motion at chance).
    """

    def __init__(self, num_frames: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(0.5 * torch.randn(num_frames, width))

    def forward(self, number_N: Tensor) -> Tensor:
        moment_ND: Tensor = (self.embedding - self.embedding[:1])[number_N]
        return rearrange(moment_ND, "n d -> n 1 d")


def local_contrast(frames_NCHW: Tensor, side: int, floor: float = 0.1) -> Tensor:
    """Each pixel less the mean around it, over the standard deviation around it; same shape.

    A pale band of the background then counts as much as a bright thing. side: of the surroundings;
    floor: a deviation below which nothing is made louder, in the input's units.
    """
    size = frames_NCHW.shape[-2:]

    def around(x_NCHW: Tensor) -> Tensor:
        return F.interpolate(F.avg_pool2d(x_NCHW, side), size, mode="bilinear", align_corners=False)

    apart_NCHW = frames_NCHW - around(frames_NCHW)
    return apart_NCHW / (around(apart_NCHW.square()).add(1e-6).sqrt() + floor)


class Stem(nn.Module):
    """Tokens (N, P, D) of what frames show beyond the clip's first frame.

    Three parts: how a frame's features differ from those of the frame before it, that difference
    times the features themselves, and the features. Differences are of features, not of pixels: a
    bright thing that comes and a dark one that goes change the same pixels alike, and only what
    each looked like tells them apart. The product of change in time and pattern in space is motion
    energy (Adelson and Bergen 1985): its sign is the direction, whatever the contrast. The features
    come from convolutions, which find edges far sooner than a cut into patches does. patch: even.
    """

    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.patch = patch
        channels, halved = max(2, width // 2), 2 if patch % 4 == 0 else 1
        stride = patch // 2 // halved
        self.features = nn.Sequential(
            nn.Conv2d(6, channels // 2, kernel_size=3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(channels // 2, channels, kernel_size=3, stride=halved, padding=1),
            nn.GroupNorm(1, channels),
            nn.GELU(),
        )
        self.pattern = nn.Conv2d(channels, channels, kernel_size=1)
        # Without a bias, so that nothing in is nothing out. Sees a little of the patches around.
        self.tokens = nn.Conv2d(
            3 * channels, width, kernel_size=stride + 2, stride=stride, padding=1, bias=False
        )

    def forward(self, frames_NCHW: Tensor, lengths: list[int]) -> Tensor:
        """frames: those of all clips, one clip after another. lengths: frames of each clip."""
        seen_NCHW = torch.cat([frames_NCHW, local_contrast(frames_NCHW, self.patch)], dim=1)
        features_NDHW = self.features(seen_NCHW)
        pattern_NDHW = self.pattern(features_NDHW)
        shown = []
        for clip, pattern in zip(
            features_NDHW.split(lengths), pattern_NDHW.split(lengths), strict=True
        ):
            step = torch.diff(clip, dim=0, prepend=clip[:1])
            before = torch.cat([pattern[:1], pattern[:-1]])
            later = torch.cat([torch.zeros_like(clip[:1]), clip[1:]])
            shown.append(torch.cat([step, step * (pattern + before), later], dim=1))
        tokens_NDHW: Tensor = self.tokens(torch.cat(shown))
        return rearrange(tokens_NDHW, "n d h w -> n (h w) d")
