"""Latents of any size <-> patch tokens, exactly.

A grid that does not divide is padded inside its last patches; the padded values are marked as not
valid, so that they carry no loss, and are cut off on the way back.

    C T H W   latent channels and grid      L   tokens = t h w      D   values of a token = C p q r
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from einops import rearrange, repeat

from openreel.packing.plan import Grid

Array = Any
"""a numpy array or a torch tensor: einops serves both"""
Patch = tuple[int, int, int]
"""latent positions of a token along (t, h, w)"""


def patch_grid(size: tuple[int, int, int], patch: Patch) -> Grid:
    """Patches along (t, h, w) for a latent size (T, H, W)."""
    t, h, w = (math.ceil(n / p) for n, p in zip(size, patch, strict=True))
    return t, h, w


def patchify(latents: npt.NDArray[np.float32], patch: Patch) -> npt.NDArray[np.float32]:
    """(C, T, H, W) -> (L, D), time outermost; padded with zeros up to whole patches."""
    _, *size = latents.shape
    missing = [(-n) % p for n, p in zip(size, patch, strict=True)]
    padded = np.pad(latents, [(0, 0), *((0, m) for m in missing)])
    p, q, r = patch
    return np.ascontiguousarray(
        rearrange(padded, "c (t p) (h q) (w r) -> (t h w) (c p q r)", p=p, q=q, r=r)
    )


def unpatchify(tokens: Array, size: tuple[int, int, int], patch: Patch) -> Array:
    """(L, D) -> (C, T, H, W) for the true latent size (T, H, W): the inverse of patchify."""
    t, h, w = patch_grid(size, patch)
    p, q, r = patch
    latents = rearrange(
        tokens, "(t h w) (c p q r) -> c (t p) (h q) (w r)", t=t, h=h, w=w, p=p, q=q, r=r
    )
    return latents[:, : size[0], : size[1], : size[2]]


def valid_values(size: tuple[int, int, int], patch: Patch, channels: int) -> npt.NDArray[np.bool_]:
    """(L, D): False where a token's value is padding."""
    inside = patchify(np.ones((1, *size), np.float32), patch) > 0.5
    valid: npt.NDArray[np.bool_] = repeat(inside, "l v -> l (c v)", c=channels)
    return valid


def positions(grid: Grid) -> npt.NDArray[np.int32]:
    """(L, 3): each token's place (t, h, w) in its own sample, whatever its place in a pack."""
    places: npt.NDArray[np.int32] = rearrange(np.indices(grid, np.int32), "a t h w -> (t h w) a")
    return places
