"""Variation: pixels change and the caption remains true, so that few clips teach more.

T frames, S the model's square side, C colours
"""

import re

import cv2
import numpy as np

from openreel.recaption.frames import MEAN_COLOUR, Frames

_MIRRORED = {"left": "right", "right": "left"}


def varied(
    frames_TSSC: Frames, num_frames: int, variation: float, draw: np.random.Generator
) -> Frames:
    """At most num_frames of a prepared clip's frames, at uneven times, placed and scaled anew.

    variation: the largest change of scale, and of place as a share of the side.
    """
    length, side = frames_TSSC.shape[:2]
    count = min(length, num_frames)
    edges = np.linspace(0, length, count + 1)
    times = np.floor(edges[:-1] + draw.random(count) * np.diff(edges)).astype(int)
    scale = 1 - variation * draw.random()
    shift = variation * side * draw.uniform(-0.5, 0.5, size=2) + side * (1 - scale) / 2
    place = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    return np.stack(
        [
            cv2.warpAffine(frames_TSSC[t], place, (side, side), borderValue=MEAN_COLOUR)
            for t in times
        ]
    )


def mirrored(text: str) -> str:
    """What a caption says of the clip in a mirror: left and right change places."""
    return re.sub(
        r"\b(left|right)(?=(?:wards?|most)?\b)",
        lambda m: _MIRRORED[m[1].lower()],
        text,
        flags=re.IGNORECASE,
    )
