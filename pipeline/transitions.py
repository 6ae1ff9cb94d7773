"""Whether two frames show the same place, and whether a frame begins another shot.

Works on pictures of about 80 pixels, and asks of two of them: can each part of the one be found
somewhere near in the other, whatever the light? Within a shot it can, also after a flash or a whip
pan; across a cut it cannot, and the next frames do not bring the old picture back.

    T   frames           H W   a small picture's rows and columns
    N   values of a thumbnail
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from openreel.pipeline.media import Frames

__all__ = ["AHEAD", "BEHIND", "Between", "Floats", "Picture", "is_cut", "mismatch"]

Floats = npt.NDArray[np.float32]
Between = Callable[[int, int], tuple[float, float]]

SIDE = 80
"""the longer side of what is compared"""
BEHIND, AHEAD = 24, 26
"""frames before and after one that its judgement may look at"""

_NOISE = 8.0
"""variance of the brightness, 0 to 255, that is no structure"""
_FAR = (14, 10)
"""columns and rows that a part may have moved between the frames of one shot"""
_NEAR = 2
"""the same, for a camera that is held"""
_TINT = 40.0
"""difference of both chroma values together at which a part is something else"""
_GAIN = 3.0
"""the most that a change of the light brightens or darkens"""
_OTHER, _OTHER_STEP = 0.48, 0.17
"""how much of a picture is nowhere in the next where another shot begins, and how much more than
from frame to frame around; cuts in action scenes have 0.55 and 0.2"""
_JUMP, _JUMP_RATIO = 0.15, 2.0
"""the same where a shot jumps to another framing of its place: more is not where it was, and so
many times as much"""
_AFTER_FLASH = tuple((back, on) for back in range(5) for on in range(5) if 0 in (back, on))[1:]
"""more frames before, more frames after: pairs where a flash of up to four frames is left out"""
_GLARE = (8, 14, 20, 26)
"""frames after an explosion of light at which the old picture may be back"""


@dataclass(frozen=True, eq=False)
class Picture:
    """A frame as it is compared."""

    ycc: Frames
    """uint8 (H, W, 3): brightness and the two colour differences, the longer side SIDE"""

    @classmethod
    def of(cls, frame: Frames) -> "Picture":
        """The picture of a uint8 (h, w, 3) RGB frame."""
        import cv2

        height, width = frame.shape[:2]
        scale = SIDE / max(height, width)
        size = max(8, round(width * scale)), max(8, round(height * scale))
        small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
        return cls(ycc=cv2.cvtColor(small, cv2.COLOR_RGB2YCrCb))

    @cached_property
    def luma(self) -> Floats:
        """(H, W)"""
        return self.ycc[..., 0].astype(np.float32)

    @cached_property
    def grid(self) -> tuple[int, int, int, int]:
        """Columns and rows of parts, and a part's width and height."""
        height, width = self.ycc.shape[:2]
        columns, rows = (
            (5, 3) if width > 1.2 * height else (3, 5) if height > 1.2 * width else (4, 4)
        )
        return columns, rows, width // columns, height // rows

    @cached_property
    def windows(self) -> tuple[Floats, Floats, Floats]:
        """Variance of the brightness and mean of both chroma values of the part at each place."""
        import cv2

        part = self.grid[2:]
        height, width = self.ycc.shape[:2]
        inside = (slice(height - part[1] + 1), slice(width - part[0] + 1))
        box: dict[str, Any] = {"ddepth": -1, "ksize": part, "anchor": (0, 0)}
        mean = cv2.boxFilter(self.ycc.astype(np.float32), **box)[inside]
        square = cv2.sqrBoxFilter(self.luma, **box)[inside]
        blue, red = (np.ascontiguousarray(mean[..., i] - 128) for i in (1, 2))
        return np.maximum(square - mean[..., 0] ** 2, 0), blue, red

    @cached_property
    def light(self) -> tuple[float, float]:
        """How strong contrasts are, and how bright the picture is; at least 1."""
        import cv2

        mean, deviation = (float(value[0, 0]) for value in cv2.meanStdDev(self.luma))
        return max(1.0, deviation), max(1.0, float(np.hypot(mean, deviation)))

    @cached_property
    def thumb(self) -> Floats:
        """(N,) the picture at about 16 pixels."""
        import cv2

        height, width = self.ycc.shape[:2]
        size = max(2, width // 5), max(2, height // 5)
        small: Floats = cv2.resize(self.ycc, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        return small.reshape(-1)

    @cached_property
    def middle(self) -> Floats:
        """The brightness at about 16 pixels, without the border where bars may be."""
        import cv2

        height, width = self.ycc.shape[:2]
        y, x = height // 5, width // 5
        inner = np.ascontiguousarray(self.ycc[y : height - y, x : width - x, 0])
        size = max(2, inner.shape[1] // 4), max(2, inner.shape[0] // 4)
        small: Floats = cv2.resize(inner, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        return small


def mismatch(a: Picture, b: Picture) -> tuple[float, float]:
    """The share of either picture that is not in the other: (where it was, anywhere near), 0 to 1.

    Blind to the light's strength, and to where things are as far as they may have moved.
    """
    forth, back = _unfound(a, b), _unfound(b, a)
    return max(forth[0], back[0]), max(forth[1], back[1])


def _unfound(a: Picture, b: Picture) -> tuple[float, float]:
    """The share of a's parts, weighed by their contrast, that is not found in b."""
    import cv2

    columns, rows, width, height = a.grid
    var_a, blue_a, red_a = a.windows
    var_b, blue_b, red_b = b.windows
    # The picture with stronger contrasts is toned down to the other, and so are its colours.
    gain_a, gain_b = _gains(a.light[0], b.light[0])
    tone_a, tone_b = _gains(a.light[1], b.light[1])
    found = np.zeros((2, rows * columns))
    weight = np.zeros((2, rows * columns))
    for i in range(rows * columns):
        y, x = i // columns * height, i % columns * width
        top, left = max(0, y - _FAR[1]), max(0, x - _FAR[0])
        area = b.luma[top : y + height + _FAR[1], left : x + width + _FAR[0]]
        part = a.luma[y : y + height, x : x + width]
        product = cv2.matchTemplate(area, part, cv2.TM_CCOEFF)
        places = (slice(top, top + product.shape[0]), slice(left, left + product.shape[1]))
        own = gain_a**2 * float(var_a[y, x])
        others = gain_b**2 * var_b[places]
        contrast = own + others + _NOISE
        alike = (2 * gain_a * gain_b / (width * height) * product + _NOISE) / contrast
        blue, red = blue_b[places], red_b[places]
        tint = np.abs(blue - blue_a[y, x]) + np.abs(red - red_a[y, x])
        if tint.max() > 4:  # else the light's share in it does not matter
            toned = np.abs(tone_b * blue - tone_a * blue_a[y, x])
            toned += np.abs(tone_b * red - tone_a * red_a[y, x])
            tint = np.minimum(tint, toned)
        alike *= 1 - np.minimum(tint / _TINT, 1)
        close = (
            slice(max(0, y - top - _NEAR), y - top + _NEAR + 1),
            slice(max(0, x - left - _NEAR), x - left + _NEAR + 1),
        )
        for j, within in enumerate((close, (slice(None), slice(None)))):
            best = np.argmax(alike[within])
            found[j, i] = alike[within].flat[best]
            weight[j, i] = np.sqrt(contrast[within].flat[best])
    near, far = ((1 - found) * weight).sum(1) / weight.sum(1)
    return float(near), float(far)


def _gains(a: float, b: float) -> tuple[float, float]:
    """Factors of at most 1 that bring the larger of two to the smaller, within _GAIN."""
    ratio = min(_GAIN, max(1 / _GAIN, a / b))
    return 1 / max(1.0, ratio), min(1.0, ratio)


# ---- cuts -------------------------------------------------------------------------------------


def is_cut(
    i: int, change: Sequence[float], luma: Sequence[float], between: Between, strictness: float
) -> bool:
    """Whether frame i begins another shot.

    change, luma: (T,) each frame's difference to the one before, and its brightness, 0 to 1.
    between: the mismatch of two frames, asked for at most BEHIND before and AHEAD after i.
    """
    end = len(change)
    around = [change[j] for j in range(max(1, i - 3), min(end, i + 4)) if j != i]
    # A cut is a step: within a whip pan or a fade the next frames change as much.
    peak = change[i] / max(0.004, *around) if around else 8.0
    if change[i] < 0.006 or peak < 1.1:
        return False
    near, far = step = between(i - 1, i)
    if far < _OTHER * strictness and (near < _JUMP * strictness or peak < _JUMP_RATIO):
        return False
    sides = [between(j - 1, j) for j in (i - 2, i - 1, i + 1, i + 2) if 1 <= j < end]
    usual_near = max((pair[0] for pair in sides), default=0.0)
    usual_far = max((pair[1] for pair in sides), default=0.0)
    for back, on in _AFTER_FLASH:
        if not _differs(near, far, usual_near, usual_far, peak, strictness):
            return False
        if i - 1 - back >= 0 and i + on < end:
            pair = between(i - 1 - back, i + on)
            near, far = min(near, pair[0]), min(far, pair[1])
    return _differs(near, far, usual_near, usual_far, peak, strictness) and not (
        peak < 12 and _is_glare(i, luma, step[1], between)
    )


def _differs(
    near: float, far: float, usual_near: float, usual_far: float, peak: float, strictness: float
) -> bool:
    """Whether another picture has come, or the same one has jumped where otherwise it is still."""
    other = far > _OTHER * strictness and far - usual_far > _OTHER_STEP * strictness
    ratio = min(peak, (near + 0.05) / (usual_near + 0.05))
    return other or (near - usual_near > _JUMP * strictness and ratio > _JUMP_RATIO)


def _is_glare(i: int, luma: Sequence[float], step: float, between: Between) -> bool:
    """Whether it grew bright at frame i, and as that passes the old picture comes back."""
    rise = luma[i] - luma[i - 1]
    if rise < 0.08 or luma[i] - min(luma[i : i + 12]) < 0.35 * rise:
        return False
    later = [between(i - 1, i + on)[1] for on in _GLARE if i + on < len(luma)]
    return min(later, default=1.0) < 0.75 * step
