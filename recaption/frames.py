"""A clip's frames as the captioner sees them: few, square, the aspect kept.

Letterboxed, never squeezed: a ball stays round at every aspect ratio, and left stays left.

    B clips, T frames, H W rows and columns, S the model's square side, C colours
"""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
import numpy.typing as npt
import torch
from einops import rearrange
from torch import Tensor

Frames = npt.NDArray[np.uint8]

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""of CLIP's training images, as every open_clip model expects"""
MEAN_COLOUR = tuple(round(255 * m) for m in MEAN)


def sampled(num_frames: int, wanted: int) -> list[int]:
    """Indices of at most `wanted` distinct frames, evenly spaced from the first to the last."""
    count = min(num_frames, wanted)
    return [int(i) for i in np.linspace(0, num_frames - 1, count).round()]


def letterbox(frame_HWC: Frames, side: int) -> Frames:
    """(S, S, C) uint8: the whole frame, centred on the mean colour."""
    height, width = frame_HWC.shape[:2]
    scale = side / max(height, width)
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(frame_HWC, (columns, rows), interpolation=interpolation)
    square = np.empty((side, side, 3), np.uint8)
    square[:] = MEAN_COLOUR
    top, left = (side - rows) // 2, (side - columns) // 2
    square[top : top + rows, left : left + columns] = small
    return square


def prepare(frames: Iterable[Frames], length: int, num_frames: int, side: int) -> Frames:
    """(T, S, S, C) uint8 with T <= num_frames: a clip of `length` frames, each uint8 (H, W, C).

    frames may be a stream: one frame at a time is in memory. Raises ValueError for another length.
    """
    indices = set(sampled(length, num_frames))
    kept, count = [], 0
    for frame_HWC in frames:
        if count in indices:
            kept.append(letterbox(frame_HWC, side))
        count += 1
    if count != length:
        raise ValueError(f"frames: got {count}; accepted: {length}, the clip's length")
    return np.stack(kept)


def collate(clips: Sequence[Frames]) -> tuple[Tensor, Tensor]:
    """Prepared clips as one uint8 (B, T, S, S, C), zeros behind the end, and true lengths (B,)."""
    longest = max(map(len, clips))
    frames = np.zeros((len(clips), longest, *clips[0].shape[1:]), np.uint8)
    for row, clip in zip(frames, clips, strict=True):
        row[: len(clip)] = clip
    return torch.from_numpy(frames), torch.tensor([len(clip) for clip in clips])


def normalised(frames_BTSSC: Tensor) -> Tensor:
    """Float32 (B, T, C, S, S), zero mean and unit variance over CLIP's images."""
    mean, std = (torch.tensor(v, device=frames_BTSSC.device) for v in (MEAN, STD))
    video = (frames_BTSSC.float() / 255 - mean) / std
    return rearrange(video, "b t h w c -> b t c h w")
