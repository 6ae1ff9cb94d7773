"""The child of probe and survey: looks into one file that nobody vouches for.

Allow-lists come before the first frame; then every frame is decoded, because headers lie: a video
may break in the middle, end early, change its size, or carry timestamps that go backwards.
"""

import dataclasses
import json
import sys
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openreel.pipeline.emitter import Emitter
from openreel.pipeline.errors import MediaError
from openreel.pipeline.probe import CODECS, DEMUXERS, IMAGE_FORMATS, IMAGE_SUFFIXES, MediaInfo
from openreel.pipeline.sandbox import Limits

if TYPE_CHECKING:
    import av
    from PIL import Image

_HDR = {16: "smpte2084", 18: "arib-std-b67"}
"""transfer functions of HDR, by their number in ITU-T H.273"""
_TRUNCATED = 0.98
"""a file that holds less than this share of what its header announces was cut short"""


def inspect(path: Path, limits: Limits, emitter: Emitter | None = None) -> MediaInfo:
    """As probe, or survey with an emitter, in this process and so without its protection."""
    if path.stat().st_size == 0:
        raise MediaError("an empty file")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return _inspect_image(path, limits, emitter)
    return _inspect_video(path, limits, emitter)


def open_image(path: Path, limits: Limits) -> "tuple[Image.Image, Image.Image]":
    """A still image as stored and as shown: turned upright, RGB, transparency over white."""
    from PIL import Image, ImageOps

    stored = Image.open(path, formats=IMAGE_FORMATS)
    _check_size(stored.width, stored.height, limits)
    if getattr(stored, "n_frames", 1) > 1:
        raise MediaError("an image with several frames")
    if stored.mode.startswith(("I", "F")):
        raise MediaError(f"pixels of type {stored.mode}; accepted: 8 bits a channel")
    upright = ImageOps.exif_transpose(stored)
    if not upright.has_transparency_data:
        return stored, upright.convert("RGB")
    layer = upright.convert("RGBA")
    return stored, Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert(
        "RGB"
    )


def _inspect_image(path: Path, limits: Limits, emitter: Emitter | None) -> MediaInfo:
    stored, shown = open_image(path, limits)
    if emitter is not None:
        emitter.image(shown)
    orientation = stored.getexif().get(0x0112, 1)
    return MediaInfo(
        kind="image",
        container=str(stored.format).lower(),
        codec=str(stored.format).lower(),
        pix_fmt=stored.mode.lower(),
        width=shown.width,
        height=shown.height,
        rotation={3: 180, 4: 180, 5: 90, 6: 90, 7: 270, 8: 270}.get(orientation, 0),
    )


def _inspect_video(path: Path, limits: Limits, emitter: Emitter | None) -> MediaInfo:
    import av

    allowed = {"format_whitelist": DEMUXERS, "protocol_whitelist": "file"}
    with av.open(str(path), options=allowed) as container:
        stream = _video_stream(container)
        _check_header(container, stream, limits)
        scan = _Scan(limits)
        aspect = stream.sample_aspect_ratio or Fraction(1)
        for frame in scan.frames(container, stream):
            scan.note(frame)
            if emitter is not None:
                emitter.frame(frame, _shown_size(*scan.size, aspect, scan.rotation), scan.rotation)
        scan.check_complete(container, stream)
        pts, time_base = scan.timestamps(stream), Fraction(stream.time_base)
        end_pts = pts[-1] + max(1, scan.last_duration or _mean_step(pts))
        aspect = stream.sample_aspect_ratio or Fraction(1)  # some streams tell only when decoded
        width, height = _shown_size(*scan.size, aspect, scan.rotation)
        steps = [b - a for a, b in pairwise(pts)]
        return MediaInfo(
            kind="video",
            container=container.format.name,
            codec=_codec(stream),
            pix_fmt=scan.pix_fmt,
            bit_depth=scan.bit_depth,
            transfer=scan.transfer,
            width=width,
            height=height,
            rotation=scan.rotation,
            sample_aspect=f"{aspect.numerator}:{aspect.denominator}",
            fps=float(len(pts) / ((end_pts - pts[0]) * time_base)),
            # Ticks too coarse for the rate (1/1000 in Matroska) and a little jitter do not count.
            variable_rate=bool(steps) and max(steps) - min(steps) > max(1, 0.05 * min(steps)),
            num_frames=len(pts),
            duration_s=float((end_pts - pts[0]) * time_base),
            start_s=float(pts[0] * time_base),
            time_base=f"{time_base.numerator}/{time_base.denominator}",
            has_audio=bool(container.streams.audio),
            pts=pts,
            end_pts=end_pts,
        )


class _Scan:
    """What one pass over all packets and frames finds out."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.pts: list[int | None] = []
        self.size = (0, 0)
        self.rotation = 0
        self.pix_fmt = ""
        self.bit_depth = 8
        self.transfer = ""
        self.last_duration = 0
        self.end_s = 0.0

    def frames(self, container: Any, stream: Any) -> Iterator["av.VideoFrame"]:
        """Decode the video; of the other streams only the last timestamp is looked at."""
        import av

        try:
            for packet in container.demux():
                if packet.pts is not None and packet.time_base is not None:
                    end = (packet.pts + (packet.duration or 0)) * packet.time_base
                    self.end_s = max(self.end_s, float(end))
                if packet.stream.index == stream.index:
                    yield from packet.decode()
        except (av.FFmpegError, IndexError) as error:
            reason = getattr(error, "strerror", "") or str(error)
            raise MediaError(f"breaks after {len(self.pts)} frames: {reason}") from error

    def note(self, frame: "av.VideoFrame") -> None:
        size, rotation = (frame.width, frame.height), -round(frame.rotation) % 360
        if not self.pts:
            _check_size(*size, self.limits)
            self.size, self.rotation, self.pix_fmt = size, rotation, frame.format.name
            self.bit_depth = max(component.bits for component in frame.format.components)
            self.transfer = _HDR.get(int(frame.color_trc), "")
            if rotation % 90:
                raise MediaError(f"turned by {rotation} degrees; accepted: multiples of 90")
        if (size, rotation) != (self.size, self.rotation):
            raise MediaError(
                f"changes from {self.size[0]}x{self.size[1]} to {size[0]}x{size[1]} at frame "
                f"{len(self.pts)}"
            )
        if len(self.pts) >= self.limits.max_frames:
            raise MediaError(f"more than {self.limits.max_frames} frames")
        self.pts.append(frame.pts)
        self.last_duration = int(frame.duration or 0)

    def check_complete(self, container: Any, stream: Any) -> None:
        """Frames and seconds that the header announces and the file does not hold."""
        found, announced = len(self.pts), int(stream.frames)
        if found == 0:
            raise MediaError("no frame decodes")
        if found + 2 < announced * _TRUNCATED:
            raise MediaError(f"cut short: {found} of {announced} frames decode")
        # Some containers count the duration from zero and some from the first frame: a file that
        # starts late is given the benefit of the doubt.
        duration_s = (container.duration or 0) / 1_000_000
        if self.end_s < duration_s * _TRUNCATED - 1.0:
            raise MediaError(f"cut short: ends at {self.end_s:.2f} s of {duration_s:.2f} s")

    def timestamps(self, stream: Any) -> tuple[int, ...]:
        """Strictly increasing ticks. A raw stream without any is numbered at its nominal rate."""
        if all(tick is None for tick in self.pts) and stream.guessed_rate:
            step = 1 / (Fraction(stream.guessed_rate) * Fraction(stream.time_base))
            return tuple(round(i * step) for i in range(len(self.pts)))
        for i, (tick, following) in enumerate(pairwise([*self.pts, float("inf")])):
            if tick is None or following is None or following <= tick:
                raise MediaError(f"timestamps are missing or go backwards at frame {i}")
        ticks = tuple(int(tick) for tick in self.pts if tick is not None)
        span_s = (ticks[-1] - ticks[0]) * Fraction(stream.time_base)
        if span_s > self.limits.max_duration_s:
            raise MediaError(f"longer than {self.limits.max_duration_s:g} s")
        return ticks


def _mean_step(pts: tuple[int, ...]) -> int:
    return round((pts[-1] - pts[0]) / (len(pts) - 1)) if len(pts) > 1 else 1


def _video_stream(container: Any) -> Any:
    import av

    cover_art = av.stream.Disposition.attached_pic
    for stream in container.streams.video:
        if not stream.disposition & cover_art:
            return stream
    raise MediaError("no video stream, only audio" if container.streams.audio else "no video")


def _codec(stream: Any) -> str:
    return str(stream.codec_context.codec.canonical_name)


def _check_header(container: Any, stream: Any, limits: Limits) -> None:
    codec = _codec(stream)
    if codec not in CODECS:
        raise MediaError(f"codec {codec}; accepted: {', '.join(sorted(CODECS))}")
    _check_size(stream.codec_context.width, stream.codec_context.height, limits)
    if (container.duration or 0) / 1_000_000 > limits.max_duration_s:
        raise MediaError(f"longer than {limits.max_duration_s:g} s")
    stream.codec_context.thread_count = 1


def _check_size(width: int, height: int, limits: Limits) -> None:
    if width < 1 or height < 1:
        raise MediaError(f"no picture size ({width}x{height})")
    if width * height > limits.max_pixels:
        raise MediaError(f"{width}x{height}; accepted: at most {limits.max_pixels} pixels")


def _shown_size(width: int, height: int, aspect: Fraction, rotation: int) -> tuple[int, int]:
    """(width, height) on a screen: pixels made square by stretching the width, then turned."""
    width = max(1, round(width * aspect))
    return (height, width) if rotation in (90, 270) else (width, height)


def main(argv: list[str]) -> None:
    """TASK PATH LIMITS ARGUMENT: probe, survey [SIDE, SECONDS], or pixels SIZE (of an image)."""
    task, path, limits = argv[0], Path(argv[1]), Limits(**json.loads(argv[2]))
    argument = json.loads(argv[3])
    if task == "pixels":
        _write_pixels(path, limits, argument)
        return
    emitter = Emitter(sys.stdout.buffer, *argument) if task == "survey" else None
    try:
        answer: dict[str, Any] = dataclasses.asdict(inspect(path, limits, emitter))
    except MediaError as error:
        answer = {"error": str(error)}
    except Exception as error:  # whatever a decoder raises is a verdict on the file
        answer = {"error": f"cannot be opened: {getattr(error, 'strerror', None) or error}"}
    if emitter is None:
        json.dump(answer, sys.stdout)
    else:
        emitter.end(answer)


def _write_pixels(path: Path, limits: Limits, size: tuple[int, int] | None) -> None:
    import numpy as np
    from PIL import Image

    _, image = open_image(path, limits)
    if size is not None:
        image = image.resize(size, Image.Resampling.BICUBIC)
    np.save(sys.stdout.buffer, np.asarray(image))


if __name__ == "__main__":
    main(sys.argv[1:])
