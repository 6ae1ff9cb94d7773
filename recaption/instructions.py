"""What a general model is told, so that its captions have the style of ours.

A dense caption has a fixed order, the same that the expander gives to prompts:

    A large red ball moves right across a dark striped background. The camera is still.
      attributes, thing, what it does    where, background, light    camera, always last
"""

from collections.abc import Sequence
from dataclasses import dataclass

from openreel.pipeline.errors import InputError
from openreel.recaption.writer import Window

_ONLY = (
    "Write only what can be seen; leave out what you would have to guess, such as names, feelings, "
    "sounds and what happens before or after. Answer with the text alone, in English."
)

SHORT = (
    "Write one phrase of 3 to 12 words as people type it to ask for this clip: its main subject "
    'and what it does, such as "a red ball rolling to the right". No style, no camera, no '
    "background. " + _ONLY
)

DENSE = (
    "Describe this clip in 2 to 5 plain sentences, in the present tense, in this order: "
    "(1) each main subject with its attributes (how many, colour, size, material, clothing) and "
    "what it does, with the direction of its movement as the viewer sees it (left, right, up, "
    "down, towards the camera, away from it); "
    "(2) the place and the background, then the light; "
    "(3) at the very end the camera: whether it is still, pans, tilts, zooms or moves, and where. "
    'Begin with the subject, never with "the video shows", "this image" or the like. Text that is '
    "legible in the picture is quoted letter by letter in quotation marks. " + _ONLY
)


@dataclass(frozen=True, kw_only=True)
class Instructions:
    """One instruction for each kind of caption that a model can write."""

    short: str = SHORT
    dense: str = DENSE

    def of(self, kind: str) -> str:
        """The instruction of a kind. Raises InputError for a kind that nobody is told to write."""
        match kind:
            case "short":
                return self.short
            case "dense":
                return self.dense
        raise InputError("kind", kind, "short, dense")


def question(instruction: str, window: Window) -> str:
    """What is said beside a window's frames: their times, the instruction, what was measured.

    Raises ValueError for a window without frames or without a time for each.
    """
    if not 0 < len(window.frames) == len(window.times):
        raise ValueError(f"{len(window.frames)} frames with {len(window.times)} times")
    said = [_times(window.times), instruction]
    if window.hint:
        fact = window.hint.rstrip(".")
        said.append(f"Measured, not seen, and more reliable than an impression: {fact}.")
    return "\n\n".join(said)


def _times(times: Sequence[float]) -> str:
    if len(times) == 1:
        return "This is a still picture: say nothing of movement."
    seconds = ", ".join(f"{time:.2f}" for time in times)
    return f"These {len(times)} frames of one clip are seen at {seconds} seconds."
