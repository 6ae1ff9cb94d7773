"""What every captioner is, whatever stands behind it: windows of clips in, captions out.

    videococa:FOLDER   the captioner that is trained here (coca_writer.py)
    vlm:FOLDER         an image- or video-text-to-text model of transformers (vlm.py)
    endpoint:URL       an OpenAI-compatible server, such as vLLM (endpoint_writer.py)

A writer never raises for a window: what goes wrong with one is the status of what was written.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

Frames = npt.NDArray[np.uint8]
Outcome = Literal["ok", "truncated", "blocked", "error"]


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What a writer wants to be shown of a window."""

    num_frames: int
    """at most, evenly spaced from the first to the last"""
    max_area: int
    """pixels of a frame, at most; its aspect is kept"""
    multiple: int = 1
    """both sides are multiples of this; what is missing is padding in the mean colour"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Window:
    """A span of a clip, as it is shown to a writer."""

    key: str
    """clip and span: what is drawn for a caption depends on it, never on its neighbours"""
    frames: Frames
    """(T, H, W, 3), of the clip's own aspect; T and H W as the writer's Sight asks"""
    times: tuple[float, ...]
    """second of the clip at which each frame is shown"""
    hint: str = ""
    """what is known from elsewhere, such as the measured movement of the camera"""


@dataclass(frozen=True, kw_only=True)
class Written:
    """One caption of one window, or why there is none."""

    text: str = ""
    outcome: Outcome = "ok"
    """truncated: the text is cut off at a limit; blocked: refused by the model or its server"""
    reason: str = ""
    """in words, unless ok"""
    logprob: float | None = None
    """mean of a token's log-probability under the model itself (temperature 1)"""
    agreement: float | None = None
    """contrastive likeness of window and text, -1 to 1"""
    tokens_in: int = 0
    tokens_out: int = 0


class Writer(Protocol):
    """What writes captions. Built once in each worker, then called with batches."""

    source: str
    """videococa, vlm or endpoint"""
    identity: str
    """equal identity, equal captions: weights, sizes, decoding"""
    sight: Sight

    def prompt(self, kind: str) -> str:
        """The instruction for a kind of caption; empty where the model takes none."""
        ...

    def write(self, windows: Sequence[Window], kind: str) -> list[Written]:
        """One result a window, in order; never depends on which windows share a call."""
        ...
