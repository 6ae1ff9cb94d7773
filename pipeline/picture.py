"""What one picture is worth, from its brightness alone: bars, black and white, blur, blocks.

Every measure takes uint8 (H, W) at native size; all but bars() want the picture without its bars.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Grey = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

_BLACK, _WHITE = 26, 230
"""of 255; they hold for full range, where black is 0, and for video range, where it is 16"""
_BAR_SPREAD = 8
"""levels by which a bar's pixels may be off its usual level: ringing of the picture beside it"""
_BAR_FILL = 0.99
"""share of a row or column that must be of that level: dust on a film is not"""
_BAR_PAIR = 0.8
"""bars of one pair are alike to this ratio"""

_SHARP_SIDE = 640
"""pixels of the longer side at which blur is judged, so that a large size is not a blur"""
_TILE = 16
"""pixels of the squares in which noise is looked for"""
_CALM = 0.1
"""share of the squares that are taken to show nothing but noise"""
_MOST_NOISE = 4.0
"""levels of mean step; where there is more everywhere, it is grass or gravel"""
_NOISE, _FAINT_STEP = 4.0, 2.0
"""steps below this many times the noise, and this many levels more, are no detail"""
_NO_DETAIL = 0.05
"""levels of mean detail up to which a picture has too little of it to be called sharp"""

_BLOCK = 8
_EDGE = 24
"""levels; a larger step is the edge of a thing, and counts no more than this"""
_UNSEEN = 1.0
"""levels; mean steps as small as this are not seen, whatever their pattern"""


@dataclass(frozen=True, kw_only=True)
class Bars:
    """Plain columns and rows on the sides of a picture, in its own pixels."""

    left: int = 0
    top: int = 0
    right: int = 0
    bottom: int = 0

    def without(self, luma: Grey) -> Grey:
        """The part (h, w) of a picture that is inside."""
        height, width = luma.shape
        return np.ascontiguousarray(
            luma[self.top : height - self.bottom, self.left : width - self.right]
        )


def bars(luma: Grey) -> Bars:
    """Letterbox and pillarbox: rows and columns from the sides on that are of one plain level.

    Black counts on one side alone, other levels only on two opposite sides alike. A picture that
    is all of one level has none.
    """
    top, bottom = _pair(luma, rows=True)
    left, right = _pair(luma, rows=False)
    if top + bottom >= luma.shape[0] or left + right >= luma.shape[1]:
        return Bars()
    return Bars(left=left, top=top, right=right, bottom=bottom)


def _pair(luma: Grey, *, rows: bool) -> tuple[int, int]:
    """How many rows (or columns) are plain from the first on, and from the last back."""
    first, first_level = _run(luma, rows, backwards=False)
    last, last_level = _run(luma, rows, backwards=True)
    if min(first, last) >= _BAR_PAIR * max(first, last):
        return first, last
    return first if first_level < _BLACK else 0, last if last_level < _BLACK else 0


def _run(luma: Grey, rows: bool, *, backwards: bool) -> tuple[int, int]:
    """(how many rows or columns in a run are as plain as the outermost, its level)."""
    import cv2

    outermost = -1 if backwards else 0
    line = luma[outermost] if rows else luma[:, outermost]
    level = int(np.median(line))
    low, high = max(0, level - _BAR_SPREAD), min(255, level + _BAR_SPREAD)
    if np.mean((line >= low) & (line <= high)) < _BAR_FILL:  # nearly always: no bar, no cost
        return 0, level
    fill = cv2.reduce(cv2.inRange(luma, low, high), int(rows), cv2.REDUCE_AVG, dtype=cv2.CV_32F)
    plain = fill.ravel()[:: -1 if backwards else 1] >= 255 * _BAR_FILL
    return int(len(plain) if plain.all() else np.argmin(plain)), level


def areas(luma: Grey) -> tuple[float, float]:
    """The shares of the picture that are black and that are white."""
    import cv2

    black = cv2.countNonZero(cv2.inRange(luma, 0, _BLACK - 1))
    white = cv2.countNonZero(cv2.inRange(luma, _WHITE, 255))
    return black / luma.size, white / luma.size


def sharpness(luma: Grey) -> float:
    """0 blurred to 1 sharp: the share of the steps between neighbours that one more blur takes.

    What is blurred already has little to lose. The share is of all steps together, so that a
    sharp thing before a soft ground is sharp, and of the direction that is blurred more, so that
    motion blur counts. A picture without any detail has 0.
    """
    import cv2

    scale = _SHARP_SIDE / max(luma.shape)
    if scale < 1:
        size = (max(1, round(luma.shape[1] * scale)), max(1, round(luma.shape[0] * scale)))
        luma = cv2.resize(luma, size, interpolation=cv2.INTER_AREA)
    if min(luma.shape) < 2:
        return 0.0
    shares = []
    for picture in (luma, cv2.transpose(luma)):
        softer = cv2.blur(picture, (9, 1))
        steps, kept = (cv2.absdiff(p[:, 1:], p[:, :-1]) for p in (picture, softer))
        tiles = (max(1, steps.shape[1] // _TILE), max(1, steps.shape[0] // _TILE))
        calm = np.quantile(cv2.resize(steps, tiles, interpolation=cv2.INTER_AREA), _CALM)
        noise = min(float(calm), _MOST_NOISE)
        steps = cv2.subtract(steps, _NOISE * noise + _FAINT_STEP)
        lost = cv2.subtract(steps, kept)
        shares.append(cv2.sumElems(lost)[0] / (cv2.sumElems(steps)[0] + _NO_DETAIL * steps.size))
    return float(min(shares))


def blockiness(luma: Grey) -> float:
    """Steps at the borders of 8x8 blocks, wherever their grid lies, over those beside, minus 1.

    0 for a picture without blocks, or too small to have some.
    """
    import cv2

    if min(luma.shape) < 4 * _BLOCK:
        return 0.0
    ratios = []
    for picture in (luma, cv2.transpose(luma)):
        steps = cv2.min(cv2.absdiff(picture[:, 1:], picture[:, :-1]), _EDGE)
        means = cv2.reduce(steps, 0, cv2.REDUCE_AVG, dtype=cv2.CV_64F).ravel()
        ratios.append(_border_ratio(means))
    return max(0.0, float(np.mean(ratios)) - 1)


def _border_ratio(steps: Floats) -> float:
    """Of mean steps from column to column, that of the phase which stands out most of its sides."""
    beside = np.convolve(steps, np.array([1, 1, 0, 1, 1]) / 4, mode="same")
    ratio = ((steps + _UNSEEN) / (beside + _UNSEEN))[2:-2]
    return max(float(np.median(ratio[phase::_BLOCK])) for phase in range(_BLOCK))
