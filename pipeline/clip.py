"""The records of curation: a source file, a video, a clip. Each is one row of a table.

Plain frozen dataclasses; the Arrow schema of a table is read off the dataclass, so that a field is
written down once. No torch here.

    sources  one row a file        key = digest(uri, size, mtime)   -> the bytes' digest
    videos   one row a content     video_id = digest of the bytes   -> what one decode found
    clips    one row a span        clip_id = digest(video_id, start, end, policy)
    copies   one row a kept clip   where its own file lies, if clips are re-encoded
"""

import dataclasses
import hashlib
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import pyarrow as pa

Boundary = Literal["start", "cut", "fade", "dissolve", "stride"]
Status = Literal["ok", "rejected", "failed"]
"""ok: used. rejected: judged and not used, and why. failed: our fault or a passing one; retried."""


def digest(*parts: object) -> str:
    """A 32-digit hexadecimal id of some values: equal values, equal id, on every machine."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()[:32]


def arrow_type(annotation: Any) -> pa.DataType:
    """The Arrow type of a field's annotation: scalars, X | None, tuple[X, ...], nested records."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        (inner,) = [a for a in args if a is not type(None)]
        return arrow_type(inner)
    if origin is Literal:
        return pa.string()
    if origin is tuple:
        return pa.list_(arrow_type(args[0]))
    if dataclasses.is_dataclass(annotation):
        return pa.struct(list(arrow_schema(annotation)))  # type: ignore[arg-type]
    scalars = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    return scalars[annotation]


def arrow_schema(record: type) -> pa.Schema:
    """The Arrow schema of a record class, field by field in order."""
    hints = typing.get_type_hints(record)
    return pa.schema([(f.name, arrow_type(hints[f.name])) for f in dataclasses.fields(record)])


def _restore(annotation: Any, value: Any) -> Any:
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if value is None:
        return None
    if origin in (typing.Union, types.UnionType):
        (inner,) = [a for a in args if a is not type(None)]
        return _restore(inner, value)
    if origin is tuple:
        return tuple(_restore(args[0], v) for v in value)
    if dataclasses.is_dataclass(annotation):
        hints = typing.get_type_hints(annotation)
        return annotation(**{k: _restore(hints[k], v) for k, v in value.items()})  # type: ignore[operator]
    return value


class Row:
    """What every record that is a table's row can do."""

    @classmethod
    def schema(cls) -> pa.Schema:
        return arrow_schema(cls)

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Self:
        """The record of a table's row (a plain dict); a field it does not have is an error."""
        restored: Self = _restore(cls, row)
        return restored

    def to_row(self) -> dict[str, Any]:
        return dataclasses.asdict(self)  # type: ignore[call-overload, no-any-return]


@dataclass(frozen=True, kw_only=True)
class Verdict(Row):
    """The columns that every table shares: nothing leaves a stage without them."""

    status: Status = "ok"
    stage: str = ""
    reason: str = ""
    attempt: int = 1
    version: str = ""
    """of openreel, that made the row"""


@dataclass(frozen=True, kw_only=True)
class TimedText:
    """A caption that came with the source, for the whole of it or for a span of seconds."""

    kind: str
    """original, short or dense"""
    text: str
    start_s: float = 0.0
    end_s: float = float("inf")


@dataclass(frozen=True, kw_only=True)
class Source(Verdict):
    """One file that was listed. Rejected when its bytes are another file's or it is no media."""

    key: str
    uri: str
    num_bytes: int
    video_id: str = ""
    """SHA-256 of the bytes, 32 digits"""
    licence: str = ""
    """as a manifest says"""
    origin: str = ""
    """where the file comes from, as a manifest says"""
    texts: tuple[TimedText, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Shot:
    """A span of frames without a cut: [start_frame, end_frame), [start_pts, end_pts) in ticks."""

    start_frame: int
    end_frame: int
    start_pts: int
    end_pts: int
    opened_by: Boundary = "start"
    """what parts it from the shot before: a hard cut, a fade through one colour, a dissolve"""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What was measured on one frame of about every half second, at its native size.

    Lengths are shares of the longer side, areas shares of the picture, speeds a second.
    """

    frame: int
    towards: int
    """the later frame that motion was measured to; frame itself where there is none"""
    flow: float = 0.0
    """mean length of the optical flow"""
    pan: float = 0.0
    """motion of the picture's content to the right, from the global fit"""
    tilt: float = 0.0
    """the same, downwards"""
    zoom: float = 0.0
    """relative growth of the content"""
    roll: float = 0.0
    """turn of the content, radians clockwise"""
    residual: float = 0.0
    """mean length of the flow that the global fit does not explain"""
    sharpness: float = 0.0
    """0 blurred, 1 sharp"""
    blockiness: float = 0.0
    """steps at the borders of 8x8 blocks over steps elsewhere, minus 1; 0 is none"""
    text_area: float = 0.0
    dark: float = 0.0
    """area of black"""
    bright: float = 0.0
    """area of white"""
    left: int = 0
    """columns and rows of bars on each side, in pixels as shown"""
    top: int = 0
    right: int = 0
    bottom: int = 0
    phash: int = 0
    """perceptual hash, 63 bits"""


@dataclass(frozen=True, kw_only=True)
class Video(Verdict):
    """One distinct content, as probed. Sizes are as shown: rotation and pixel aspect applied."""

    video_id: str
    uri: str
    kind: str = ""
    """video or image"""
    container: str = ""
    codec: str = ""
    pix_fmt: str = ""
    width: int = 0
    height: int = 0
    rotation: int = 0
    sample_aspect: str = "1:1"
    fps: float = 0.0
    """mean rate over the true frames; 0 for an image"""
    variable_rate: bool = False
    num_frames: int = 0
    """frames that really decode"""
    duration_s: float = 0.0
    start_s: float = 0.0
    """seconds on the file's clock at which the first frame is shown"""
    time_base: str = "1/1"
    """seconds a tick, as a fraction"""
    has_audio: bool = False
    bit_depth: int = 8
    pts: tuple[int, ...] = ()
    """presentation time of each frame, in ticks"""
    luma: tuple[float, ...] = ()
    """mean brightness of each frame, 0 to 1"""
    change: tuple[float, ...] = ()
    """mean absolute difference of each frame to the one before, 0 to 1; the first is 0"""
    transfer: str = ""
    """the transfer function where it is HDR's: smpte2084 (PQ) or arib-std-b67 (HLG)"""
    shots: tuple[Shot, ...] = ()
    samples: tuple[Sample, ...] = ()
    licence: str = ""
    origin: str = ""
    texts: tuple[TimedText, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Clip(Verdict):
    """A span of one video inside one shot: the unit that is captioned, encoded and trained on."""

    clip_id: str
    video_id: str
    uri: str
    kind: str
    start_frame: int
    num_frames: int
    start_pts: int
    end_pts: int
    time_base: str
    fps: float
    width: int
    height: int
    container: str = ""
    """the file's; tells whether seeking is safe"""
    opened_by: Boundary = "start"
    luma: float = 0.0
    """mean brightness, 0 to 1"""
    change: float = 0.0
    """mean absolute change between frames, 0 to 1"""
    motion: float = 0.0
    """optical flow, in longer sides a second"""
    camera: str = ""
    """still, pan, tilt, zoom, roll, handheld or unknown"""
    static: float = 0.0
    """share of the frames that repeat the one before"""
    black: float = 0.0
    """share of the frames that are black"""
    dark: float = 0.0
    bright: float = 0.0
    sharpness: float = 0.0
    blockiness: float = 0.0
    text_area: float = 0.0
    crop_x: int = 0
    """the picture without bars, in pixels as shown; recorded, never applied"""
    crop_y: int = 0
    crop_width: int = 0
    crop_height: int = 0
    phashes: tuple[int, ...] = ()
    aesthetic: float | None = None
    """where a model was given"""
    semantic: float | None = None
    duplicate_of: str = ""
    """the clip that is kept in its stead"""
    licence: str = ""
    origin: str = ""
    texts: tuple[TimedText, ...] = field(default=())
    """the source's own captions that cover this span"""


@dataclass(frozen=True, kw_only=True)
class Copy(Verdict):
    """A clip's own file, re-encoded from its span of the source."""

    clip_id: str
    uri: str = ""
    sha256: str = ""
    num_bytes: int = 0
    num_frames: int = 0
    start_pts: int = 0
    end_pts: int = 0
    time_base: str = "1/1"
    container: str = ""
