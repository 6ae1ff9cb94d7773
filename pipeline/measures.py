"""What one decode of a video measures on its way: a Sample for a frame of about every half second.

The frames come from whoever decodes them: each one small, some also at native size.
"""

from dataclasses import replace

from openreel.pipeline.clip import Sample
from openreel.pipeline.media import Frames
from openreel.pipeline.motion import Grey, motion_between
from openreel.pipeline.overlay import text_area
from openreel.pipeline.picture import areas, bars, blockiness, sharpness
from openreel.pipeline.signature import phash

_LEAST_S = 1 / 12 - 1e-3
"""seconds from a sample to the frame that its motion is measured to: from one frame of 60 a second
to the next, little moves by as much as flow is exact to"""
_DIGITS = 5
"""decimals that are kept; no measure is more exact, and no two machines agree on more"""


class Measurer:
    """Takes the frames of one video in order and keeps a Sample of those given at native size.

    Memory does not grow with the length of the video, but for the samples.
    """

    def __init__(self) -> None:
        self._samples: list[Sample] = []
        # The newest sample's time and small grey frame, until its motion is known.
        self._waiting: tuple[float, Grey] | None = None
        self._last: tuple[int, float, Frames] | None = None
        self._native = (1, 1)

    def add(self, frame: int, time_s: float, small: Frames, luma: Grey | None) -> None:
        """The next frame.

        frame: its number. time_s: when it is shown, rising. small: uint8 (h, w, 3), RGB, upright,
        all of one size, not changed afterwards. luma: uint8 (H, W), its upright brightness at
        native size (pixels as stored, square or not), for the frames that are to be sampled.
        """
        self._last = (frame, time_s, small)
        if self._waiting is not None and time_s - self._waiting[0] >= _LEAST_S:
            self._measure_motion()
        if luma is not None:
            grey = _grey(small)
            self._waiting = (time_s, grey)
            self._native = luma.shape
            self._samples.append(_still(frame, luma, grey))

    def finish(self, width: int, height: int) -> tuple[Sample, ...]:
        """The samples, in order. width, height: the picture as shown, for its bars in pixels."""
        self._measure_motion()
        across, down = width / self._native[1], height / self._native[0]
        return tuple(
            replace(
                s,
                left=round(s.left * across),
                right=round(s.right * across),
                top=round(s.top * down),
                bottom=round(s.bottom * down),
            )
            for s in self._samples
        )

    def _measure_motion(self) -> None:
        """Give the newest sample its motion to the last frame, if that is a later one."""
        if self._waiting is None or self._last is None:
            return
        (sampled_s, grey), (frame, time_s, small) = self._waiting, self._last
        if time_s > sampled_s:
            motion = motion_between(grey, _grey(small), time_s - sampled_s)
            rounded = {name: round(value, _DIGITS) for name, value in vars(motion).items()}
            self._samples[-1] = replace(self._samples[-1], towards=frame, **rounded)
        self._waiting = None


def _grey(small: Frames) -> Grey:
    import cv2

    grey: Grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    return grey


def _still(frame: int, luma: Grey, grey: Grey) -> Sample:
    """What one frame shows without another. Bars are in pixels as stored."""
    plain = bars(luma)
    picture = plain.without(luma)
    dark, bright = areas(picture)
    return Sample(
        frame=frame,
        towards=frame,
        sharpness=round(sharpness(picture), _DIGITS),
        blockiness=round(blockiness(picture), _DIGITS),
        text_area=round(text_area(picture), _DIGITS),
        dark=round(dark, _DIGITS),
        bright=round(bright, _DIGITS),
        phash=phash(grey),
        **vars(plain),
    )
