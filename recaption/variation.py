"""Variation: pixels change and the caption remains true, so that few clips teach more.

T frames, H W their sides, C colours
"""

import re

import numpy as np

from openreel.recaption.frames import MEAN_COLOUR, Frames

_MIRRORED = {"left": "right", "right": "left"}


def varied(
    frames_THWC: Frames, num_frames: int, variation: float, draw: np.random.Generator
) -> Frames:
    """At most num_frames of a prepared clip's frames, at uneven times, placed and scaled anew.

    variation: the largest change of scale, and of place as a share of each side.
    """
    import cv2

    length, height, width = frames_THWC.shape[:3]
    sides = np.array([width, height])
    count = min(length, num_frames)
    edges = np.linspace(0, length, count + 1)
    times = np.floor(edges[:-1] + draw.random(count) * np.diff(edges)).astype(int)
    scale = 1 - variation * draw.random()
    shift = sides * (variation * draw.uniform(-0.5, 0.5, size=2) + (1 - scale) / 2)
    place = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    if not variation:
        chosen: Frames = frames_THWC[times]
        return chosen
    return np.stack(
        [
            cv2.warpAffine(frames_THWC[t], place, (width, height), borderValue=MEAN_COLOUR)
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
