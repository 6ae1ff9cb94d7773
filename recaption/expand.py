"""Short prompts to the style of the dense captions that the denoiser was trained on.

The default expander has no weights and invents nothing: it finds the dense caption of the corpus
that is most like the prompt and borrows from it the phrases that the prompt lacks, in the
captioner's order.

    a red ball moves right
    A large red ball moves right across a dark striped background. The camera is still.
      size                       place                             camera

A prompt that has them all, or that is not English, comes back byte for byte.
"""

import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Literal, Protocol

from openreel.pipeline.keyed import generator
from openreel.recaption.guards import (
    camera_still,
    mentions_camera,
    negated,
    quoted,
    violations,
    words,
)

SIZES = {"small", "large", "tiny", "big", "little", "huge", "giant"}
COLOURS = {
    *("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white"),
    *("grey", "gray", "golden", "silver"),
}
_ENGLISH = {
    "the",
    "an",
    "is",
    "are",
    "with",
    "of",
    "and",
    "on",
    "at",
    "to",
    "not",
    *COLOURS,
    *SIZES,
}
"""words that show a prompt to be English; "a" is Portuguese too"""
_NOT_ENGLISH = {
    *("de", "la", "le", "el", "les", "los", "las", "un", "une", "una", "uno", "des", "du", "et"),
    *("der", "die", "das", "ein", "eine", "und", "den", "dem", "il", "lo", "gli", "di", "que"),
    *("os", "um", "uma", "da", "em", "een", "het", "och", "ett", "och", "som", "w", "z", "nie"),
}
_PLACE = re.compile(
    r"\b(?:across|in front of|against|on|over|through|along|inside|in|under|behind|near|beside|at)"
    r" (?:a|an|the) [^.,;!?]+"
)
STILL_CAMERA = "The camera is still."


@dataclass(frozen=True, kw_only=True)
class Expansion:
    """A prompt and what is generated from, on record."""

    original: str
    text: str
    backend: str
    """offline, or the language model's identity"""
    status: Literal["expanded", "unchanged", "fell back"]
    """fell back: a guard refused the expansion and the original stands"""
    violations: tuple[str, ...] = ()
    """what the refused expansion broke"""
    seed: int = 0


class Expander(Protocol):
    """What makes a short prompt dense."""

    def expand(self, prompt: str, *, seed: int = 0) -> Expansion:
        """Never raises for a prompt, in whatever language; the same seed gives the same bytes."""
        ...


def guarded(prompt: str, text: str, *, backend: str, seed: int) -> Expansion:
    """The expansion if it keeps to the prompt, otherwise the prompt itself and the reasons."""
    if text == prompt:
        return Expansion(
            original=prompt, text=prompt, backend=backend, status="unchanged", seed=seed
        )
    broken = violations(prompt, text)
    return Expansion(
        original=prompt,
        text=prompt if broken else text,
        backend=backend,
        status="fell back" if broken else "expanded",
        violations=broken,
        seed=seed,
    )


@dataclass(frozen=True)
class _Donor:
    """What one dense caption can lend."""

    subject: frozenset[str]
    """the words of its first sentence without the phrases below"""
    last: str
    """the word that the place follows"""
    size: str
    place: str

    @staticmethod
    def of(caption: str) -> "_Donor":
        first = sentences(caption)[0].rstrip(".!?")
        place = _PLACE.search(first)
        phrase = place[0] if place else ""
        said = words(first[: place.start()] if place else first)
        size = next((w for w in said if w in SIZES), "")
        return _Donor(frozenset(said) - SIZES, said[-1] if said else "", size, phrase)

    def likeness(self, said: frozenset[str]) -> float:
        """Jaccard index of the subject's words and the prompt's."""
        return len(self.subject & said) / max(1, len(self.subject | said))


class OfflineExpander:
    """Fills what a prompt lacks from a corpus of dense captions; without one, the camera only."""

    backend = "offline"

    def __init__(self, corpus: Sequence[str] = ()) -> None:
        captions = sorted({c.strip() for c in corpus if words(c)})
        self.known = frozenset(captions)
        self.english = _ENGLISH | {w for c in captions for w in words(c)} - {"a"}
        self.donors = [_Donor.of(caption) for caption in captions]
        still = [s for c in captions for s in sentences(c) if camera_still(s)]
        # A corpus that never mentions its camera is a style without it.
        self.camera = max(sorted(set(still)), key=still.count, default="")
        if not captions:
            self.camera = STILL_CAMERA

    def expand(self, prompt: str, *, seed: int = 0) -> Expansion:
        text = prompt
        if prompt.strip() not in self.known and is_english(prompt, self.english):
            text = self._filled(prompt, seed)
        return guarded(prompt, text, backend=self.backend, seed=seed)

    def _filled(self, prompt: str, seed: int) -> str:
        subject, *rest = sentences(prompt)
        end = subject[-1] if subject[-1] in ".!?" else "."
        filled = subject.rstrip(".!?")
        donor = self._donor(filled, seed)
        if donor and not rest and not quoted(prompt):
            filled = _with_place(_with_size(filled, donor.size), donor.place)
        camera = [] if mentions_camera(prompt) or not self.camera else [self.camera]
        if filled == subject.rstrip(".!?") and not camera:
            return prompt
        return " ".join([filled[0].upper() + filled[1:] + end, *rest, *camera])

    def _donor(self, subject: str, seed: int) -> _Donor | None:
        """One of the captions most like the subject, of those whose place can follow it."""
        said = words(subject)
        fitting = [donor for donor in self.donors if said and donor.last == said[-1]]
        scores = [donor.likeness(frozenset(said) - SIZES) for donor in fitting]
        alike = [d for d, score in zip(fitting, scores, strict=True) if score == max(scores)]
        draw = generator(seed, "expand", subject)
        return alike[draw.integers(len(alike))] if alike else None


def sentences(text: str) -> list[str]:
    """A text cut after each full stop, exclamation and question mark; quotations stay whole."""
    spans = quoted(text)
    for i, span in enumerate(spans):
        text = text.replace(span, f"\x00{i}\x00")
    parts = re.split(r"(?<=[.!?])\s+|\n+", text.strip())
    return [re.sub(r"\x00(\d+)\x00", lambda m: spans[int(m[1])], part) for part in parts if part]


def is_english(prompt: str, english: AbstractSet[str]) -> bool:
    """Whether English may be added: Latin letters, an English word, no other language's."""
    said = set(words(prompt))
    latin = all(ord(c) < 0x250 for c in prompt if c.isalpha())
    return latin and bool(said & english) and not said & _NOT_ENGLISH


def _with_size(subject: str, size: str) -> str:
    """A size before the colour of each thing, unless the prompt speaks of sizes."""
    if not size or set(words(subject)) & SIZES:
        return subject
    colours = "|".join(sorted(COLOURS))
    article = "an" if size[0] in "aeiou" else "a"
    return re.sub(
        rf"\b([Aa])n? (?=(?:{colours})\b)",
        lambda m: (article.capitalize() if m[1] == "A" else article) + f" {size} ",
        subject,
    )


def _with_place(subject: str, place: str) -> str:
    """The donor's background behind a subject that names no place and is one plain clause."""
    plain = not re.search(r"[,;:()\n]", subject) and not negated(subject)
    if not place or not plain or _PLACE.search(subject.lower()) or "background" in subject.lower():
        return subject
    return f"{subject} {place}"
