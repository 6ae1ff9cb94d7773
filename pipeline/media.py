"""Pixels in and out of files: the one module that drives ffmpeg, always in a sandbox.

T H W   frames, rows, columns; a frame is uint8 (H, W, 3), RGB, as shown on a screen
"""

import functools
import io
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from openreel.pipeline.clip import Clip
from openreel.pipeline.commit import committed_file
from openreel.pipeline.errors import InputError, MediaError
from openreel.pipeline.probe import DEMUXERS, MediaInfo, inspector, probe
from openreel.pipeline.remote import local_copy
from openreel.pipeline.sandbox import ChildError, Limits, child, run

__all__ = [
    "Frames",
    "MediaInfo",
    "Span",
    "ffmpeg_command",
    "ffmpeg_program",
    "probe",
    "read_clip",
    "read_frames",
    "read_image",
    "span_stream",
    "stream_clip",
    "stream_frames",
    "write_image",
    "write_video",
]

Frames = npt.NDArray[np.uint8]

_SEEKABLE = ("mov", "matroska")
"""containers with an index of key frames; elsewhere a seek may land on a frame that leans on
others which were skipped"""
_SEEK_MARGIN_S = 2.0
"""more than any codec holds frames back, so that those just after the key frame are whole"""
SCALE_FLAGS = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
_TAGS = frozenset(["title", "artist", "comment", "description", "copyright", "date", "genre"])
"""what the MP4 writer keeps; it drops any other name in silence"""


@dataclass(frozen=True, kw_only=True)
class Span:
    """Some consecutive frames of a file: those shown in [start_pts, end_pts)."""

    start_pts: int
    end_pts: int
    time_base: str
    """seconds a tick, as a fraction"""
    num_frames: int
    width: int
    height: int
    """the size as shown"""
    container: str = ""
    """the file's, as probed; empty: unknown, and then decoding starts at the file's beginning"""

    @classmethod
    def whole(cls, info: MediaInfo) -> Self:
        """All frames of a probed file."""
        return cls(
            start_pts=info.pts[0],
            end_pts=info.end_pts,
            time_base=info.time_base,
            num_frames=info.num_frames,
            width=info.width,
            height=info.height,
            container=info.container,
        )

    @classmethod
    def of_clip(cls, clip: Clip) -> Self:
        return cls(
            start_pts=clip.start_pts,
            end_pts=clip.end_pts,
            time_base=clip.time_base,
            num_frames=clip.num_frames,
            width=clip.width,
            height=clip.height,
            container=clip.container,
        )


@functools.cache
def ffmpeg_program() -> str:
    """The system's ffmpeg if there is one of version 5.1 or newer, else the bundled one."""
    system = shutil.which("ffmpeg")
    if system is not None:
        banner = subprocess.run(
            [system, "-version"], capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        version = re.match(r"ffmpeg version n?(\d+)\.(\d+)", banner.stdout)
        # Builds from a development branch are named by date, and are newer than any release asked.
        if version is None or (int(version[1]), int(version[2])) >= (5, 1):
            return system
    import imageio_ffmpeg

    return str(imageio_ffmpeg.get_ffmpeg_exe())


# ---- reading ----------------------------------------------------------------------------------


def stream_frames(
    path: Path,
    span: Span,
    *,
    size: tuple[int, int] | None = None,
    every: int = 1,
    limits: Limits | None = None,
) -> Iterator[Frames]:
    """The frames of a span one at a time, uint8 (H, W, 3).

    size: (width, height) to scale to. every: keep each n-th frame, from the first on. Raises
    MediaError if the file does not decode or the span does not hold num_frames frames.
    """
    width, height = size or (span.width, span.height)
    expected, found = -(-span.num_frames // every), 0
    try:
        with child(_decoder(path, span, (width, height), every), limits or Limits()) as process:
            assert process.stdout is not None
            while frame := process.stdout.read(width * height * 3):
                found += 1
                if len(frame) < width * height * 3 or found > expected:
                    break
                yield np.frombuffer(frame, np.uint8).reshape(height, width, 3)
    except ChildError as error:
        if error.killed:
            raise
        raise MediaError(f"does not decode: {error.reason}") from error
    if found != expected:
        more = "more" if found > expected else found
        raise MediaError(f"{more} frames in [{span.start_pts}, {span.end_pts}), not {expected}")


def read_frames(
    path: Path, span: Span, *, size: tuple[int, int] | None = None, every: int = 1
) -> Frames:
    """All frames of a span, uint8 (T, H, W, 3); the arguments of stream_frames."""
    return np.stack(list(stream_frames(path, span, size=size, every=every)))


def read_clip(
    clip: Clip,
    *,
    size: tuple[int, int] | None = None,
    every: int = 1,
    max_frames: int | None = None,
) -> Frames:
    """The pixels of a clip, uint8 (T, H, W, 3), at most the first max_frames of them.

    The other arguments are stream_clip's, and so is what is raised.
    """
    return np.stack(list(islice(stream_clip(clip, size=size, every=every), max_frames)))


def stream_clip(
    clip: Clip, *, size: tuple[int, int] | None = None, every: int = 1
) -> Iterator[Frames]:
    """The frames of a clip one at a time, uint8 (H, W, 3), wherever its bytes lie.

    size: (width, height) to scale to. every: keep each n-th frame. An image is one frame. Raises
    MediaError if the file no longer holds what the clip says.
    """
    with local_copy(clip.uri, clip.video_id) as path:
        if clip.kind != "image":
            yield from stream_frames(path, Span.of_clip(clip), size=size, every=every)
            return
        image = read_image(path, size=size)
        if size is None and image.shape[:2] != (clip.height, clip.width):
            raise MediaError(f"{path}: the image is not {clip.width}x{clip.height}")
        yield image


def read_image(
    path: Path, *, size: tuple[int, int] | None = None, limits: Limits | None = None
) -> Frames:
    """One upright RGB image, uint8 (H, W, 3); size is (width, height) to scale to."""
    limits = limits or Limits()
    try:
        output = run(inspector("pixels", path, limits, size), limits)
    except ChildError as error:
        if error.killed:
            raise
        raise MediaError(f"does not decode: {error.reason}") from error
    pixels: Frames = np.load(io.BytesIO(output), allow_pickle=False)
    return pixels


def _decoder(path: Path, span: Span, size: tuple[int, int], every: int) -> list[str]:
    """The command that writes a span as raw RGB frames to its standard output."""
    video = span_stream(path, span)
    if every > 1:
        video = video.filter("select", f"not(mod(n,{every}))")
    video = video.filter("scale", *size, flags=SCALE_FLAGS)
    output = video.output("pipe:", format="rawvideo", pix_fmt="rgb24", fps_mode="passthrough")
    return ffmpeg_command(output, "-filter_complex_threads", "1")


def span_stream(path: Path, span: Span) -> Any:
    """The frames of a span as an ffmpeg-python stream, with the file's own timestamps, in ticks of
    the span's time base; upright, decoded on one thread."""
    import ffmpeg

    time_base = Fraction(span.time_base)
    opened: dict[str, Any] = {
        "threads": 1,
        "copyts": None,  # the file's own timestamps, not shifted to start at zero
        "format_whitelist": DEMUXERS,
        "protocol_whitelist": "file",
    }
    seek_s = float(span.start_pts * time_base) - _SEEK_MARGIN_S
    if seek_s > 0 and span.container.startswith(_SEEKABLE):
        opened |= {"ss": f"{seek_s:.3f}", "seek_timestamp": 1, "noaccurate_seek": None}
    return (
        # V: a video that is not a cover picture
        ffmpeg.input(f"file:{path.absolute()}", **opened)["V:0"]
        .filter("settb", expr=f"{time_base.numerator}/{time_base.denominator}")
        .filter("trim", start_pts=span.start_pts, end_pts=span.end_pts)
    )


def ffmpeg_command(output: Any, *settings: str) -> list[str]:
    """The argv of an ffmpeg-python output; quiet, and deaf to standard input."""
    quiet = ("-hide_banner", "-nostdin", "-loglevel", "error")
    argv: list[str] = output.global_args(*quiet, *settings).compile(cmd=ffmpeg_program())
    return argv


# ---- writing ----------------------------------------------------------------------------------


def write_video(
    path: Path,
    frames: Iterable[Frames],
    *,
    fps: float,
    crf: int = 18,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write frames, uint8 (H, W, 3) each and all of one size, as an H.264 MP4 of exactly that size.

    The colours are tagged BT.709; 4:2:0 where both sides are even, else 4:4:4. The file is probed
    under a temporary name and then renamed: a full disk or a failing encoder raises OSError and
    leaves nothing behind. metadata: MP4 tags, such as title and comment.
    """
    metadata = metadata or {}
    if unknown := sorted(set(metadata) - _TAGS):
        raise InputError("metadata", ", ".join(unknown), ", ".join(sorted(_TAGS)))
    if not fps > 0:
        raise InputError("fps", fps, "a number above 0")
    remaining = iter(frames)
    first = next(remaining, None)
    if first is None:
        raise InputError("frames", "none", "at least one frame")
    height, width = first.shape[:2]
    num_frames = 0
    with committed_file(path) as scratch:
        try:
            argv = _encoder(scratch, width, height, fps, crf, metadata)
            with child(argv, Limits(), stdin=True) as process:
                assert process.stdin is not None
                for frame in _chain(first, remaining):
                    if frame.shape != (height, width, 3) or frame.dtype != np.uint8:
                        raise ValueError(
                            f"frame {num_frames}: got {frame.dtype} {frame.shape}; accepted: uint8 "
                            f"{(height, width, 3)}"
                        )
                    process.stdin.write(np.ascontiguousarray(frame).data)
                    num_frames += 1
            _check_written(scratch, width, height, num_frames)
        except (ChildError, MediaError) as error:
            raise OSError(f"{path}: not written: {error}") from error


def _chain(first: Frames, remaining: Iterator[Frames]) -> Iterator[Frames]:
    yield first
    yield from remaining


def _encoder(
    path: Path, width: int, height: int, fps: float, crf: int, metadata: Mapping[str, str]
) -> list[str]:
    """The command that encodes raw RGB frames from its standard input."""
    import ffmpeg

    even = width % 2 == 0 and height % 2 == 0
    rate = Fraction(fps).limit_denominator(1001)
    video = ffmpeg.input(
        "pipe:",
        format="rawvideo",
        pix_fmt="rgb24",
        video_size=(width, height),
        framerate=f"{rate.numerator}/{rate.denominator}",
    ).filter("scale", flags=SCALE_FLAGS, out_color_matrix="bt709", out_range="tv")
    # The tags are the frames', not options of the encoder, which the frames' would override.
    video = video.filter("setparams", color_primaries="bt709", color_trc="bt709")
    output = video.output(
        str(path),
        format="mp4",
        vcodec="libx264",
        crf=crf,
        pix_fmt="yuv420p" if even else "yuv444p",
        movflags="+faststart",
        **{f"metadata:g:{i}": f"{tag}={text}" for i, (tag, text) in enumerate(metadata.items())},
    )
    return ffmpeg_command(output, "-y")


def _check_written(path: Path, width: int, height: int, num_frames: int) -> None:
    info = probe(path)
    found = (info.width, info.height, info.num_frames)
    if found != (width, height, num_frames):
        raise MediaError(f"(width, height, frames) {found}, not {(width, height, num_frames)}")


def write_image(path: Path, image: Frames) -> None:
    """Write uint8 (H, W, 3) as PNG, JPEG or WebP, by the name's suffix; committed."""
    from PIL import Image

    formats = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
    image_format = formats.get(path.suffix.lower())
    if image_format is None:
        raise InputError("image file", path.name, "a name ending in " + ", ".join(formats))
    with committed_file(path) as scratch:
        Image.fromarray(image).save(scratch, format=image_format, quality=95)
