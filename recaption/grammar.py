"""What a dense caption can lend to a prompt, as phrases and sentences: pure functions on text.

a red ball moves right
A large red ball moves right across a dark striped background. The camera is still.
  size                       place                             camera
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from openreel.recaption.english import COLOURS, SIZES
from openreel.recaption.reading import (
    camera_still,
    mentions_camera,
    negated,
    quoted,
    read,
    sentences,
    words,
)

_PLACE = re.compile(
    r"\b(?:across|in front of|against|on|over|through|along|inside|in|under|behind|near|beside|at)"
    r" (?:a|an|the) [^.,;!?]+"
)
STILL_CAMERA = "The camera is still."
_LIGHT = re.compile(
    r"\b(?:light|lit|lighting|sun\w*|day\w*|night|dark\w*|dawn|dusk|morning|evening|shadow\w*|"
    r"bright\w*|glow\w*|dim|moon\w*|neon|fire\w*|lamp\w*|candle\w*)\b"
)
_GROUND = re.compile(r"\b(?:background|surround\w*|distance|landscape|horizon|scenery)\b")
_DETAIL = re.compile(r"\b(?:detail\w*|texture\w*|focus|sharp\w*|crisp)\b")
_NEUTRAL = {
    *("camera", "shot", "frame", "still", "static", "fixed", "remains", "stays", "steady", "held"),
    *("steadily", "motionless", "background", "plain", "simple", "soft", "softly", "blurred"),
    *("out", "focus", "neutral", "slightly", "clean", "light", "lighting", "natural", "even"),
    *("evenly", "diffuse", "gentle", "daylight", "warm", "bright", "clear", "scene", "view"),
    *("throughout", "detail", "details", "fine", "texture", "textures", "sharp", "crisp"),
    *("picture", "image"),
}
"""words that say nothing about what is in a picture"""
_NEUTRAL_STEMS = {s.stem for s in read(" ".join(sorted(_NEUTRAL)))}
_SHARE = 0.1
"""of a corpus' captions that speak of something, from which on it belongs to the style"""


@dataclass(frozen=True)
class Slot:
    """One thing that dense captions speak of in a sentence of its own."""

    mentioned: re.Pattern[str] | None
    """how a prompt speaks of it; None: of the camera"""
    default: str
    """a sentence that claims next to nothing"""

    def filled(self, text: str) -> bool:
        """Whether a text speaks of it."""
        if self.mentioned is None:
            return mentions_camera(text)
        return bool(self.mentioned.search(text.lower()))

    def sentence(self, captions: Sequence[str]) -> str:
        """How a corpus says it where it claims least; empty if it seldom does."""
        said = [s for c in captions for s in sentences(c)[1:] if self._about(s)]
        if not said or len(said) < _SHARE * len(captions):
            return ""
        neutral = Counter(s for s in said if {w.stem for w in read(s)} <= _NEUTRAL_STEMS)
        return max(sorted(neutral), key=lambda s: neutral[s], default=self.default)

    def _about(self, sentence: str) -> bool:
        return camera_still(sentence) if self.mentioned is None else self.filled(sentence)


GROUND = Slot(_GROUND, "The background is plain and softly out of focus.")
LIGHT = Slot(_LIGHT, "The light is soft and even.")
DETAIL = Slot(_DETAIL, "Shapes and textures are clear and rich in fine detail.")
CAMERA = Slot(None, STILL_CAMERA)


@dataclass(frozen=True)
class Donor:
    """What the first sentence of one dense caption can lend."""

    subject: frozenset[str]
    """its words without the phrases below"""
    last: str
    """the word that the place follows"""
    size: str
    place: str

    @staticmethod
    def of(caption: str) -> "Donor":
        """Of a caption with at least one word."""
        first = sentences(caption)[0].rstrip(".!?")
        place = _PLACE.search(first)
        phrase = place[0] if place else ""
        said = words(first[: place.start()] if place else first)
        size = next((w for w in said if w in SIZES), "")
        return Donor(frozenset(said) - SIZES, said[-1] if said else "", size, phrase)

    def likeness(self, said: frozenset[str]) -> float:
        """Jaccard index of the subject's words and the prompt's."""
        return len(self.subject & said) / max(1, len(self.subject | said))


def with_size(subject: str, size: str) -> str:
    """A size before the colour of each thing, unless the prompt speaks of sizes."""
    if not size or set(words(subject)) & SIZES:
        return subject
    colours = "|".join(sorted(COLOURS))
    return re.sub(
        rf"\b([Aa])n? (?=(?:{colours})\b)", lambda m: f"{_article(m[1], size)} {size} ", subject
    )


def _article(before: str, word: str) -> str:
    article = "an" if word[0] in "aeiou" else "a"
    return article.capitalize() if before == "A" else article


def with_place(subject: str, place: str) -> str:
    """A background behind a subject that names no place and is one plain clause."""
    plain = not re.search(r"[,;:()\n]", subject) and not negated(subject)
    taken = _PLACE.search(subject.lower()) or "background" in subject.lower()
    return f"{subject} {place}" if place and plain and not taken else subject


def with_seen(prompt: str, seen: str) -> str:
    """A prompt with what a caption of its first frame knows of the same things.

    Sizes go to the things of the same colour and name, the place behind a prompt that has none;
    where the caption speaks of other things, it follows as sentences of its own.
    """
    said, shown = set(words(prompt)), set(words(seen))
    if not shown or (quoted(prompt) and sentences(prompt)[1:]):
        return prompt
    colours, sizes = "|".join(sorted(COLOURS)), "|".join(sorted(SIZES))
    text, known = prompt, False
    for size, colour, thing in re.findall(rf"\b({sizes}) ({colours}) (\w+)", seen.lower()):
        named = re.compile(rf"\b([Aa])n? ({colour} {thing})\b")
        if not named.search(text):
            continue
        known = True
        if not said & SIZES:
            text = named.sub(lambda m: f"{_article(m[1], size)} {size} {m[2]}", text, count=1)  # noqa: B023
    if not known:
        return prompt if shown <= said else f"{closed(prompt)} {closed(seen)}"
    subject, *rest = sentences(text)
    if not rest:
        text = closed(with_place(subject.rstrip(".!?"), Donor.of(seen).place))
    return text


def closed(text: str) -> str:
    """A text as a sentence: its first word's capital, if that is a plain word, and a full stop."""
    text = text.strip()
    if re.match(r"[a-z]+\b(?![A-Z])", text):
        text = text[0].upper() + text[1:]
    return text if not text or text[-1] in ".!?。！？…" else f"{text}."
