"""A clip's scores, from what one decode of its video measured on frames and on samples.

Only the clip's own frames count: nothing of a neighbouring shot, nothing across a cut. Pure
functions; no pixels.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from openreel.pipeline.clip import Clip, Sample, Video
from openreel.pipeline.motion import camera_of

_REPEATED = 5e-4
"""change of a frame that repeats the one before: an eighth of a level on the mean of a small frame;
even the noise of a good sensor, encoded, is more"""
_BLACK_FRAME = 0.02
"""mean brightness, 0 to 1, below which a frame shows nothing"""
_BLANK = 0.98
"""area of black or of white from which a sample can say nothing about bars"""
_FRAY = 2
"""pixels by which dust and the encoder may eat into a bar on some samples"""
_WRITTEN = 0.75
"""quantile of the samples' text: subtitles are not there all the time"""
_DIGITS = 5


def scored(clip: Clip, video: Video) -> Clip:
    """The clip with every score that its video's frames and samples give it."""
    first, last = clip.start_frame, clip.start_frame + clip.num_frames
    luma = np.array(video.luma[first:last])
    # The change of the first frame is from a frame that is not of the clip.
    change = np.array(video.change[first + 1 : last])
    start, end = (bisect_left(video.samples, f, key=lambda s: s.frame) for f in (first, last))
    inside = video.samples[start:end]
    moving = [s for s in inside if s.frame < s.towards < last]
    pictures = inside or _nearest(clip, video)
    return replace(
        clip,
        luma=_mean(luma),
        change=_mean(change),
        black=_mean(luma < _BLACK_FRAME),
        static=_mean(change < _REPEATED),
        motion=_rounded(np.median([s.flow for s in moving])) if moving else 0.0,
        camera=camera_of(moving),
        phashes=tuple(s.phash for s in inside),
        **_stills(pictures),
        **_crop(pictures, clip.width, clip.height),
    )


def _mean(values: npt.NDArray[Any]) -> float:
    return _rounded(values.mean()) if values.size else 0.0


def _rounded(value: float | np.floating) -> float:
    return round(float(value), _DIGITS)


def _nearest(clip: Clip, video: Video) -> list[Sample]:
    """The sample of the clip's shot that is closest to the clip's middle, if the shot has one."""
    middle = clip.start_frame + clip.num_frames / 2
    for shot in video.shots:
        if shot.start_frame <= clip.start_frame < shot.end_frame:
            own = [s for s in video.samples if shot.start_frame <= s.frame < shot.end_frame]
            return sorted(own, key=lambda s: abs(s.frame - middle))[:1]
    return []


def _stills(samples: Sequence[Sample]) -> dict[str, Any]:
    """Scores of single pictures: the median's, so that one odd frame decides nothing."""
    if not samples:
        return {}
    names = ("dark", "bright", "sharpness", "blockiness")
    scores = {name: _rounded(np.median([getattr(s, name) for s in samples])) for name in names}
    return scores | {"text_area": _rounded(np.quantile([s.text_area for s in samples], _WRITTEN))}


def _crop(samples: Sequence[Sample], width: int, height: int) -> dict[str, Any]:
    """The picture without the bars that all samples agree on: a bar is there all the time."""
    telling = [s for s in samples if max(s.dark, s.bright) < _BLANK]
    left, top, right, bottom = (
        _agreed([getattr(s, side) for s in telling]) for side in ("left", "top", "right", "bottom")
    )
    if left + right >= width or top + bottom >= height:
        left, top, right, bottom = 0, 0, 0, 0
    return {
        "crop_x": left,
        "crop_y": top,
        "crop_width": width - left - right,
        "crop_height": height - top - bottom,
    }


def _agreed(sizes: Sequence[int]) -> int:
    """The size of a bar by all samples: the least, or the usual one if that is nearly the same."""
    if not sizes:
        return 0
    least, usual = min(sizes), int(np.median(sizes))
    return usual if usual - least <= _FRAY else least
