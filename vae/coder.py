"""The two halves of the autoencoder: pixels to latents, latents to pixels.

Called on a whole clip with past=None they give a whole clip, which is how they are trained; called
on one micro-step after another they give the same to rounding, in constant memory.

    T H W   frames, rows, columns of pixels; t h w the same of latents
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from openreel.vae.blocks import Block, Chain, FoldDown, FoldUp, Past, passing
from openreel.vae.config import AutoencoderConfig
from openreel.vae.haar import haar, halvings, inverse_haar
from openreel.vae.heads import Continuous


class Encoder(nn.Module):
    """(T, H, W, 3) in [-1, 1] -> the head's features, (t, h, w, features).

    Of a continuous head these are mean and log variance side by side; of a discrete one the numbers
    that are quantised.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.patch, widths = config.patch, config.widths
        self.enter = passing(3 * config.patch**2, widths[0])
        self.levels = Chain()
        for i, width in enumerate(widths):
            if i > 0:
                self.levels.append(FoldDown(widths[i - 1], width, *config.folds[i - 1]))
            self.levels.extend(Block(width) for _ in range(config.blocks[i]))
        self.leave = passing(widths[-1], config.head.features)
        if isinstance(config.head, Continuous):
            with torch.no_grad():  # begins almost without noise
                self.leave.weight[config.channels :] = 0
                self.leave.bias[config.channels :] = -8

    @property
    def reach(self) -> int:
        """How many pixels beyond its own cell a latent depends on, on each side."""
        return _reach(self.levels, self.patch)

    def forward(self, x: Tensor, past: Past) -> tuple[Tensor, Past]:
        for _ in range(halvings(self.patch)):
            x = haar(x, group=3)
        x, kept = self.levels(self.enter(x), past)
        return self.leave(x), kept


class Decoder(nn.Module):
    """(t, h, w, channels) -> (T, H, W, 3), about [-1, 1]: the encoder's mirror image."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.patch, widths = config.patch, config.widths
        self.enter = passing(config.channels, widths[-1])
        self.levels = Chain()
        for i, width in reversed(list(enumerate(widths))):
            self.levels.extend(Block(width) for _ in range(config.blocks[i]))
            if i > 0:
                self.levels.append(FoldUp(width, widths[i - 1], *config.folds[i - 1]))
        self.leave = passing(widths[0], 3 * config.patch**2)

    @property
    def reach(self) -> int:
        """How many pixels away from a latent's own cell its influence ends, on each side."""
        return _reach(reversed(list(self.levels)), self.patch)

    def forward(self, x: Tensor, past: Past) -> tuple[Tensor, Past]:
        x, kept = self.levels(self.enter(x), past)
        x = self.leave(x)
        for _ in range(halvings(self.patch)):
            x = inverse_haar(x, group=3)
        return x, kept


def _reach(layers_from_pixels: Iterable[nn.Module], patch: int) -> int:
    pixels, scale = 0, patch
    for layer in layers_from_pixels:
        if isinstance(layer, Block):
            pixels += layer.reach * scale
        elif isinstance(layer, FoldDown | FoldUp):
            scale *= layer.space
    return pixels
