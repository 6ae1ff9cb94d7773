"""Hard films for shot detection, drawn from a seed, with their true boundaries.

Shots are views of procedural canvases with moving objects under a moving camera. Between them lie
hard cuts (also to the same place in slightly other framing, to dark shots, after as few as five
frames), dissolves and fades; inside them what is often mistaken for a cut: flashes, explosions,
jumps and flicker of the exposure, whip pans, objects that rush past the lens, shake, grain, bars.

    T H W   frames, rows, columns
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

import cv2
import numpy as np
import numpy.typing as npt

from openreel.pipeline.keyed import generator
from openreel.pipeline.media import Frames

Picture = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Kind = Literal["cut", "fade", "dissolve"]

SIZES = ((160, 90), (160, 68), (160, 120), (90, 160), (128, 128), (120, 160))
"""(width, height)"""
DISTURBANCES = ("flash", "explosion", "exposure", "flicker", "whip", "rush", "lamp")
_MARGIN = 96
"""pixels that a canvas is larger than the picture on each side; beyond, it is mirrored"""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """A boundary: the first frame that holds nothing of the old shot is `end`."""

    kind: Kind
    start: int
    """first frame that is not wholly the old shot's"""
    end: int
    """first frame that is wholly the new shot's; equal to start for a cut"""

    @property
    def frame(self) -> int:
        return (self.start + self.end) // 2


@dataclass(frozen=True, kw_only=True)
class Film:
    frames: Frames
    """uint8 (T, H, W, 3)"""
    truths: tuple[Truth, ...]
    disturbances: tuple[tuple[int, str], ...]
    """where something happens that is no boundary, and what"""

    def cuts(self) -> list[int]:
        return [truth.frame for truth in self.truths if truth.kind == "cut"]


@dataclass(frozen=True, kw_only=True)
class Place:
    """What the camera looks at."""

    canvas: Picture
    """float32 (H + 2 margins, W + 2 margins, 3), 0 to 255"""
    objects: tuple[tuple[Picture, Floats, Floats], ...]
    """sprite (h, w, 4) with its mask, place, velocity in pixels a frame"""
    gain: float = 1.0


@dataclass(kw_only=True)
class Take:
    """One shot's camera and light, frame by frame."""

    camera: Floats
    """(T, 3): x, y in pixels, log2 of the zoom"""
    gain: Floats
    """(T,)"""
    add: Floats
    """(T,) light that is added, 0 to 255"""
    glow: Floats
    """(T,) strength of a fireball"""
    centre: Floats
    rush: Floats
    """(T,) position of a large object before the lens, in widths; outside [-1, 1] it is not seen"""
    events: list[tuple[int, str]] = field(default_factory=list)

    @classmethod
    def still(cls, num_frames: int, size: tuple[int, int]) -> Self:
        """A camera on a tripod, in even light."""
        return cls(
            camera=np.zeros((num_frames, 3)),
            gain=np.ones(num_frames),
            add=np.zeros(num_frames),
            glow=np.zeros(num_frames),
            centre=np.array(size) / 2,
            rush=np.full(num_frames, 2.0),
        )


def film(seed: int, index: int, *, min_frames: int = 100, max_frames: int = 250) -> Film:
    """The film of an index; equal arguments, equal film."""
    rng = generator(seed, "film", index)
    size = SIZES[index % len(SIZES)]
    wanted = int(rng.integers(min_frames, max_frames + 1))
    shots: list[Picture] = []
    kinds: list[tuple[Kind, int]] = []
    events: list[list[tuple[int, str]]] = []
    place = a_place(rng, size)
    length, burst = 0, 0
    before = 0
    while length < wanted:
        burst = int(rng.integers(2, 5)) if not burst and rng.random() < 0.12 else max(0, burst - 1)
        num_frames = int(rng.integers(5, 9)) if burst else int(rng.integers(18, 70))
        if wanted - length - num_frames < 12:
            num_frames = max(12, wanted - length)
        kind, after = _transition(rng, num_frames, bool(burst))
        take = a_take(rng, num_frames, size, quiet=(before, after))
        shots.append(shoot(rng, place, take, size))
        events.append(take.events)
        kinds.append((kind, after))
        length, before = length + num_frames, after
        place = _next_place(rng, place, size, kind)
    frames, truths, starts = join(rng, shots, kinds[:-1])
    moved = [(a + at, name) for a, own in zip(starts, events, strict=True) for at, name in own]
    return Film(frames=develop(rng, frames), truths=tuple(truths), disturbances=tuple(moved))


def films(seed: int, count: int) -> Iterator[Film]:
    for index in range(count):
        yield film(seed, index)


# ---- places -----------------------------------------------------------------------------------


def a_place(rng: np.random.Generator, size: tuple[int, int], *, dark: bool | None = None) -> Place:
    """A canvas with objects before it; one in five is dark unless it is said."""
    width, height = size[0] + 2 * _MARGIN, size[1] + 2 * _MARGIN
    colours = _two_colours(rng)
    rough = noise(rng, width, height, slope=rng.uniform(0.3, 1.1))
    tint = noise(rng, width, height, slope=1.2)
    mix = np.clip(rng.uniform(0.3, 0.7) + rng.uniform(0.2, 0.6) * rough, 0, 1)[..., None]
    canvas = colours[0] * mix + colours[1] * (1 - mix)
    canvas += rng.uniform(0, 25) * tint[..., None] * rng.uniform(-1, 1, 3)
    canvas = np.ascontiguousarray(canvas, np.float32)
    for _ in range(int(rng.integers(8, 50))):
        _draw_shape(rng, canvas, rng.uniform(4, 45))
    objects = tuple(_an_object(rng, size) for _ in range(int(rng.integers(0, 4))))
    drawn = rng.random() < 0.2
    dark = drawn if dark is None else dark
    gain = rng.uniform(0.1, 0.3) if dark else rng.uniform(0.6, 1.1)
    return Place(canvas=np.clip(canvas, 0, 255), objects=objects, gain=float(gain))


def _two_colours(rng: np.random.Generator) -> Floats:
    """A darker and a brighter one, some of them greyish."""
    levels = np.array([[rng.uniform(15, 90)], [rng.uniform(140, 240)]])
    return levels + rng.uniform(-1, 1, (2, 3)) * (80 if rng.random() < 0.6 else 12)


def noise(rng: np.random.Generator, width: int, height: int, *, slope: float) -> Picture:
    """Smooth noise of many scales, (H, W), about -1 to 1; a larger slope has less detail."""
    total = np.zeros((height, width), np.float32)
    for cell in (3, 6, 12, 24, 48, 96):
        grid = rng.normal(size=(height // cell + 3, width // cell + 3)).astype(np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * cell**slope
    scaled: Picture = total / (2 * total.std())
    return scaled


def _draw_shape(rng: np.random.Generator, canvas: Picture, scale: float) -> None:
    height, width = canvas.shape[:2]
    x, y = int(rng.integers(width)), int(rng.integers(height))
    a, b = int(scale * rng.uniform(0.3, 1) + 1), int(scale * rng.uniform(0.3, 1) + 1)
    colour = tuple(rng.uniform(0, 255, 3) if rng.random() < 0.5 else [rng.uniform(0, 255)] * 3)
    if rng.random() < 0.5:
        cv2.ellipse(canvas, (x, y), (a, b), rng.uniform(0, 180), 0, 360, colour, -1, cv2.LINE_AA)
    else:
        cv2.rectangle(canvas, (x, y), (x + 2 * a, y + 2 * b), colour, -1)


def _an_object(rng: np.random.Generator, size: tuple[int, int]) -> tuple[Picture, Floats, Floats]:
    side = int(min(size) * rng.uniform(0.15, 0.5))
    sprite = np.zeros((side, side, 4), np.float32)
    texture = noise(rng, side, side, slope=0.6)[..., None]
    sprite[..., :3] = np.clip(rng.uniform(20, 235, 3) + 50 * texture, 0, 255)
    mask = np.zeros((side, side), np.float32)
    cv2.circle(mask, (side // 2, side // 2), side // 2 - 1, 1.0, -1, cv2.LINE_AA)
    sprite[..., 3] = mask
    speed = rng.normal(size=2) * rng.choice([0.3, 1.0, 2.5])
    return sprite, rng.uniform(0, 1, 2) * size, speed


def _next_place(rng: np.random.Generator, place: Place, size: tuple[int, int], kind: Kind) -> Place:
    """Another place, or, after a cut, often the same one with the camera moved a little."""
    if kind != "cut" or rng.random() > 0.25:
        return a_place(rng, size)
    zoom = rng.uniform(1.08, 1.3) ** rng.choice([-1, 1])
    angle = rng.uniform(0, 2 * np.pi)
    move = rng.uniform(0.06, 0.15) * max(size) * np.array([np.cos(angle), np.sin(angle)])
    height, width = place.canvas.shape[:2]
    centre = np.array([width, height]) / 2
    shift = centre - zoom * centre + move
    matrix = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]])
    moved = cv2.warpAffine(place.canvas, matrix, (width, height), borderMode=cv2.BORDER_REFLECT)
    objects = tuple((s, p + rng.normal(size=2) * 8 + move, v) for s, p, v in place.objects)
    return replace(place, canvas=moved, objects=objects)


# ---- shots ------------------------------------------------------------------------------------


def a_take(
    rng: np.random.Generator, num_frames: int, size: tuple[int, int], *, quiet: tuple[int, int]
) -> Take:
    """A camera's way, with disturbances outside the `quiet` first and last frames."""
    t = np.arange(num_frames)
    velocity = rng.normal(size=2) * rng.choice([0.0, 0.4, 1.2, 3.0], p=[0.3, 0.3, 0.25, 0.15])
    shake = rng.choice([0.0, 0.4, 1.5], p=[0.5, 0.3, 0.2])
    sway = rng.normal(size=(num_frames, 2))
    take = Take.still(num_frames, size)
    take.camera[:, :2] = velocity * t[:, None] + shake * (sway + np.roll(sway, 1, axis=0))
    take.camera[:, 2] = rng.choice([0.0, 0.004, -0.004]) * t
    take.centre = rng.uniform(0.2, 0.8, 2) * size
    for at in range(quiet[0] + 6, num_frames - quiet[1] - 14, 18):
        if rng.random() < 0.55:
            disturb(rng, take, at + int(rng.integers(0, 6)), str(rng.choice(DISTURBANCES)), size)
    return take


def disturb(
    rng: np.random.Generator, take: Take, at: int, name: str, size: tuple[int, int]
) -> None:
    """Put one of DISTURBANCES into a take, at a frame."""
    num_frames = len(take.gain)
    after = np.arange(num_frames) - at
    sign = rng.choice([-1, 1])
    if name == "flash":
        take.add[at : at + int(rng.integers(1, 4))] = rng.uniform(90, 255)
    elif name == "explosion":
        take.glow += np.where(after >= 0, np.exp(-np.maximum(after, 0) / rng.uniform(2, 7)), 0)
    elif name == "exposure":
        steps = int(rng.integers(1, 4))
        take.gain *= 1 + (rng.uniform(1.3, 1.9) ** sign - 1) * np.clip((after + 1) / steps, 0, 1)
    elif name == "lamp":  # light goes off, or on, for a while
        inside = (after >= 0) & (after < int(rng.integers(3, 9)))
        take.gain *= np.where(inside, rng.uniform(0.3, 0.6), 1)
    elif name == "flicker":
        depth = rng.uniform(0.05, 0.2)
        take.gain *= np.where(after >= 0, 1 + depth * rng.uniform(-1, 1, num_frames), 1)
    elif name == "whip":
        peak, width = rng.uniform(0.12, 0.4) * max(size), rng.uniform(1.0, 2.5)
        speed = peak * np.exp(-(((after - 3) / width) ** 2))
        axis = int(rng.random() < 0.25)
        take.camera[:, axis] += sign * np.cumsum(np.where(speed > 0.5, speed, 0))
    elif name == "rush":
        take.rush = sign * (-1.2 + np.maximum(after, -1) * rng.uniform(0.12, 0.35))
    take.events.append((at, name))


def shoot(rng: np.random.Generator, place: Place, take: Take, size: tuple[int, int]) -> Picture:
    """The frames of a take, float32 (T, H, W, 3), 0 to 255."""
    width, height = size
    num_frames = len(take.gain)
    frames = np.zeros((num_frames, height, width, 3), np.float32)
    passer = np.clip(rng.uniform(10, 220) + 40 * noise(rng, width, height, slope=0.7), 0, 255)
    y, x = np.mgrid[:height, :width]
    fireball = np.hypot(x - take.centre[0], y - take.centre[1]) / max(size)
    steps = np.diff(take.camera, axis=0, prepend=take.camera[:1])
    for t in range(num_frames):
        # What moves fast is blurred along its way: the shutter is open for half the time.
        views = 1 + 2 * min(6, int(np.abs(steps[t, :2]).max() / 5))
        for part in np.linspace(0, 0.5, views) if views > 1 else [0.0]:
            frames[t] += _view(place.canvas, take.camera[t] - part * steps[t], size) / views
        for sprite, start, velocity in place.objects:
            _paste(frames[t], sprite, start + velocity * t - take.camera[t, :2])
        edge = take.rush[t]
        if -1 < edge < 1:
            covered = np.abs(x / width - 0.5 - edge) < 0.45
            frames[t][covered] = passer[covered][:, None]
        frames[t] = frames[t] * place.gain * take.gain[t] + take.add[t]
        light = np.clip(take.glow[t] * (1.6 - 2.5 * fireball), 0, 1)[..., None]
        frames[t] = frames[t] * (1 - light) + light * np.array([255, 235, 190], np.float32)
    return np.clip(frames, 0, 255)


def _view(canvas: Picture, camera: Floats, size: tuple[int, int]) -> Any:
    zoom = 2.0 ** camera[2]
    corner = _MARGIN + camera[:2] + (1 - 1 / zoom) * np.array(size) / 2
    matrix = np.array([[1 / zoom, 0, corner[0]], [0, 1 / zoom, corner[1]]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(canvas, matrix, size, flags=flags, borderMode=cv2.BORDER_REFLECT)


def _paste(frame: Picture, sprite: Picture, at: Floats) -> None:
    height, width = frame.shape[:2]
    matrix = np.array([[1, 0, at[0]], [0, 1, at[1]]])
    pasted = cv2.warpAffine(sprite, matrix, (width, height))
    mask = pasted[..., 3:]
    frame[:] = frame * (1 - mask) + pasted[..., :3] * mask


# ---- film -------------------------------------------------------------------------------------


def _transition(rng: np.random.Generator, num_frames: int, burst: bool) -> tuple[Kind, int]:
    """How a shot ends, and over how many frames."""
    drawn = rng.random()
    if burst or num_frames < 26 or drawn < 0.5:
        return "cut", 0
    # Half of the shot is left for the transition that it came by.
    length = int(rng.integers(8, min(32, num_frames // 2 - 3)))
    return ("dissolve" if drawn < 0.75 else "fade"), length


def join(
    rng: np.random.Generator, shots: list[Picture], kinds: list[tuple[Kind, int]]
) -> tuple[Picture, list[Truth], list[int]]:
    """Shots one after another, the boundaries, and each shot's first frame.

    A dissolve overlaps two shots; a fade leads through a plain colour.
    """
    film, truths, starts = shots[0], [], [0]
    for shot, (kind, wanted) in zip(shots[1:], kinds, strict=True):
        length = min(wanted, len(shot) // 2 - 3)
        end = len(film)
        if kind == "dissolve" and length >= 8:
            alpha = (np.arange(1, length + 1, dtype=np.float32) / (length + 1))[:, None, None, None]
            mixed = film[end - length :] * (1 - alpha) + shot[:length] * alpha
            truths.append(Truth(kind=kind, start=end - length, end=end))
            starts.append(end - length)
            film = np.concatenate([film[: end - length], mixed, shot[length:]])
        elif kind == "fade" and length >= 8:
            colour = np.float32(rng.choice([0, 0, 255, 128]))
            hold = np.full((int(rng.integers(1, 10)), *shot.shape[1:]), colour, np.float32)
            alpha = (np.arange(1, length + 1, dtype=np.float32) / (length + 1))[:, None, None, None]
            out = film[end - length :] * (1 - alpha) + colour * alpha
            back = shot[:length] * alpha + colour * (1 - alpha)
            begins, ends = end - length, end + len(hold) + length
            truths.append(Truth(kind=kind, start=begins, end=ends))
            starts.append(ends - length)
            film = np.concatenate([film[: end - length], out, hold, back, shot[length:]])
        else:
            truths.append(Truth(kind="cut", start=end, end=end))
            starts.append(end)
            film = np.concatenate([film, shot])
    return film, truths, starts


def develop(rng: np.random.Generator, frames: Picture) -> Frames:
    """What a whole film shares: grey, bars, grain, and the marks of compression."""
    frames = frames.copy()
    if rng.random() < 0.2:
        frames[:] = frames.mean(axis=-1, keepdims=True)
    if rng.random() < 0.25:
        axis = int(rng.integers(1, 3))
        bar = int(frames.shape[axis] * rng.uniform(0.08, 0.2))
        bars = np.moveaxis(frames, axis, 0)
        bars[:bar] = bars[-bar:] = 0
    grain = rng.choice([0.0, 1.5, 4.0])
    quality = int(rng.choice([0, 50, 85]))
    developed = np.empty(frames.shape, np.uint8)
    for t, frame in enumerate(frames):
        noisy = frame + grain * rng.normal(size=frame.shape)
        developed[t] = np.clip(noisy, 0, 255)
        if quality:
            _, coded = cv2.imencode(".jpg", developed[t], [cv2.IMWRITE_JPEG_QUALITY, quality])
            developed[t] = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    return developed
