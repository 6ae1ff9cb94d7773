"""What a window costs one of diffusers' models, found without computing: a run on no data.

B C T H W   batch of 1, channels, frames, rows, columns
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from openreel.vae.diffusers_kinds import Kind, Layout, Model

_SIDE = 8
"""cells of the square on which a cell's share is found"""


def window_bytes(model: Model, kind: Kind, layout: Layout, num_frames: int) -> tuple[int, int]:
    """(cache, working) bytes a cell: what a stream carries on, and an upper estimate of the largest
    buffers inside a window, in fp32."""
    with torch.device("meta"):
        ghost = type(model).from_config(model.config)
    ghost.eval().requires_grad_(False)
    largest = 0

    def weigh(module: nn.Module, given: Any, found: Any) -> None:
        nonlocal largest
        # A result, its input with padding, and one more for what stands beside a residual block.
        held = sum(x.nbytes for x in _tensors(given)) + 2 * sum(x.nbytes for x in _tensors(found))
        largest = max(largest, held)

    for module in ghost.modules():
        if not list(module.children()):
            module.register_forward_hook(weigh)
    latents = layout.latent_shape(num_frames, _SIDE * layout.space_factor, 1)[1]
    first = min(layout.first, latents)
    sizes = [first] + [layout.window] * (latents > first)
    caches = []
    with torch.no_grad():
        past = None
        for i, size in enumerate(sizes):
            frames = size * layout.time_factor - (layout.time_factor - 1) * (i == 0)
            side = _SIDE * layout.space_factor
            pixels = torch.empty(1, 3, frames, side, side, device="meta")
            _, past = kind.encode(ghost, pixels, past)
        caches.append(sum(x.nbytes for x in _tensors(past)))
        past = None
        for size in sizes:
            z = torch.empty(1, layout.channels, size, _SIDE, _SIDE, device="meta")
            _, past = kind.decode(ghost, z, past)
        caches.append(sum(x.nbytes for x in _tensors(past)))
    return max(caches) // _SIDE**2, largest // _SIDE**2


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors of a value, however nested."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors(one)
