"""A clip's frames as the captioner sees them: few, small, of the clip's own aspect.

No crop and no square: a frame fills as many patches as a square of equal area has, in the grid of
rows and columns that shows it largest. Never squeezed: what the grid has and the frame lacks is
padding in the mean colour, less than a patch at an edge.

    B clips, T frames, H W rows and columns, C colours
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from einops import rearrange
from torch import Tensor

from openreel.recaption.writer import Sight

Frames = npt.NDArray[np.uint8]

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""of CLIP's training images, as every open_clip model expects"""
MEAN_COLOUR = tuple(round(255 * m) for m in MEAN)


def sampled(num_frames: int, wanted: int) -> list[int]:
    """Indices of at most `wanted` distinct frames, evenly spaced from the first to the last."""
    count = min(num_frames, wanted)
    return [int(i) for i in np.linspace(0, num_frames - 1, count).round()]


def canvas(height: int, width: int, sight: Sight) -> tuple[int, int]:
    """(H, W) in which a frame of this size is shown largest, within the sight's area.

    Both sides are multiples of sight.multiple. A square frame gets the square, if there is one.
    """
    patch, room = sight.multiple, sight.max_area // sight.multiple**2
    ideal = math.sqrt(room * height / width)
    grids = []
    # The best grid has one of these counts of rows or columns: the ideal one, rounded either way.
    for count in (math.floor(ideal), math.ceil(ideal)):
        rows = min(max(count, 1), room)
        grids.append((rows, room // rows))
    for count in (math.floor(room / ideal), math.ceil(room / ideal)):
        columns = min(max(count, 1), room)
        grids.append((room // columns, columns))

    def scale(grid: tuple[int, int]) -> float:
        return min(grid[0] * patch / height, grid[1] * patch / width)

    best = max(scale(grid) for grid in grids)
    # Rounded, so that an edge which fits exactly does not need another patch.
    rows, columns = (max(1, math.ceil(round(side * best / patch, 6))) for side in (height, width))
    return rows * patch, columns * patch


def fitted(frame_HWC: Frames, sight: Sight) -> Frames:
    """(H, W, C) uint8 of the canvas: the whole frame, centred on the mean colour."""
    import cv2

    height, width = frame_HWC.shape[:2]
    sides = canvas(height, width, sight)
    scale = min(sides[0] / height, sides[1] / width)
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(frame_HWC, (columns, rows), interpolation=interpolation)
    shown = np.empty((*sides, 3), np.uint8)
    shown[:] = MEAN_COLOUR
    top, left = (sides[0] - rows) // 2, (sides[1] - columns) // 2
    shown[top : top + rows, left : left + columns] = small
    return shown


def prepare(frames: Iterable[Frames], length: int, sight: Sight) -> Frames:
    """(T, H, W, C) uint8 as the sight asks: a clip of `length` frames, each uint8 (H, W, C).

    frames may be a stream: one frame at a time is in memory. Raises ValueError for another length.
    """
    indices = set(sampled(length, sight.num_frames))
    kept, count = [], 0
    for frame_HWC in frames:
        if count in indices:
            kept.append(fitted(frame_HWC, sight))
        count += 1
    if count != length:
        raise ValueError(f"frames: got {count}; accepted: {length}, the clip's length")
    return np.stack(kept)


def collate(clips: Sequence[Frames]) -> tuple[Tensor, Tensor]:
    """Prepared clips as one uint8 (B, T, H, W, C), zeros outside each, and their T H W as (B, 3).

    The clips may differ in length and in grid: the tensor is as large as the largest side of each.
    """
    sizes = torch.tensor([clip.shape[:3] for clip in clips])
    frames = np.zeros((len(clips), *sizes.amax(0).tolist(), 3), np.uint8)
    for whole, clip in zip(frames, clips, strict=True):
        whole[: clip.shape[0], : clip.shape[1], : clip.shape[2]] = clip
    return torch.from_numpy(frames), sizes


def normalised(frames_BTHWC: Tensor) -> Tensor:
    """Float32 (B, T, C, H, W), zero mean and unit variance over CLIP's images."""
    mean, std = (torch.tensor(v, device=frames_BTHWC.device) for v in (MEAN, STD))
    video = (frames_BTHWC.float() / 255 - mean) / std
    return rearrange(video, "b t h w c -> b t c h w")
