"""From shots to clips: how a video is cut into spans.

Pure functions of a video's row; nothing is decoded here.
"""

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np

from openreel.pipeline.clip import Boundary, Clip, Shot, TimedText, Video, digest
from openreel.pipeline.errors import InputError
from openreel.pipeline.scores import scored

POLICY = "span-1"
"""a clip is a span into its source, not a copy; part of a clip's identity"""
_COVERED = 0.8
"""the share of a clip that must lie inside a text's span for the text to be about the clip"""


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """How long clips may be."""

    max_s: float = 10.0
    """seconds; a longer shot is split into equal parts, an image never"""

    def __post_init__(self) -> None:
        if not self.max_s > 0:
            raise InputError("clips.max_s", self.max_s, "a number above 0")


def clips_of(video: Video, config: ClipConfig) -> list[Clip]:
    """Every clip of a video, with its scores: each frame of the video is in exactly one."""
    return [
        scored(clip, video) for shot in video.shots for clip in _pieces(shot, video, config.max_s)
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
    return [_clip(video, shot, a, b - a, ticks[a], ticks[b]) for a, b in pairwise(edges)]


def _clip(
    video: Video, shot: Shot, offset: int, num_frames: int, start_pts: int, end_pts: int
) -> Clip:
    """The clip that begins `offset` frames into its shot."""
    span_s = float((end_pts - start_pts) * Fraction(video.time_base))
    opened_by: Boundary = "stride" if offset else shot.opened_by
    return Clip(
        clip_id=digest(video.video_id, start_pts, end_pts, POLICY),
        video_id=video.video_id,
        uri=video.uri,
        kind=video.kind,
        start_frame=shot.start_frame + offset,
        num_frames=num_frames,
        start_pts=start_pts,
        end_pts=end_pts,
        time_base=video.time_base,
        fps=num_frames / span_s if video.kind == "video" else 0.0,
        width=video.width,
        height=video.height,
        container=video.container if _seekable(video) else "",
        opened_by=opened_by,
        licence=video.licence,
        origin=video.origin,
        texts=texts_about(start_pts, end_pts, video),
    )


def _seekable(video: Video) -> bool:
    """False for H.264 in 4:4:4: old encoders' bitstreams decode right only with the note of the
    encoder's version at the file's beginning, which a seek skips."""
    return not (video.codec == "h264" and video.pix_fmt.startswith("yuv444"))


def texts_about(start_pts: int, end_pts: int, video: Video) -> tuple[TimedText, ...]:
    """The texts whose span covers most of [start_pts, end_pts); the span counts from the start."""
    tick_s, first = Fraction(video.time_base), video.pts[0]
    start_s, end_s = float((start_pts - first) * tick_s), float((end_pts - first) * tick_s)
    return tuple(
        text
        for text in video.texts
        if min(end_s, text.end_s) - max(start_s, text.start_s) >= _COVERED * (end_s - start_s)
    )
