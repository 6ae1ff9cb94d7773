"""What an expansion must not do to a prompt: pure functions on two texts, for English words.

The rule behind all: an expansion inserts. Each clause of the prompt has its words in the expansion,
in their order, with no other word of the prompt between them; new words may stand anywhere. So
names, numbers, colours and directions can neither get lost nor change places ("two red balls and a
blue cube" does not become "two blue balls and a red cube"), and a word that is negated stays so.

Each guard names what was broken, so that the user can read it and a model can be asked to mend it.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from openreel.pipeline.errors import InputError
from openreel.recaption.english import COLOURS, NUMBERS, PEOPLE, SIZES, stem
from openreel.recaption.reading import (
    CAMERA_MOVES,
    Said,
    camera_moves,
    camera_still,
    clauses,
    quoted,
    read,
    visible,
    words,
)

OPPOSITES = {
    **{"left": "right", "leftward": "rightward", "leftwards": "rightwards"},
    **{"up": "down", "upward": "downward", "upwards": "downwards"},
    **{"forward": "backward", "forwards": "backwards", "rising": "falling"},
    **{"clockwise": "counterclockwise", "towards": "away", "inward": "outward"},
}
_OPPOSITE = {stem(a): stem(b) for a, b in OPPOSITES.items()}
OPPOSITE = {**_OPPOSITE, **{b: a for a, b in _OPPOSITE.items()}}
_AT_REST = {"still", "motionless", "stationary", "stand", "static"}
_COLOURS = {stem(word) for word in COLOURS}
_SIZES = {stem(word) for word in SIZES}
_PEOPLE = {stem(word) for word in PEOPLE}
_MOVES = {stem(form): move for move, forms in CAMERA_MOVES.items() for form in forms}
LONGEST_WORD = 25
"""characters; times the words allowed, it bounds the texts that are read at all"""
_TELLING = 20
"""captions from which on their lengths say something about the style"""


@dataclass(frozen=True, kw_only=True)
class WordRange:
    """How long an expansion may be."""

    low: int = 15
    high: int = 80

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high:
            raise InputError("words", f"{self.low} to {self.high}", "0 <= low <= high")

    @staticmethod
    def of(captions: Sequence[str]) -> "WordRange":
        """From the shortest to the longest of a corpus, its outermost percents aside.

        A style of short captions is held to its own measure; a corpus too small to tell counts as
        none, and gives the default.
        """
        lengths = sorted(n for caption in captions if (n := len(words(caption))))
        if len(lengths) < _TELLING:
            return WordRange()
        edge = len(lengths) // 100
        return WordRange(low=lengths[edge], high=lengths[-1 - edge])


def violations(
    original: str, expanded: str, *, limits: WordRange | None = None, seen: str = ""
) -> tuple[str, ...]:
    """What the expansion of an English prompt breaks, in words; empty if nothing.

    seen: what is known to be in the picture beside the prompt. limits: None counts no words.
    """
    if limits is not None and len(expanded) > LONGEST_WORD * limits.high:
        return (f"longer than {limits.high} words",)  # not worth reading
    return tuple(_violations(original, expanded, limits, seen))


def violations_of_translation(original: str, translated: str, limits: WordRange) -> tuple[str, ...]:
    """What can be told across languages: quotations, digits and length."""
    return (*_length(translated, limits), *_verbatim(original, translated))


def _violations(original: str, expanded: str, limits: WordRange | None, seen: str) -> Iterator[str]:
    yield from _length(expanded, limits)
    yield from _verbatim(original, expanded)
    if added := _scripts(expanded) - _scripts(original):
        yield f"other language: {', '.join(sorted(added)).lower()}"
    before, after = read(original), read(expanded)
    yield from _lost(before, after)
    yield from _added(before, after, {s.stem for s in read(seen)})
    yield from _turned(before, after)
    yield from _camera(original, expanded)


def _length(expanded: str, limits: WordRange | None) -> Iterator[str]:
    count = len(words(expanded))
    if not count:
        yield "empty"
    elif limits is not None and len(expanded) > LONGEST_WORD * limits.high:
        yield f"longer than {limits.high} words"
    elif limits is not None and count < limits.low:
        yield f"{count} words, fewer than {limits.low}"
    elif limits is not None and count > limits.high:
        yield f"{count} words, longer than {limits.high}"
    if visible(expanded) != expanded:
        yield "control characters"


def _verbatim(original: str, expanded: str) -> Iterator[str]:
    """Quotations letter by letter, numbers written in digits as they are."""
    for span in quoted(original):
        if span not in expanded:
            yield f"quoted text lost: {span}"
    figures = set(re.findall(r"\d+(?:[.,:/]\d+)*", expanded))
    spelt = {NUMBERS[w] for w in words(expanded) if w in NUMBERS}
    for figure in dict.fromkeys(re.findall(r"\d+(?:[.,:/]\d+)*", original)):
        if figure not in figures | spelt:
            yield f"number lost: {figure}"


def _scripts(text: str) -> set[str]:
    """Writing systems: LATIN, CYRILLIC, CJK, ..."""
    return {unicodedata.name(c, "UNNAMED").split()[0] for c in text if c.isalpha()}


def _lost(before: list[Said], after: list[Said]) -> Iterator[str]:
    """Words that are missing, and clauses whose words are no longer together in their order."""
    known = {s.mark for s in before}
    line = [s.mark for s in after if s.mark in known]
    missing = known - set(line)
    affirmed = {s.stem for s in after if not s.negated}
    for said in {s.mark: s for s in before}.values():
        if said.mark in missing:
            yield _loss(said, affirmed)
    for clause in clauses(before):
        marks = [s.mark for s in clause]
        if not missing.intersection(marks) and not _together(marks, line):
            yield f"torn apart or in another order: {' '.join(s.word for s in clause)}"


def _loss(said: Said, affirmed: set[str]) -> str:
    if said.negated:
        return f"negation {'inverted' if said.stem in affirmed else 'lost'}: {said.word}"
    kinds = (
        ("direction", said.stem in OPPOSITE),
        ("number", said.stem in NUMBERS.values() or said.stem[0].isdigit()),
        ("colour", said.stem in _COLOURS),
        ("size", said.stem in _SIZES),
        ("camera movement", said.stem in _MOVES),
    )
    return f"{next((kind for kind, fits in kinds if fits), 'word')} lost: {said.word}"


def _together(clause: list[str], line: list[str]) -> bool:
    """Whether a clause is in order within one run of its own words."""
    own, position = set(clause), 0
    for mark in line:
        if mark not in own:
            position = 0
        elif mark == clause[position]:
            position += 1
            if position == len(clause):
                return True
    return False


def _added(before: list[Said], after: list[Said], seen: set[str]) -> Iterator[str]:
    """Claims against the prompt's own: what it denies, other counts, other people and colours."""
    said = {s.stem for s in before}
    denied = {s.stem for s in before if s.negated} - {s.stem for s in before if not s.negated}
    for s in after:
        if s.negated:
            continue
        if s.stem in denied and f"no {s.stem}" in {t.mark for t in after}:
            yield f"negation inverted: {s.word}"
        if s.stem in said | seen:
            continue
        if s.stem in _PEOPLE:
            yield f"person added: {s.word}"
        if s.stem != "1" and (s.stem in NUMBERS.values() or s.stem.isdigit()):
            yield f"number added: {s.word}"
    coloured = {b.stem for a, b in _neighbours(before) if a.stem in _COLOURS}
    for a, b in _neighbours(after):
        if b.stem in coloured and a.stem in _COLOURS - said - seen:
            yield f"colour added: {a.word} {b.word}"


def _neighbours(said: list[Said]) -> list[tuple[Said, Said]]:
    return [(a, b) for a, b in pairwise(said) if a.clause == b.clause]


def _turned(before: list[Said], after: list[Said]) -> Iterator[str]:
    """Directions that the prompt did not give to what it moves or keeps at rest."""
    given = {s.stem for s in before if not s.negated}
    about_camera = {s.sentence for s in after if s.stem == "camera"}
    scene = {s.stem for s in after if not s.negated and s.sentence not in about_camera}
    everywhere = {s.stem for s in after if not s.negated}
    for word in sorted(given & OPPOSITE.keys()):
        if OPPOSITE[word] in (everywhere if "camera" in given else scene) - given:
            yield f"direction inverted: {word} became {OPPOSITE[word]}"
    moving = given & (OPPOSITE.keys() | _AT_REST)
    if moving and (new := (scene & OPPOSITE.keys()) - given - {OPPOSITE.get(w) for w in moving}):
        yield f"direction added: {', '.join(sorted(new))}"


def _camera(original: str, expanded: str) -> Iterator[str]:
    before, after = camera_moves(original), camera_moves(expanded)
    for move in sorted(before - after):
        yield f"camera movement lost: {move}"
    if before or camera_still(original):
        for move in sorted(after - before):
            yield f"camera movement added: {move}"
    if before and camera_still(expanded) and not camera_still(original):
        yield "camera movement contradicted: still"
