"""Where one shot ends and the next begins, by PySceneDetect on small frames, in one pass.

The same pass measures each frame's brightness and its change, so that clips get their scores
without being decoded again.

    T   frames of the video
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from openreel.pipeline.clip import Shot
from openreel.pipeline.errors import InputError
from openreel.pipeline.media import Frames, MediaInfo, Span, stream_frames
from openreel.pipeline.sandbox import Limits

_REACH = 2
"""frames on each side that a cut is compared with"""


@dataclass(frozen=True, kw_only=True)
class ShotConfig:
    """How cuts are found. Scores are PySceneDetect's: mean change of hue, saturation and value."""

    side: int = 160
    """the longer side of the frames that are looked at; smaller videos are not enlarged"""
    cut_score: float = 30.0
    """a score at least this large may be a cut wherever it occurs"""
    adaptive_score: float = 12.0
    """a smaller score, at least this large, may be a cut ..."""
    adaptive_ratio: float = 2.5
    """... where it is this many times the mean score of the frames around it"""
    min_change: float = 0.04
    """the least mean difference of a cut's two frames, 0 to 1: hue is noise in dark pictures"""
    change_ratio: float = 1.5
    """a cut's difference is this many times the mean of those around it: flicker is not a cut"""
    min_frames: int = 5
    """no shot is shorter, except one at an end of the video"""

    def __post_init__(self) -> None:
        for field, value in vars(self).items():
            if not value > 0:
                raise InputError(f"shots.{field}", value, "a number above 0")


@dataclass(frozen=True, kw_only=True)
class Scan:
    """What one pass over a video's small frames yields."""

    cuts: tuple[int, ...]
    """frames that begin a shot, without frame 0, in order"""
    luma: tuple[float, ...]
    """(T,) mean brightness of each frame, 0 to 1"""
    change: tuple[float, ...]
    """(T,) mean absolute difference to the frame before, 0 to 1; 0 for the first"""


def find_shots(
    path: Path, info: MediaInfo, config: ShotConfig, limits: Limits | None = None
) -> tuple[tuple[Shot, ...], Scan]:
    """The shots of a probed video, which together cover all its frames. Raises MediaError."""
    size = shrunk(info, config.side)
    scan = scan_frames(stream_frames(path, Span.whole(info), size=size, limits=limits), config)
    starts = (0, *scan.cuts, info.num_frames)
    ticks = (*info.pts, info.end_pts)
    shots = tuple(
        Shot(start_frame=a, end_frame=b, start_pts=ticks[a], end_pts=ticks[b])
        for a, b in pairwise(starts)
    )
    return shots, scan


def shrunk(info: MediaInfo, side: int) -> tuple[int, int]:
    """(width, height) with the longer side at most `side`, in the same shape."""
    shrink = min(1.0, side / max(info.width, info.height))
    return max(1, round(info.width * shrink)), max(1, round(info.height * shrink))


def scan_frames(frames: Iterable[Frames], config: ShotConfig) -> Scan:
    """Cuts, brightness and change of uint8 (H, W, 3) RGB frames."""
    from scenedetect import AdaptiveDetector, ContentDetector, FrameTimecode

    sudden = ContentDetector(threshold=config.cut_score, min_scene_len=0)
    relative = AdaptiveDetector(
        adaptive_threshold=config.adaptive_ratio,
        min_content_val=config.adaptive_score,
        min_scene_len=0,
    )
    cuts: set[int] = set()
    luma, change = [], []
    before: Frames | None = None
    for i, frame in enumerate(frames):
        # Cuts are wanted as frame numbers; the rate is only there to make a timecode of one.
        time, bgr = FrameTimecode(i, 30.0), np.ascontiguousarray(frame[..., ::-1])
        for detector in (sudden, relative):
            cuts |= {found.frame_num for found in detector.process_frame(time, bgr)}
        luma.append(round(float(frame.mean()) / 255, 5))
        difference = 0.0 if before is None else _difference(frame, before)
        change.append(round(difference, 5))
        before = frame
    likely = [i for i in sorted(cuts) if _stands_out(change, i, config)]
    return Scan(
        cuts=_apart(likely, config.min_frames),
        luma=tuple(luma),
        change=tuple(change),
    )


def _difference(a: Frames, b: Frames) -> float:
    return float(np.abs(a.astype(np.int16) - b).mean()) / 255


def _stands_out(change: list[float], i: int, config: ShotConfig) -> bool:
    around = change[max(1, i - _REACH) : i] + change[i + 1 : i + 1 + _REACH]
    usual = sum(around) / len(around) if around else 0.0
    return change[i] >= max(config.min_change, config.change_ratio * usual)


def _apart(cuts: list[int], min_frames: int) -> tuple[int, ...]:
    """Of cuts closer than min_frames to the one before, only the first is kept."""
    kept: list[int] = []
    for cut in cuts:
        if not kept or cut - kept[-1] >= min_frames:
            kept.append(cut)
    return tuple(kept)
