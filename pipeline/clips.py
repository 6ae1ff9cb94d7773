"""From shots to clips: how a video is cut into spans, and which spans are worth keeping.

Pure functions of a video's row; nothing is decoded here.
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

import numpy as np

from openreel.pipeline.clip import Clip, Shot, TimedText, Video, digest
from openreel.pipeline.errors import InputError

POLICY = "span-1"
"""a clip is a span into its source, not a copy; part of a clip's identity"""
_COVERED = 0.8
"""the share of a clip that must lie inside a text's span for the text to be about the clip"""


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """The length of clips, and what makes one unusable. A threshold of 0 rejects nothing."""

    min_s: float = 0.5
    """seconds; images are exempt from this and from max_s and min_motion"""
    max_s: float = 10.0
    """a longer shot is split into equal parts"""
    min_side: int = 32
    """pixels of the shorter side"""
    min_luma: float = 0.0
    """mean brightness, 0 to 1"""
    max_luma: float = 1.0
    min_motion: float = 0.0
    """mean absolute change between frames, 0 to 1"""

    def __post_init__(self) -> None:
        for field, value in vars(self).items():
            if not value >= 0:
                raise InputError(f"clips.{field}", value, "0 or more")
        if not 0 < self.min_s <= self.max_s:
            raise InputError("clips.min_s", self.min_s, f"above 0, at most max_s = {self.max_s:g}")


def clips_of(video: Video, config: ClipConfig) -> list[Clip]:
    """Every clip of a video, with its scores: each frame of the video is in exactly one."""
    return [
        measured(clip, video) for shot in video.shots for clip in _pieces(shot, video, config.max_s)
    ]


def _pieces(shot: Shot, video: Video, max_s: float) -> list[Clip]:
    """A shot as the fewest equal parts (give or take a frame) that none is longer than max_s."""
    ticks = (*video.pts[shot.start_frame : shot.end_frame], shot.end_pts)
    tick_s = Fraction(video.time_base)
    num_frames = len(ticks) - 1
    for parts in range(1, num_frames + 1):
        # The frame at which each part begins: the first one shown at or after its share of time.
        shares = np.linspace(ticks[0], ticks[-1], parts + 1)
        edges = sorted({int(edge) for edge in np.searchsorted(ticks, shares)})
        if video.kind == "image" or all(
            (ticks[b] - ticks[a]) * tick_s <= max_s for a, b in pairwise(edges)
        ):
            break
    first = shot.start_frame
    return [_clip(video, first + a, b - a, ticks[a], ticks[b]) for a, b in pairwise(edges)]


def _clip(video: Video, start_frame: int, num_frames: int, start_pts: int, end_pts: int) -> Clip:
    span_s = float((end_pts - start_pts) * Fraction(video.time_base))
    return Clip(
        clip_id=digest(video.video_id, start_pts, end_pts, POLICY),
        video_id=video.video_id,
        uri=video.uri,
        kind=video.kind,
        start_frame=start_frame,
        num_frames=num_frames,
        start_pts=start_pts,
        end_pts=end_pts,
        time_base=video.time_base,
        fps=num_frames / span_s if video.kind == "video" else 0.0,
        width=video.width,
        height=video.height,
        container=video.container,
        texts=texts_about(start_pts, end_pts, video),
    )


def texts_about(start_pts: int, end_pts: int, video: Video) -> tuple[TimedText, ...]:
    """The texts whose span covers most of [start_pts, end_pts); the span counts from the start."""
    tick_s, first = Fraction(video.time_base), video.pts[0]
    start_s, end_s = float((start_pts - first) * tick_s), float((end_pts - first) * tick_s)
    return tuple(
        text
        for text in video.texts
        if min(end_s, text.end_s) - max(start_s, text.start_s) >= _COVERED * (end_s - start_s)
    )


def measured(clip: Clip, video: Video) -> Clip:
    """The clip with its scores, from the frames' that were measured when shots were looked for."""
    first, last = clip.start_frame, clip.start_frame + clip.num_frames
    inside = video.change[first + 1 : last]
    return replace(
        clip,
        luma=float(np.mean(video.luma[first:last])) if video.luma else 0.0,
        motion=float(np.mean(inside)) if inside else 0.0,
    )


def judge(clip: Clip, config: ClipConfig) -> Clip:
    """The clip with the first reason against it, or ok."""
    seconds = clip.num_frames / clip.fps if clip.kind == "video" else None
    side = min(clip.width, clip.height)
    reason = ""
    # Half a millisecond is less than any frame and more than the rounding of a tick.
    if seconds is not None and seconds < config.min_s - 5e-4:
        reason = f"shorter than {config.min_s:g} s"
    elif side < config.min_side:
        reason = f"side of {side} px, below {config.min_side}"
    elif clip.luma < config.min_luma:
        reason = f"darker than {config.min_luma:g}"
    elif clip.luma > config.max_luma:
        reason = f"brighter than {config.max_luma:g}"
    elif seconds is not None and clip.motion < config.min_motion:
        reason = f"less motion than {config.min_motion:g}"
    return replace(clip, status="rejected" if reason else "ok", reason=reason)
