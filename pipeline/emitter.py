"""The child's end of a survey: what goes through the pipe, and how.

Imports no numpy: a child is started for every file, and this is most of what its start would cost.
"""

import contextlib
import json
import struct
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import av
    from PIL import Image

_EARLY_S = 1e-6
"""by which a time may miss the grid, being rounded"""
SMALL, BOTH, END = b"s", b"b", b"."
TIME = struct.Struct("<d")
HEAD = struct.Struct("<6Ii")
"""width, height and bytes a row of small pictures, the same of full ones (all as stored), and the
rotation clockwise"""


def small_size(width: int, height: int, side: int) -> tuple[int, int]:
    """(width, height) with the longer side at most `side`, in the same shape."""
    shrink = min(1.0, side / max(width, height))
    return max(1, round(width * shrink)), max(1, round(height * shrink))


class Emitter:
    """The child's end."""

    def __init__(self, pipe: IO[bytes], side: int, every_s: float) -> None:
        from av.video.reformatter import VideoReformatter

        self.pipe, self.side, self.every_s = pipe, side, every_s
        # One for all frames: a frame's own would be set up anew for each.
        self.to_small, self.to_luma = VideoReformatter(), VideoReformatter()
        self.due_s = 0.0
        self.small = (0, 0)
        self.first_s: float | None = None

    def frame(self, frame: "av.VideoFrame", shown: tuple[int, int], rotation: int) -> None:
        """Pass on a decoded frame; shown is its (width, height) on a screen."""
        begins = self.first_s is None
        if self.first_s is None:
            self.first_s = frame.time or 0.0
            width, height = small_size(*shown, self.side)
            self.small = (height, width) if rotation in (90, 270) else (width, height)
        time_s = (frame.time or 0.0) - self.first_s
        full = begins or time_s >= self.due_s - _EARLY_S
        # Averaging over areas: what is finer than the small frame's pixels must not alias.
        scaled = self.to_small.reformat(
            frame, *self.small, format="rgb24", interpolation="AREA", threads=1
        )
        small = scaled.planes[0]
        luma = self.to_luma.reformat(frame, format="gray", threads=1).planes[0] if full else None
        self._send(BOTH if full else SMALL)
        if begins and luma is not None:
            sizes = (*self.small, small.line_size, frame.width, frame.height, luma.line_size)
            self._send(HEAD.pack(*sizes, rotation))
        self._send(TIME.pack(time_s))
        self._send(bytes(small))
        if luma is not None:
            # On a grid that the frame rate does not shift: copies are compared by these looks.
            self.due_s = (int((time_s + _EARLY_S) / self.every_s) + 1) * self.every_s
            self._send(bytes(luma))

    def image(self, image: "Image.Image") -> None:
        """Pass on a still image that is upright already."""
        self.small = small_size(*image.size, self.side)
        (width, height), (full_width, full_height) = self.small, image.size
        sizes = (width, height, width * 3, full_width, full_height, full_width)
        self._send(BOTH + HEAD.pack(*sizes, 0) + TIME.pack(0.0))
        self._send(image.resize(self.small, reducing_gap=2.0).tobytes())
        self._send(image.convert("L").tobytes())

    def end(self, answer: dict[str, Any]) -> None:
        self._send(END + json.dumps(answer).encode())
        self.pipe.flush()

    def _send(self, content: bytes) -> None:
        # A parent that has seen enough closes the pipe; the child's verdict interests nobody then.
        with contextlib.suppress(BrokenPipeError):
            self.pipe.write(content)
