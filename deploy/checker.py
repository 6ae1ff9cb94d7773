"""Does a video show what a simple prompt asked for? Judged by its pixels, without a learned model.

The world's backgrounds are grey and its things are saturated, so the thing is where the chroma is:
its hue names the colour, the outline the shape, the path of its centre the direction.

    T H W   frames, rows, columns
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from einops import rearrange

from openreel.deploy.world import COLOURS, MOTIONS, SHAPES, Colour
from openreel.pipeline.errors import InputError

Frames = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

NOTHING = "nothing"
MIN_CHROMA = 60
"""of 255; the grey backgrounds stay far below, also when they are noisy"""
MIN_SHARE = 0.01
"""of a frame that a thing must fill to be seen"""
MIN_TRAVEL = 0.15
"""of the short side, over the whole video; less is standing still"""
BAR_ASPECT = 0.62
"""a bar is 0.4 as wide as tall, ball and triangle are 1"""
BALL_FILL = 0.65
"""of its box: a ball fills 0.79, a triangle 0.5"""


@dataclass(frozen=True)
class Score:
    """One video against one prompt: what is right, and what was seen."""

    prompt: str
    colour: bool
    shape: bool
    direction: bool
    seen_colour: str
    seen_shape: str
    seen_direction: str


@dataclass(frozen=True)
class Summary:
    """Shares of right answers, 0 to 1; all counts videos with all three right."""

    colour: float
    shape: float
    direction: float
    all: float


def prompts() -> tuple[str, ...]:
    """24 prompts: each colour in each of the four directions, shapes in turn."""
    moving = [motion for motion in MOTIONS if motion != "still"]
    return tuple(
        f"a {colour} {SHAPES[(i + j) % len(SHAPES)]} moves {direction}"
        for i, colour in enumerate(COLOURS)
        for j, direction in enumerate(moving)
    )


PROMPTS = prompts()


def score(frames: Frames, prompt: str) -> Score:
    """Judge (T, H, W, 3) frames. Raises InputError for a prompt that lacks one of the three."""
    words = prompt.lower().replace(".", " ").split()
    wanted = [next((n for n in names if n in words), None) for names in (COLOURS, SHAPES, MOTIONS)]
    if None in wanted:
        raise InputError("prompt", prompt, "a colour, a shape and a direction of the world")
    colour = seen_colour(frames)
    masks = thing_masks(frames, colour)
    seen = (colour or NOTHING, seen_shape(masks), seen_direction(masks))
    colour_right, shape_right, direction_right = (a == b for a, b in zip(wanted, seen, strict=True))
    return Score(prompt, colour_right, shape_right, direction_right, *seen)


def summarise(scores: Iterable[Score]) -> Summary:
    """Shares over some scores; of none, zeros."""
    marks = np.array([(s.colour, s.shape, s.direction) for s in scores], float).reshape(-1, 3)
    if not len(marks):
        return Summary(0.0, 0.0, 0.0, 0.0)
    colour, shape, direction = marks.mean(0)
    return Summary(float(colour), float(shape), float(direction), float(marks.all(1).mean()))


def hue_and_chroma(frames: Frames) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """(T, H, W) hue in degrees and chroma (largest minus smallest channel)."""
    rows = rearrange(frames.astype(np.float32), "t h w c -> (t h) w c")
    hue = cv2.cvtColor(rows / 255, cv2.COLOR_RGB2HSV)[..., 0]
    chroma = rows.max(-1) - rows.min(-1)
    t = len(frames)
    return rearrange(hue, "(t h) w -> t h w", t=t), rearrange(chroma, "(t h) w -> t h w", t=t)


def nearest_colour(hue: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """The index in COLOURS of the nearest hue."""
    named = np.array([[rgb] for rgb in COLOURS.values()], np.uint8)
    hues = hue_and_chroma(named[None])[0].ravel()
    apart = np.abs(hue[..., None] - hues)
    nearest: npt.NDArray[np.int64] = np.minimum(apart, 360 - apart).argmin(-1)
    return nearest


def seen_colour(frames: Frames) -> Colour | None:
    """The colour of most of the saturated pixels, or None where there are too few."""
    hue, chroma = hue_and_chroma(frames)
    saturated = chroma > MIN_CHROMA
    if saturated.mean() < MIN_SHARE:
        return None
    counts = np.bincount(nearest_colour(hue[saturated]), chroma[saturated], len(COLOURS))
    return tuple(COLOURS)[int(counts.argmax())]


def thing_masks(frames: Frames, colour: Colour | None) -> list[Mask]:
    """Where the thing is, frame by frame: the largest connected piece of its colour."""
    if colour is None:
        return []
    hue, chroma = hue_and_chroma(frames)
    own = nearest_colour(hue) == tuple(COLOURS).index(colour)
    strong = chroma > max(MIN_CHROMA, 0.5 * float(np.percentile(chroma[own], 95)))
    return [largest_piece(mask) for mask in own & strong]


def largest_piece(mask: Mask) -> Mask:
    """The largest connected piece, empty if it is too small to be a thing."""
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count < 2:
        return np.zeros_like(mask)
    piece = 1 + int(statistics[1:, cv2.CC_STAT_AREA].argmax())
    found: Mask = labels == piece
    return found if found.mean() >= MIN_SHARE else np.zeros_like(mask)


def seen_shape(masks: Sequence[Mask]) -> str:
    """From the outline's box, in the frames where the thing is whole."""
    visible = [mask for mask in masks if mask.any()]
    if not visible:
        return NOTHING
    largest = max(mask.sum() for mask in visible)
    whole = [m for m in visible if m.sum() > 0.7 * largest and not touches_edge(m)] or visible
    boxes = np.array([_box(mask) for mask in whole])
    aspect, filled = np.median(boxes, axis=0)
    if aspect < BAR_ASPECT:
        return "bar"
    return "ball" if filled > BALL_FILL else "triangle"


def touches_edge(mask: Mask) -> bool:
    """Whether part of the thing may lie outside the frame."""
    return bool(mask[[0, -1]].any() or mask[:, [0, -1]].any())


def _box(mask: Mask) -> tuple[float, float]:
    """Width over height of the mask's box, and the share of the box that it fills."""
    rows, columns = np.nonzero(mask)
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    return float(width / height), float(mask.sum() / (width * height))


def seen_direction(masks: Sequence[Mask]) -> str:
    """From a straight line through the centres of the frames where the thing is seen."""
    times = np.array([t for t, mask in enumerate(masks) if mask.any()])
    if len(times) < 2:
        return NOTHING
    centres = np.array([[axis.mean() for axis in np.nonzero(masks[t])] for t in times])
    down, right = np.polyfit(times, centres, 1)[0] * (len(masks) - 1) / min(masks[0].shape)
    if max(abs(down), abs(right)) < MIN_TRAVEL:
        return "still"
    if abs(right) > abs(down):
        return "right" if right > 0 else "left"
    return "down" if down > 0 else "up"
