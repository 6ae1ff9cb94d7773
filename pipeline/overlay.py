"""How much of a picture is lines of writing: subtitles, captions, signs, logos.

A classical detector, cheap and without a model. Writing is thin strokes, much brighter or darker
than what is around them, many to a line, with calm above and below the line. Letters higher than
a tenth of the picture are missed, as is writing amid clutter; a far town can look like writing.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Grey = npt.NDArray[np.uint8]

_SIDE = 480
"""pixels of the longer side at which writing is looked for"""
_STROKE = 7
"""pixels; strokes are thinner"""
_CONTRAST, _USUAL_CONTRAST = 48, 72
"""levels by which every stroke, and half of a line's strokes, differ from what is around them"""
_LETTERS = (80, 40)
"""pixels, across and down, of letters that touch; what is larger and of one piece is an edge"""
_GAP = 13
"""pixels; strokes that are closer belong to one line"""
_HEIGHT = (5, 60)
"""pixels of a line, or of several that touch"""
_LENGTH = 2.0
"""heights; a line is longer"""
_FILL = 0.4
"""a line's share of its box, at least"""
_INK = (0.15, 0.65)
"""the strokes' share of the box"""
_STROKES = (1.2, 5.0)
"""strokes met on the way along a line for one height; a letter has one to three"""
_CLUTTER = 0.35
"""strokes above and below a line over those in it, at most: leaves and bricks go on"""


def text_area(luma: Grey) -> float:
    """The share of a picture, uint8 (H, W) of brightness, that lines of writing cover."""
    import cv2

    scale = _SIDE / max(luma.shape)
    if scale < 1:
        size = (max(1, round(luma.shape[1] * scale)), max(1, round(luma.shape[0] * scale)))
        luma = cv2.resize(luma, size, interpolation=cv2.INTER_AREA)
    if min(luma.shape) < 2 * _STROKE:
        return 0.0
    written = np.zeros(luma.shape, np.bool_)
    for grey in (luma, cv2.bitwise_not(luma)):
        for rows, columns in _lines(grey):
            written[rows, columns] = True
    return float(written.mean())


def _lines(grey: Grey) -> Iterator[tuple[slice, slice]]:
    """The rows and columns of each line that is written brighter than its ground."""
    import cv2

    square = np.ones((_STROKE, _STROKE), np.uint8)
    contrast = cv2.morphologyEx(grey, cv2.MORPH_TOPHAT, square)
    strokes = cv2.compare(contrast, _CONTRAST, cv2.CMP_GE)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(strokes)
    _, _, w, h, _ = stats.T
    letters = (w <= _LETTERS[0]) & (h <= _LETTERS[1])
    letters[0] = False  # the ground
    strokes = (letters * np.uint8(255))[labels]
    joined = cv2.morphologyEx(strokes, cv2.MORPH_CLOSE, np.ones((1, _GAP), np.uint8))
    joined = cv2.morphologyEx(joined, cv2.MORPH_OPEN, np.ones((3, _STROKE - 2), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(joined)
    x, y, w, h, area = stats.T
    likely = (h >= _HEIGHT[0]) & (h <= _HEIGHT[1]) & (w >= _LENGTH * h) & (area >= _FILL * w * h)
    likely[0] = False  # the ground
    for i in np.flatnonzero(likely):
        rows, columns = slice(y[i], y[i] + h[i]), slice(x[i], x[i] + w[i])
        own = (strokes[rows, columns] > 0) & (labels[rows, columns] == i)
        ink = own.mean()
        if not _INK[0] <= ink <= _INK[1]:
            continue
        core = own[h[i] // 4 : h[i] - h[i] // 4]
        met = (core[:, 1:] > core[:, :-1]).sum(axis=1).mean() * h[i] / w[i]
        beside = max(2, h[i] // 3)
        above = strokes[max(0, y[i] - beside) : y[i], columns]
        below = strokes[y[i] + h[i] : y[i] + h[i] + beside, columns]
        around = np.concatenate([above, below])
        clutter = float((around > 0).mean()) if around.size else 0.0
        usual = np.median(contrast[rows, columns][own])
        if (
            _STROKES[0] <= met <= _STROKES[1]
            and clutter <= _CLUTTER * ink
            and usual >= _USUAL_CONTRAST
        ):
            yield rows, columns
