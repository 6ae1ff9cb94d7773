"""A loss taken apart: by noise level, by length and by area, each sample with its weight.

Losses of unlike levels and shapes do not compare - near 0 there is little to predict, a large
picture is easier a token - so that one mean says little of what is being learnt.

    S samples   K classes
"""

from bisect import bisect_left
from collections.abc import Sequence

import torch
from torch import Tensor

from openreel.packing.plan import Grid

LEVELS = tuple(f"{k / 10:.1f}-{(k + 1) / 10:.1f}" for k in range(10))
"""ten bins of the noise level; 1 is in the last"""
_FRAMES = (1, 4, 16, 64)
"""most latent frames of a class; images are the first"""
_AREA = (16, 64, 256, 1024, 4096)
"""most patches of a frame of a class"""


def _names(most: Sequence[int]) -> tuple[str, ...]:
    """(1, 4) -> 1, 2-4, 5+"""
    starts = [1, *(end + 1 for end in most)]
    inside = [str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, most, strict=False)]
    return (*inside, f"{starts[-1]}+")


FRAMES, AREA = _names(_FRAMES), _names(_AREA)


def broken_down(
    loss_S: Tensor, weights_S: Tensor, levels_S: Tensor, grids: Sequence[Grid]
) -> dict[str, Tensor]:
    """Name -> (2,) float64: the weighted sum of the losses of a class, and its weight.

    Over the classes of each of the three, both add up to those of the batch. Names are always all
    there, so that ranks can add them; a class without samples has weight 0.
    """
    device = loss_S.device
    frames = [bisect_left(_FRAMES, t) for t, _, _ in grids]
    area = [bisect_left(_AREA, h * w) for _, h, w in grids]
    class_S = {
        "level": (LEVELS, (levels_S * len(LEVELS)).long().clamp(max=len(LEVELS) - 1)),
        "frames": (FRAMES, torch.tensor(frames, device=device)),
        "area": (AREA, torch.tensor(area, device=device)),
    }
    weighted_S2 = torch.stack([loss_S.detach().double(), torch.ones_like(loss_S).double()], -1)
    weighted_S2 = weighted_S2 * weights_S.double()[:, None]
    found: dict[str, Tensor] = {}
    for kind, (names, of_sample_S) in class_S.items():
        sums_K2 = weighted_S2.new_zeros(len(names), 2).index_add(0, of_sample_S, weighted_S2)
        found |= {
            f"loss_by_{kind}/{name}": pair
            for name, pair in zip(names, sums_K2.unbind(), strict=True)
        }
    return found
