"""What a media file really is: every frame is decoded once, in a sandboxed child.

probe(path)  ->  python -m openreel.pipeline.inspection probe PATH LIMITS  ->  one line of JSON
"""

import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openreel.pipeline.errors import MediaError
from openreel.pipeline.sandbox import ChildError, Limits, run

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mpg", ".mpeg", ".flv"}
    | {".ogv", ".gif", ".h264", ".h265", ".hevc", ".mjpeg"}
)
DEMUXERS = "mov,matroska,avi,mpegts,mpeg,flv,ogg,gif,h264,hevc,mjpeg"
"""containers that may be opened; scripts that name other files (concat, HLS) are not among them"""
CODECS = frozenset(
    {"h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mpeg2video", "mpeg1video", "mjpeg", "gif"}
    | {"prores", "theora"}
)
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP")


@dataclass(frozen=True, kw_only=True)
class MediaInfo:
    """One file as probed. width and height are as shown: rotation and pixel aspect applied."""

    kind: str
    """video or image"""
    container: str
    codec: str
    pix_fmt: str
    width: int
    height: int
    rotation: int = 0
    """degrees clockwise by which a player turns the stored picture: 0, 90, 180 or 270"""
    sample_aspect: str = "1:1"
    """width:height of a stored pixel"""
    fps: float = 0.0
    """mean rate over the frames that decode; 0 for an image"""
    variable_rate: bool = False
    num_frames: int = 1
    duration_s: float = 0.0
    time_base: str = "1/1"
    """seconds a tick, as a fraction"""
    has_audio: bool = False
    bit_depth: int = 8
    """of a channel"""
    transfer: str = ""
    """the transfer function where it is HDR's: smpte2084 (PQ) or arib-std-b67 (HLG)"""
    start_s: float = 0.0
    """seconds on the file's clock at which the first frame is shown"""
    pts: tuple[int, ...] = (0,)
    """presentation time of each frame in ticks, strictly increasing"""
    end_pts: int = 1
    """the tick at which the last frame is no longer shown"""


def probe(path: Path, limits: Limits | None = None) -> MediaInfo:
    """Probe a file by decoding all of it.

    Raises MediaError with a one-line reason if it is not wholly usable, and ChildError if a limit
    or a signal ended the child, which may be the machine's fault rather than the file's.
    """
    limits = limits or Limits()
    try:
        output = run(inspector("probe", path, limits), limits)
    except ChildError as error:
        if error.killed:
            raise
        raise MediaError(f"the probe ended with {error.reason}") from error
    return parsed(json.loads(output))


def inspector(task: str, path: Path, limits: Limits, argument: object = None) -> list[str]:
    """The command of a child that looks into a file: its task is probe, survey or pixels."""
    module = [sys.executable, "-P", "-m", "openreel.pipeline.inspection"]
    about = [json.dumps(dataclasses.asdict(limits)), json.dumps(argument)]
    return [*module, task, str(path.absolute()), *about]


def parsed(answer: dict[str, Any]) -> MediaInfo:
    """The child's answer. Raises MediaError if it is a fault."""
    if "error" in answer:
        raise MediaError(answer["error"])
    return MediaInfo(**{**answer, "pts": tuple(answer["pts"])})
