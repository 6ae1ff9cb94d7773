"""A clip as windows of a few seconds each, shown as its captioner wants to see them.

A short clip is one window. Of a longer one each window gets captions of its own, which merge.py
makes one of. A clip lies within one shot, so windows need no cuts of their own.

    T frames, H W rows and columns, C colours
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from openreel.pipeline.clip import Clip
from openreel.pipeline.errors import InputError
from openreel.pipeline.media import stream_clip
from openreel.recaption.writer import Frames, Sight, Window

_ROOM = 4
"""pixels that a decoder scales a large frame down to for one that a writer sees: scaling there
spares the way of gigabytes, and the rest is done with care here"""
_CAMERA = {
    "still": "the camera is still",
    "pan": "the camera pans",
    "tilt": "the camera tilts",
    "zoom": "the camera zooms",
    "roll": "the camera rolls",
    "handheld": "the camera is held by hand",
}
"""curation's words for what it measured, as a hint; what it could not tell is none"""


@dataclass(frozen=True, kw_only=True)
class WindowConfig:
    """How a long clip is divided."""

    seconds: float = 8.0
    """of a window; what is left and shorter than half of it belongs to the last one"""

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise InputError("seconds", self.seconds, "a number above 0")


@dataclass(frozen=True, kw_only=True)
class WindowSpan:
    """Frames [start_frame, end_frame) of a clip, counted from the clip's own first."""

    start_frame: int
    end_frame: int
    start_s: float
    end_s: float

    @property
    def num_frames(self) -> int:
        return self.end_frame - self.start_frame


def duration_s(clip: Clip) -> float:
    """Seconds that a clip is shown for; 0 for an image."""
    if clip.kind == "image":
        return 0.0
    return float((clip.end_pts - clip.start_pts) * Fraction(clip.time_base))


def windows_of(clip: Clip, config: WindowConfig) -> tuple[WindowSpan, ...]:
    """The spans of a clip, in order: every frame lies in one of them, and none is empty.

    Frames count as evenly spaced over the clip's time.
    """
    seconds = duration_s(clip)
    whole, rest = divmod(seconds, config.seconds)
    count = max(1, int(whole) + (rest >= config.seconds / 2))
    frame_s = seconds / clip.num_frames
    starts = [round(i * config.seconds / frame_s) for i in range(count)] if frame_s else [0]
    # Where frames are rarer than windows, a window is as long as a frame.
    starts = sorted({start for start in starts if start < clip.num_frames})
    ends = [*starts[1:], clip.num_frames]
    return tuple(
        WindowSpan(start_frame=start, end_frame=end, start_s=start * frame_s, end_s=end * frame_s)
        for start, end in zip(starts, ends, strict=True)
    )


def shown(
    clip: Clip,
    frames: Iterable[Frames],
    spans: Sequence[WindowSpan],
    sight: Sight,
    take: int = 1,
) -> list[Window]:
    """The windows of a clip as a writer with this sight wants them, in one pass over its frames.

    frames: a stream of the clip's, each uint8 (H, W, C); few are in memory at once. take: the
    number of the attempt at captions, which what is drawn for them depends on. Raises ValueError if
    the clip does not have as many frames as its row says, and what the stream raises.
    """
    from openreel.recaption.frames import fitted, sampled

    places = [
        [span.start_frame + i for i in sampled(span.num_frames, sight.num_frames)] for span in spans
    ]
    wanted = {i for some in places for i in some}
    kept: dict[int, Any] = {}
    count = 0
    for frame_HWC in frames:
        if count in wanted:
            kept[count] = fitted(frame_HWC, sight)
        count += 1
    if count != clip.num_frames:
        raise ValueError(f"frames: got {count}; accepted: {clip.num_frames}, the clip's length")
    frame_s = duration_s(clip) / clip.num_frames
    again = f" take {take}" if take > 1 else ""
    return [
        Window(
            key=clip.clip_id + (f" {span.start_frame}" if len(spans) > 1 else "") + again,
            frames=np.stack([kept[i] for i in some]),
            times=tuple(i * frame_s for i in some),
            hint=_CAMERA.get(clip.camera, "") if clip.kind != "image" else "",
        )
        for span, some in zip(spans, places, strict=True)
    ]


def read_windows(
    clip: Clip,
    sight: Sight,
    config: WindowConfig,
    *,
    take: int = 1,
    read: Callable[..., Iterable[Frames]] = stream_clip,
) -> list[tuple[WindowSpan, Window]]:
    """A clip's windows with their spans, from its file. read and what is raised: as stream_clip."""
    spans = windows_of(clip, config)
    frames = read(clip, size=reading_size(clip, sight))
    return list(zip(spans, shown(clip, frames, spans, sight, take), strict=True))


def reading_size(clip: Clip, sight: Sight) -> tuple[int, int] | None:
    """(width, height) that a clip is decoded to for a sight; None: its own, which is not large."""
    shrink = (_ROOM * sight.max_area / (clip.width * clip.height)) ** 0.5
    if shrink > 0.5:
        return None
    return max(1, round(clip.width * shrink)), max(1, round(clip.height * shrink))
