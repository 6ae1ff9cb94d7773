"""Captions from a server that speaks OpenAI's chat protocol and sees pictures.

Frames travel as JPEG of the clip's own aspect, as one message with their times and the instruction.
"""

import base64
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from openreel.pipeline.clip import digest
from openreel.pipeline.errors import InputError
from openreel.pipeline.keyed import generator
from openreel.recaption.chat import Answer, Ask
from openreel.recaption.endpoint import Endpoint, EndpointConfig, Spent
from openreel.recaption.instructions import Instructions, question
from openreel.recaption.writer import Frames, Sight, Window, Written


@dataclass(frozen=True, kw_only=True)
class EndpointWriterConfig:
    """What is sent of a window."""

    num_frames: int = 8
    max_area: int = 448 * 448
    """pixels of a frame"""
    quality: int = 90
    """of the JPEGs, 1 to 100"""
    seed: int = 0
    instructions: Instructions = field(default_factory=Instructions)

    def __post_init__(self) -> None:
        for name in ("num_frames", "max_area"):
            if getattr(self, name) < 1:
                raise InputError(name, getattr(self, name), "1 or more")
        if not 1 <= self.quality <= 100:
            raise InputError("quality", self.quality, "1 to 100")


def endpoint_identity(endpoint: EndpointConfig, config: EndpointWriterConfig) -> str:
    """The writer's identity, told without a connection."""
    return f"{endpoint.model}:{digest(endpoint.identity, asdict(config))[:8]}"


class EndpointWriter:
    """A Writer (writer.py) whose model runs on a server."""

    source = "endpoint"

    def __init__(self, endpoint: EndpointConfig, config: EndpointWriterConfig) -> None:
        """Raises InputError if the package openai or the key is missing; asks nothing yet."""
        self.endpoint = Endpoint(endpoint)
        self.config = config
        self.identity = endpoint_identity(endpoint, config)
        self.sight = Sight(num_frames=config.num_frames, max_area=config.max_area)

    @property
    def spent(self) -> Spent:
        """Requests, tokens and cost of all captions so far."""
        return self.endpoint.spent

    def prompt(self, kind: str) -> str:
        return self.config.instructions.of(kind)

    def write(self, windows: Sequence[Window], kind: str) -> list[Written]:
        """One result a window, in order; all windows are under way at once."""
        asks: dict[int, Ask] = {}
        faults: dict[int, Answer] = {}
        instruction = self.prompt(kind)
        for i, window in enumerate(windows):
            try:
                asks[i] = self._ask(window, kind, instruction)
            except Exception as error:  # the boundary of a window: the others go on
                told = " ".join(str(error).split())
                faults[i] = Answer(outcome="error", reason=f"frames: {told}")
        answers = dict(zip(asks, self.endpoint.ask(list(asks.values())), strict=True)) | faults
        return [_written(answers[i]) for i in range(len(windows))]

    def _ask(self, window: Window, kind: str, instruction: str) -> Ask:
        content: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": _data_url(frame_HWC, self.config.quality)}}
            for frame_HWC in window.frames
        ]
        content.append({"type": "text", "text": question(instruction, window)})
        draw = generator(self.config.seed, "endpoint caption", window.key, kind)
        return Ask(messages=({"role": "user", "content": content},), seed=int(draw.integers(2**31)))


def _data_url(frame_HWC: Frames, quality: int) -> str:
    import cv2

    blue_first = np.ascontiguousarray(frame_HWC[..., ::-1])
    _, jpeg = cv2.imencode(".jpg", blue_first, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode()


def _written(answer: Answer) -> Written:
    return Written(
        text=answer.text,
        outcome=answer.outcome,
        reason=answer.reason,
        logprob=answer.logprob,
        tokens_in=answer.tokens_in,
        tokens_out=answer.tokens_out,
    )
