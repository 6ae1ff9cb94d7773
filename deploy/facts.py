"""What a caption of the procedural world claims, as facts that can be compared with the truth.

The one reader of the world's sentences: captions, expanded prompts and their truth all go through
it, so that a score means the same at each station.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

from openreel.deploy.world import COLOURS, MOTIONS, SHADES, SHAPES, TEXTURES, Size

SIZES = get_args(Size)
_THING = re.compile(
    rf"\b(?:an? )?(?:(?P<size>{'|'.join(SIZES)}) )?(?P<colour>{'|'.join(COLOURS)}) "
    rf"(?P<shape>{'|'.join(SHAPES)})(?: (?:moves|stays) (?P<motion>{'|'.join(MOTIONS)}))?"
)
_GROUND = re.compile(
    rf"\b(?P<shade>{'|'.join(SHADES)}) (?P<texture>{'|'.join(TEXTURES)}) background"
)
_CAMERA = re.compile(r"\bcamera (?:is (?P<still>still)|pans (?P<pan>left|right))")
REVERSED = {"left": "right", "right": "left", "up": "down", "down": "up", "still": "still"}
"""directions of a clip that is played backwards"""


@dataclass(frozen=True, kw_only=True, order=True)
class ThingFacts:
    """One thing as a text describes it; empty where it says nothing."""

    colour: str
    shape: str
    size: str = ""
    motion: str = ""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A text's claims."""

    things: tuple[ThingFacts, ...] = ()
    """in the order in which they are named"""
    shade: str = ""
    texture: str = ""
    camera: str = ""
    pillar: bool = False
    collide: bool = False

    def claims(self) -> frozenset[tuple[str, ...]]:
        """Each attribute that is stated, tied to its thing: what precision and recall count."""
        found: set[tuple[str, ...]] = set()
        for thing in self.things:
            name = (thing.colour, thing.shape)
            found.add(("thing", *name))
            found |= {
                (k, *name, v) for k, v in (("size", thing.size), ("motion", thing.motion)) if v
            }
        for attribute in ("shade", "texture", "camera"):
            if value := getattr(self, attribute):
                found.add((attribute, value))
        found |= {(event,) for event in ("pillar", "collide") if getattr(self, event)}
        return frozenset(found)


def facts(text: str) -> Facts:
    """The claims of a text in the world's words; what it says in other words is not read."""
    text = " ".join(text.lower().split())
    things = tuple(
        ThingFacts(**{k: v or "" for k, v in found.groupdict().items()})
        for found in _THING.finditer(text)
    )
    ground, camera = _GROUND.search(text), _CAMERA.search(text)
    return Facts(
        things=things,
        shade=ground["shade"] if ground else "",
        texture=ground["texture"] if ground else "",
        camera=(camera["still"] or camera["pan"]) if camera else "",
        pillar="behind a grey pillar" in text,
        collide="bounce apart" in text,
    )


def reversed_in_time(truth: Facts) -> Facts:
    """What is true of the same clip played backwards."""
    things = tuple(
        ThingFacts(
            colour=t.colour, shape=t.shape, size=t.size, motion=REVERSED.get(t.motion, t.motion)
        )
        for t in truth.things
    )
    if truth.collide:
        things = truth.things  # they come together and part, either way
    return Facts(
        things=things,
        shade=truth.shade,
        texture=truth.texture,
        camera=REVERSED.get(truth.camera, truth.camera),
        pillar=truth.pillar,
        collide=truth.collide,
    )


@dataclass(frozen=True)
class Agreement:
    """Claims counted over some texts."""

    right: int
    claimed: int
    true: int

    @property
    def precision(self) -> float:
        return self.right / self.claimed if self.claimed else 1.0

    @property
    def recall(self) -> float:
        return self.right / self.true if self.true else 1.0

    @property
    def f1(self) -> float:
        total = self.claimed + self.true
        return 2 * self.right / total if total else 1.0


def agreement(pairs: Iterable[tuple[Facts, Facts]], kind: str | None = None) -> Agreement:
    """Claims of (said, true) pairs; kind: of one kind only, such as "thing" or "motion"."""
    right = claimed = true = 0
    for said, truth in pairs:
        a, b = (
            {c for c in part.claims() if kind is None or c[0] == kind} for part in (said, truth)
        )
        right, claimed, true = right + len(a & b), claimed + len(a), true + len(b)
    return Agreement(right, claimed, true)
