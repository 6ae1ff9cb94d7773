"""What an expansion must not do to a prompt: pure functions on two texts, for English words.

Each guard names what was broken, so that the user can read it and a model can be asked to mend it.
"""

import re
import unicodedata
from collections.abc import Iterator

MAX_WORDS = 220

NEGATORS = {"no", "not", "without", "never", "neither", "nor", "none", "don't", "doesn't", "isn't"}
_LIGHT = {
    *("a", "an", "the", "any", "some", "more", "to", "do", "does", "is", "are", "be", "being"),
    *("show", "showing", "shown", "include", "including", "have", "has", "having", "see", "add"),
    *("use", "using", "there", "visible", "seen"),
}
"""words between a negator and what it negates"""

OPPOSITES = {
    **{"left": "right", "leftward": "rightward", "leftwards": "rightwards"},
    **{"up": "down", "upward": "downward", "upwards": "downwards"},
    **{"forward": "backward", "forwards": "backwards", "rising": "falling", "rises": "falls"},
    **{"clockwise": "counterclockwise", "towards": "away", "inward": "outward"},
}
OPPOSITE = {**OPPOSITES, **{b: a for a, b in OPPOSITES.items()}}

CAMERA_STILL = {"static", "still", "fixed", "locked", "motionless", "stationary", "tripod"}
CAMERA_MOVES = {
    "pan": ("pan", "pans", "panning"),
    "tilt": ("tilt", "tilts", "tilting"),
    "zoom": ("zoom", "zooms", "zooming"),
    "dolly": ("dolly", "dollies", "dollying"),
    "track": ("track", "tracks", "tracking"),
    "orbit": ("orbit", "orbits", "orbiting"),
    "crane": ("crane", "craning"),
    "handheld": ("handheld", "hand-held"),
}
PEOPLE = {
    *("person", "people", "man", "men", "woman", "women", "boy", "boys", "girl", "girls"),
    *("child", "children", "crowd", "someone", "lady", "guy"),
}
_NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
)
NUMBERS = {word: str(value) for value, word in enumerate(_NUMBERS.split())}
_QUOTED = re.compile(
    r"\"[^\"]+\"|“[^”]+”|«[^»]+»|「[^」]+」|„[^“”]+[“”]|(?<!\w)'[^']+'(?!\w)|‘[^’]+’(?!\w)"
)


def words(text: str) -> list[str]:
    """Lower-case words; apostrophes and hyphens inside a word belong to it."""
    return re.findall(r"\w+(?:['’-]\w+)*", text.lower().replace("’", "'"))


def quoted(text: str) -> list[str]:
    """What stands in quotation marks of any style, marks included."""
    return _QUOTED.findall(text)


def _negated(tokens: list[str], index: int) -> bool:
    """Whether a negator reaches the word at index over light words only."""
    before = index - 1
    while before >= 0 and tokens[before] in _LIGHT:
        before -= 1
    return before >= 0 and tokens[before] in NEGATORS


def affirmed(text: str) -> set[str]:
    """The words of a text that are not negated."""
    tokens = words(text)
    return {token for i, token in enumerate(tokens) if not _negated(tokens, i)}


def negated(text: str) -> set[str]:
    """The words that a text says not to show: "no people" and "don't show the people"."""
    tokens = words(text)
    hits = (t for i, t in enumerate(tokens) if t not in _LIGHT and _negated(tokens, i))
    return {token for token in hits if token not in NEGATORS}


def camera_moves(text: str) -> set[str]:
    """Camera movements that a text asks for."""
    said = affirmed(text)
    return {move for move, forms in CAMERA_MOVES.items() if said.intersection(forms)}


def camera_still(text: str) -> bool:
    """Whether a text asks for a camera that does not move."""
    for sentence in re.split(r"[.;,!?\n]", text.lower()):
        said = affirmed(sentence)
        if said.intersection({"camera", "shot"}) and said.intersection(CAMERA_STILL):
            return True
    return "camera" in negated(text) and not camera_moves(text)


def mentions_camera(text: str) -> bool:
    said = set(words(text))
    return bool(said.intersection({"camera", "shot", "close-up", "closeup"}) or camera_moves(text))


def _numbers(text: str) -> set[str]:
    return {NUMBERS.get(w, w) for w in words(text) if w in NUMBERS or w.isdigit()}


def _names(text: str) -> set[str]:
    """Capitalised words inside a sentence."""
    return set(re.findall(r"(?<=[\w,;:] )([^\W\d_a-z]\w+)", text))


def _scripts(text: str) -> set[str]:
    """Writing systems: LATIN, CYRILLIC, CJK, ..."""
    return {unicodedata.name(c, "UNNAMED").split()[0] for c in text if c.isalpha()}


def violations(original: str, expanded: str) -> tuple[str, ...]:
    """What the expansion of a prompt breaks, in words; empty if nothing."""
    return tuple(_violations(original, expanded))


def _violations(original: str, expanded: str) -> Iterator[str]:
    if not words(expanded):
        yield "empty"
    if len(words(expanded)) > max(MAX_WORDS, len(words(original))):
        yield f"longer than {MAX_WORDS} words"
    for span in quoted(original):
        if span not in expanded:
            yield f"quoted text lost: {span}"
    for number in sorted(_numbers(original) - _numbers(expanded)):
        yield f"number lost: {number}"
    for name in sorted(_names(original) - set(re.findall(r"\w+", expanded))):
        yield f"name lost: {name}"
    if added := _scripts(expanded) - _scripts(original):
        yield f"other language: {', '.join(sorted(added)).lower()}"
    yield from _negation_violations(original, expanded)
    yield from _direction_violations(original, expanded)
    yield from _camera_violations(original, expanded)


def _negation_violations(original: str, expanded: str) -> Iterator[str]:
    before, after = affirmed(original), affirmed(expanded)
    for word in sorted(negated(original) - before):
        if word in after:
            yield f"negation inverted: {word}"
        elif word not in negated(expanded):
            yield f"negation lost: {word}"
    for word in sorted((after & PEOPLE) - set(words(original))):
        yield f"person added: {word}"


def _direction_violations(original: str, expanded: str) -> Iterator[str]:
    before, after = affirmed(original), affirmed(expanded)
    for word in sorted(before & OPPOSITE.keys()):
        if word not in after:
            yield f"direction lost: {word}"
        if OPPOSITE[word] in after - before:
            yield f"direction inverted: {word} became {OPPOSITE[word]}"


def _camera_violations(original: str, expanded: str) -> Iterator[str]:
    before, after = camera_moves(original), camera_moves(expanded)
    for move in sorted(before - after):
        yield f"camera movement lost: {move}"
    if before or camera_still(original):
        for move in sorted(after - before):
            yield f"camera movement added: {move}"
    if before and camera_still(expanded) and not camera_still(original):
        yield "camera movement contradicted: still"
