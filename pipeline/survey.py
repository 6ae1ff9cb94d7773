"""One decode of a whole file, seen through small frames: all that curation measures comes from it.

    child:  PyAV decodes, checks, writes each frame small and some frames' brightness at full size
    pipe:   a tag, the frame's time, the pixels; at the end the file's MediaInfo or its fault
    parent: turns the pictures upright and hands them on

The child runs in the sandbox; pixels never touch the disk.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from openreel.pipeline.emitter import BOTH, END, HEAD, TIME
from openreel.pipeline.errors import MediaError
from openreel.pipeline.probe import MediaInfo, inspector, parsed
from openreel.pipeline.sandbox import ChildError, Limits, child

Frames = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Look:
    """One frame, upright."""

    number: int
    time_s: float
    """since the first frame"""
    small: Frames
    """(h, w, 3) RGB in the shape that is shown, its longer side as asked"""
    luma: Frames | None
    """(H, W) brightness at full size, pixels as stored; on some frames only"""


def survey(
    path: Path,
    see: Callable[[Look], None],
    *,
    side: int = 160,
    every_s: float = 0.5,
    limits: Limits | None = None,
) -> MediaInfo:
    """Decode a file once, show every frame to `see`, and return what the file is.

    side: the longer side of small frames; nothing is enlarged. every_s: there is a look at full
    size of the first frame at or after each multiple of so many seconds. Raises MediaError with a
    one-line reason if the file is not wholly usable, although some of its frames may have been seen
    by then; ChildError if a limit or a signal ended the child.
    """
    limits = limits or Limits()
    try:
        with child(inspector("survey", path, limits, [side, every_s]), limits) as process:
            assert process.stdout is not None
            answer = _receive(process.stdout, see)
    except ChildError as error:
        if error.killed:
            raise
        raise MediaError(f"the survey ended with {error.reason}") from error
    if answer is None:
        raise MediaError("the survey ended without an answer")
    return parsed(answer)


def _receive(pipe: IO[bytes], see: Callable[[Look], None]) -> dict[str, Any] | None:
    """Every frame until the answer; None if the pipe ends before it."""
    number, small, full, rotation = 0, (0, 0, 0), (0, 0, 0), 0
    while tag := pipe.read(1):
        if tag == END:
            answer: dict[str, Any] = json.loads(pipe.read())
            return answer
        if number == 0:
            *sizes, rotation = HEAD.unpack(pipe.read(HEAD.size))
            small, full = tuple(sizes[:3]), tuple(sizes[3:])
        (time_s,) = TIME.unpack(pipe.read(TIME.size))
        see(
            Look(
                number=number,
                time_s=time_s,
                small=_upright(pipe, small, 3, rotation),
                luma=_upright(pipe, full, 1, rotation)[..., 0] if tag == BOTH else None,
            )
        )
        number += 1
    return None


def _upright(pipe: IO[bytes], size: tuple[int, ...], channels: int, rotation: int) -> Frames:
    """A picture of some width and height, whose rows of so many bytes may have gaps after them."""
    width, height, line = size
    pixels = pipe.read(line * height)
    if len(pixels) < line * height:
        raise MediaError("the survey ended in the middle of a frame")
    rows = np.frombuffer(pixels, np.uint8).reshape(height, line)[:, : width * channels]
    stored = rows.reshape(height, width, channels)
    return np.ascontiguousarray(np.rot90(stored, k=-rotation // 90))
