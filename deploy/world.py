"""A procedural world of coloured shapes: its truth is known, so that each station can be judged.

    draw_scene -> Scene -> render -> frames
                        -> describe -> a short and a dense caption

Letters: T frames, H W pixels. Positions are fractions of the frame, x to the right, y downwards.
"""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from einops import rearrange
from numpy.typing import NDArray

from openreel.pipeline.errors import InputError
from openreel.pipeline.keyed import generator

Shape = Literal["ball", "bar", "triangle"]
Colour = Literal["red", "orange", "yellow", "green", "blue", "purple"]
Size = Literal["small", "large"]
Motion = Literal["left", "right", "up", "down", "still"]
Shade = Literal["dark", "grey", "light"]
Texture = Literal["plain", "striped", "checked", "shaded"]
Camera = Literal["still", "left", "right"]

SHAPES: tuple[Shape, ...] = get_args(Shape)
MOTIONS: tuple[Motion, ...] = get_args(Motion)
SHADES: tuple[Shade, ...] = get_args(Shade)
TEXTURES: tuple[Texture, ...] = get_args(Texture)

COLOURS: dict[Colour, tuple[int, int, int]] = {
    "red": (222, 30, 46),
    "orange": (246, 126, 12),
    "yellow": (244, 232, 40),
    "green": (34, 172, 64),
    "blue": (36, 84, 226),
    "purple": (158, 48, 204),
}
"""sRGB; neighbours are at least 28 degrees of hue apart"""

DIRECTIONS: dict[Motion, tuple[int, int]] = {
    "left": (-1, 0),
    "right": (1, 0),
    "up": (0, -1),
    "down": (0, 1),
    "still": (0, 0),
}
SIZES: tuple[tuple[int, int], ...] = (
    (54, 96),
    (58, 88),
    (62, 84),
    (72, 72),
    (84, 62),
    (88, 58),
    (96, 54),
    (110, 48),
)
"""(width, height), 9:16 to 21:9, all of nearly one area"""

FPS = (8.0, 10.0, 12.0, 16.0)

_LUMA: dict[Shade, int] = {"dark": 38, "grey": 128, "light": 216}
_PILLAR_LUMA: dict[Shade, int] = {"dark": 132, "grey": 62, "light": 124}
_CONTRAST = 16
_BAR_WIDTH = 0.4
_PAN = 0.3
_MIN_TRAVEL = 0.38


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One moving object."""

    shape: Shape
    colour: Colour
    size: Size
    motion: Motion
    diameter: float
    """height of its box, as a fraction of the frame's short side"""
    start: tuple[float, float]
    """centre (x, y) in the first frame, before the camera's shift"""
    travel: float
    """way over the whole scene, as a fraction of the frame's side along the motion"""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One shot."""

    objects: tuple[Thing, ...]
    shade: Shade
    texture: Texture
    camera: Camera = "still"
    pillar: float | None = None
    """x of a grey pillar that things pass behind"""
    collide: bool = False
    """the objects meet half-way and bounce back"""
    width: int
    height: int
    fps: float
    num_frames: int

    def __post_init__(self) -> None:
        if not self.objects:
            raise InputError("objects", self.objects, "at least one")
        if min(self.width, self.height, self.num_frames) < 1:
            size = (self.num_frames, self.height, self.width)
            raise InputError("num_frames, height, width", size, "1 or more each")


@dataclass(frozen=True, kw_only=True)
class Description:
    """The truth about a scene, in words."""

    short: str
    dense: str


def draw_scene(
    seed: int,
    index: object,
    *,
    size: tuple[int, int] | None = None,
    fps: float | None = None,
    num_frames: int | None = None,
    num_objects: int | None = None,
    other_than: Shade | None = None,
) -> Scene:
    """The scene of a key; what is None is drawn. size is (width, height); one frame is an image.

    other_than: a background shade to avoid, that of the shot before a cut.
    """
    rng = generator(seed, "scene", index)
    width, height = size or SIZES[int(rng.integers(len(SIZES)))]
    fps = fps or FPS[int(rng.integers(len(FPS)))]
    num_frames = num_frames or int(rng.integers(9, 18))
    num_objects = num_objects or (2 if rng.random() < 0.2 else 1)
    shades = [s for s in SHADES if s != other_than]
    shade: Shade = shades[int(rng.integers(len(shades)))]
    texture: Texture = TEXTURES[int(rng.integers(len(TEXTURES)))]
    camera: Camera = "still"
    if num_frames > 1 and num_objects == 1 and rng.random() < 0.15:
        # Only a texture that varies along x shows that the camera pans.
        camera = "left" if rng.random() < 0.5 else "right"
        texture = "striped" if rng.random() < 0.5 else "checked"
    pillar, collide = None, False
    objects: tuple[Thing, ...]
    if num_objects == 2:
        elongated = max(width, height) > 1.3 * min(width, height)
        collide = num_frames > 1 and elongated and rng.random() < 0.4
        objects = _draw_pair(rng, width, height, num_frames > 1, collide)
    else:
        thing = _draw_thing(rng, width, height, num_frames > 1, camera)
        passing = thing.motion in ("left", "right") and camera == "still"
        if passing and thing.size == "small" and rng.random() < 0.4:
            pillar = 0.5
            thing = _across(thing, width, height)
        objects = (thing,)
    return Scene(
        objects=objects,
        shade=shade,
        texture=texture,
        camera=camera,
        pillar=pillar,
        collide=collide,
        width=width,
        height=height,
        fps=fps,
        num_frames=num_frames,
    )


def _draw_thing(
    rng: np.random.Generator, width: int, height: int, moving: bool, camera: Camera
) -> Thing:
    """One object, mostly inside the frame from the first frame to the last."""
    shape, colour = SHAPES[int(rng.integers(3))], list(COLOURS)[int(rng.integers(6))]
    size: Size = "small" if rng.random() < 0.5 else "large"
    diameter = float(rng.uniform(0.35, 0.48) if size == "small" else rng.uniform(0.52, 0.65))
    motion: Motion = MOTIONS[int(rng.integers(5))] if moving else "still"
    side = np.array([width, height])
    radius = diameter / 2 * side.min() / side
    way = np.array(DIRECTIONS[motion])
    if camera == "still":
        # At the ends of its way, up to 15 % of an object may be out of the frame.
        longest = min(0.8, float((1 - 1.4 * radius) @ np.abs(way)))
        travel = float(rng.uniform(_MIN_TRAVEL, max(longest, _MIN_TRAVEL))) if any(way) else 0.0
        slack = np.clip(1 - np.where(way, 1.4 * radius + travel, 2 * radius), 0, None)
        middle = 0.5 + slack * rng.uniform(-0.5, 0.5, size=2)
    else:
        travel = _MIN_TRAVEL + (_pan(width, height) if camera == motion else 0.0)
        travel, middle = travel if any(way) else 0.0, np.array([0.5, 0.5])
    x, y = middle - way * travel / 2
    return Thing(
        shape=shape,
        colour=colour,
        size=size,
        motion=motion,
        diameter=diameter,
        start=(float(x), float(y)),
        travel=travel,
    )


def _across(thing: Thing, width: int, height: int) -> Thing:
    """The same object, but on its way from one side of the frame to the other."""
    radius = thing.diameter / 2 * min(width, height) / width
    travel = min(0.8, 1 - 1.4 * radius)
    start = (0.5 - DIRECTIONS[thing.motion][0] * travel / 2, thing.start[1])
    return replace(thing, start=start, travel=travel)


def _draw_pair(
    rng: np.random.Generator, width: int, height: int, moving: bool, collide: bool
) -> tuple[Thing, Thing]:
    """Two small objects of different colours: in lanes of their own, or head on."""
    first, second = (int(i) for i in rng.permutation(6)[:2])
    shapes = [SHAPES[int(i)] for i in rng.integers(3, size=2)]
    diameters = rng.uniform(0.35, 0.42, size=2)
    short = min(width, height)
    rows = width >= height if collide else rng.random() < 0.5
    side = width if rows else height
    onward: list[Motion] = ["right", "left"] if rows else ["down", "up"]
    radius = [
        _extent(s, float(d), rows) * short / side for s, d in zip(shapes, diameters, strict=True)
    ]
    things = []
    for i, colour in enumerate((first, second)):
        motion = onward[i]
        if not collide:
            motion = (*onward, "still")[int(rng.integers(3))] if moving else "still"
        way = sum(DIRECTIONS[motion])
        travel = float(rng.uniform(_MIN_TRAVEL, 0.6)) if way else 0.0
        along, lane = 0.5 - way * travel / 2, (0.27, 0.73)[i]
        if collide:
            travel, lane = 0.5 - 0.8 * radius[i] - (radius[0] + radius[1]) / 2, 0.5
            along = 0.8 * radius[i] if way > 0 else 1 - 0.8 * radius[i]
        things.append(
            Thing(
                shape=shapes[i],
                colour=list(COLOURS)[colour],
                size="small",
                motion=motion,
                diameter=float(diameters[i]),
                start=(along, lane) if rows else (lane, along),
                travel=travel,
            )
        )
    return things[0], things[1]


def _extent(shape: Shape, diameter: float, horizontal: bool) -> float:
    """Half an object's size along an axis."""
    return diameter / 2 * (_BAR_WIDTH if shape == "bar" and horizontal else 1)


def _pan(width: int, height: int) -> float:
    """The camera's way over a scene, as a fraction of the width."""
    return _PAN * min(width, height) / width


def render(scene: Scene) -> NDArray[np.uint8]:
    """The frames, uint8 (T, H, W, 3), anti-aliased by each pixel's distance to the outline.

    A frame is a function of its time within the scene alone: T and fps may be replaced freely.
    """
    t_T = np.linspace(0, 1, scene.num_frames) if scene.num_frames > 1 else np.zeros(1)
    x_W, y_H = np.arange(scene.width) + 0.5, np.arange(scene.height) + 0.5
    pan = _pan(scene.width, scene.height) * DIRECTIONS[scene.camera][0]
    shift_T = pan * scene.width * (t_T - 0.5)
    luma_THW = _background(scene, x_W + shift_T[:, None], y_H)
    frames = np.repeat(luma_THW[..., None], 3, axis=-1)
    moved_T = 0.5 - np.abs(t_T - 0.5) if scene.collide else t_T
    for thing in scene.objects:
        way = np.array(DIRECTIONS[thing.motion]) * thing.travel
        centre_T2 = (np.array(thing.start) + moved_T[:, None] * way) * (scene.width, scene.height)
        x_TW = x_W - centre_T2[:, :1] + shift_T[:, None]
        y_TH = y_H - centre_T2[:, 1:]
        radius = thing.diameter / 2 * min(scene.width, scene.height)
        alpha = np.clip(0.5 - _distance(thing.shape, x_TW, y_TH, radius), 0, 1)[..., None]
        frames = frames * (1 - alpha) + alpha * np.array(COLOURS[thing.colour])
    if scene.pillar is not None:
        half = 0.11 * min(scene.width, scene.height)
        alpha = np.clip(0.5 + half - np.abs(x_W - scene.pillar * scene.width), 0, 1)[:, None]
        frames = frames * (1 - alpha) + alpha * _PILLAR_LUMA[scene.shade]
    return np.rint(frames).astype(np.uint8)


def _background(
    scene: Scene, x_TW: NDArray[np.floating], y_H: NDArray[np.floating]
) -> NDArray[np.floating]:
    """Grey levels (T, H, W); bands are a quarter of the short side wide, their edges a pixel."""
    band = min(scene.width, scene.height) / 4
    x_T1W, y_H1 = rearrange(x_TW, "t w -> t 1 w"), rearrange(y_H, "h -> h 1")

    def banded(position: NDArray[np.floating]) -> NDArray[np.floating]:
        wave: NDArray[np.floating] = np.clip(
            np.sin(np.pi * position / band) * band / np.pi * 2, -1, 1
        )
        return wave

    match scene.texture:
        case "plain":
            pattern = np.zeros_like(x_T1W)
        case "striped":
            pattern = banded(x_T1W)
        case "checked":
            pattern = banded(x_T1W) * banded(y_H1)
        case "shaded":
            pattern = 2 * (2 * y_H1 / scene.height - 1)
    shape = (len(x_TW), scene.height, scene.width)
    return np.broadcast_to(_LUMA[scene.shade] + _CONTRAST * pattern, shape)


def _distance(
    shape: Shape, x_TW: NDArray[np.float64], y_TH: NDArray[np.float64], radius: float
) -> NDArray[np.float64]:
    """Signed distance in pixels to the outline of a shape in a box of 2 radius, negative inside."""
    x, y = rearrange(np.abs(x_TW), "t w -> t 1 w"), rearrange(y_TH, "t h -> t h 1")
    if shape == "ball":
        return np.hypot(x, y) - radius
    if shape == "bar":
        return np.maximum(x - _BAR_WIDTH * radius, np.abs(y) - radius)
    slope = (2 * x - y - radius) / np.sqrt(5)
    triangle: NDArray[np.float64] = np.maximum(slope, y - radius)
    return triangle


def describe(scene: Scene) -> Description:
    """Captions in a fixed order of sentences: objects and background, event, camera."""
    still_image = scene.num_frames == 1
    verbs = [
        "" if still_image else " stays still" if o.motion == "still" else f" moves {o.motion}"
        for o in scene.objects
    ]
    pairs = list(zip(scene.objects, verbs, strict=True))
    short = " and ".join(f"a {o.colour} {o.shape}{verb}" for o, verb in pairs)
    long = " and ".join(f"a {o.size} {o.colour} {o.shape}{verb}" for o, verb in pairs)
    crossing = len(pairs) == 1 and scene.objects[0].motion != "still"
    where = "across" if crossing else "in front of"
    sentences = [f"A{long[1:]} {where} a {scene.shade} {scene.texture} background."]
    if scene.collide:
        sentences.append("They meet in the middle and bounce apart.")
    if scene.pillar is not None:
        sentences.append("It passes behind a grey pillar.")
    if not still_image:
        still = scene.camera == "still"
        sentences.append(f"The camera {'is still' if still else f'pans {scene.camera}'}.")
    return Description(short=short, dense=" ".join(sentences))
