"""A span of a source as a file of its own: decoded, trimmed and encoded by one ffmpeg.

The copy holds exactly the span's frames, upright, with square pixels, at the times that they had in
the source, from zero; what was 8-bit 4:2:0 is not converted before it is encoded.
"""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

from openreel.pipeline.clip import Clip
from openreel.pipeline.commit import committed_file
from openreel.pipeline.errors import InputError, MediaError
from openreel.pipeline.media import SCALE_FLAGS, Span, ffmpeg_command, span_stream
from openreel.pipeline.sandbox import ChildError, Limits, run

Preset = Literal["ultrafast", "veryfast", "fast", "medium", "slow"]


@dataclass(frozen=True, kw_only=True)
class TranscodeConfig:
    """How copies are encoded: H.264 in MP4, a key frame at least every `key_frames` frames."""

    crf: int = 18
    """constant quality, 0 (lossless) to 51"""
    preset: Preset = "medium"
    key_frames: int = 48
    """frames from one key frame to the next, at most"""

    def __post_init__(self) -> None:
        if not 0 <= self.crf <= 51:
            raise InputError("copies.crf", self.crf, "0 to 51")
        if self.key_frames < 1:
            raise InputError("copies.key_frames", self.key_frames, "at least 1")


@dataclass(frozen=True, kw_only=True)
class Written:
    """What an encoded file holds, by its index."""

    num_frames: int
    start_pts: int
    end_pts: int
    time_base: str
    container: str
    width: int
    height: int


def transcode(
    path: Path, clip: Clip, target: Path, config: TranscodeConfig, limits: Limits | None = None
) -> Written:
    """Write a clip's span of the file at `path` to `target`, committed once it is verified.

    Raises MediaError if the span does not hold what the clip says, and OSError if the file cannot
    be written.
    """
    with committed_file(target) as scratch:
        try:
            run(_command(path, clip, scratch, config), limits or Limits())
        except ChildError as error:
            if error.killed or "No space left" in error.reason:
                raise OSError(f"{target}: not written: {error}") from error
            raise MediaError(f"does not decode: {error.reason}") from error
        return verified(scratch, clip)


def verified(path: Path, clip: Clip) -> Written:
    """What a copy holds. Raises MediaError if it is not the clip's frames at their size."""
    found = read_index(path)
    said = (found.width, found.height, found.num_frames)
    if said != (clip.width, clip.height, clip.num_frames):
        expected = (clip.width, clip.height, clip.num_frames)
        raise MediaError(f"the copy's (width, height, frames) are {said}, not {expected}")
    return found


def read_index(path: Path) -> Written:
    """What our own encoder wrote, from its packets; nothing is decoded, so it costs nothing.

    Raises MediaError if it is no such file.
    """
    import av

    try:
        container = av.open(str(path))
    except av.FFmpegError as error:
        raise MediaError(f"{path} cannot be opened: {error}") from error
    with container:
        stream = container.streams.video[0]
        packets = [p for p in container.demux(stream) if p.pts is not None and p.size]
        shown = sorted((int(p.pts or 0), int(p.duration or 0)) for p in packets)
        time_base = Fraction(stream.time_base or 1)
        return Written(
            num_frames=len(shown),
            start_pts=shown[0][0] if shown else 0,
            end_pts=sum(shown[-1]) if shown else 0,
            time_base=f"{time_base.numerator}/{time_base.denominator}",
            container=container.format.name,
            width=stream.width,
            height=stream.height,
        )


def _command(path: Path, clip: Clip, target: Path, config: TranscodeConfig) -> list[str]:
    time_base = Fraction(clip.time_base)
    even = clip.width % 2 == 0 and clip.height % 2 == 0
    video = (
        span_stream(path, Span.of_clip(clip))
        .filter("setpts", expr="PTS-STARTPTS")
        .filter("scale", clip.width, clip.height, flags=SCALE_FLAGS)
        .filter("setsar", "1")
        .filter("format", "yuv420p" if even else "yuv444p")
    )
    output = video.output(
        str(target),
        format="mp4",
        vcodec="libx264",
        crf=config.crf,
        preset=config.preset,
        g=config.key_frames,
        threads=1,
        fps_mode="passthrough",
        enc_time_base=f"{time_base.numerator}/{time_base.denominator}",
        # MP4 counts in units of one over a whole number; this one keeps every tick exact.
        video_track_timescale=time_base.denominator,
        movflags="+faststart",
        map_metadata=-1,
    )
    return ffmpeg_command(output, "-y", "-filter_complex_threads", "1")
