"""Captions of a clip's windows as one caption, without a model: it says nothing that they don't.

    0-8 s   A red ball moves right across a dark background. The camera is still.
    8-16 s  A red ball moves left across a dark background. The camera is still.
    merged  A red ball moves first right (0 to 8 s), then left (8 to 16 s) across a dark background.
            The camera is still.

What all windows say is said once. Sentences that differ in one place after their subject become
one that says what differs in order; others stand in order of time, with the seconds they hold for.
The words between are English.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from openreel.recaption.english import COLOURS


@dataclass(frozen=True, kw_only=True)
class Part:
    """What is said of one window."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Merged:
    """One text for all windows."""

    text: str
    contradiction: str = ""
    """what two windows say that cannot both be true of one shot, or empty"""


def merge(parts: Sequence[Part], *, times: bool = True) -> Merged:
    """One caption from those of windows in their order; one alone passes as it is.

    times: say the seconds that a sentence holds for. Raises ValueError without any part.
    """
    if not parts:
        raise ValueError("parts: got none; accepted: at least one")
    told = [_sentences(part.text) for part in parts]
    if all(same == told[0] for same in told):
        return Merged(text=parts[0].text)
    spans = _spans(parts, told)
    return Merged(text=_joined(spans, told, times), contradiction=contradiction(parts))


# ---- sentences over time ----------------------------------------------------------------------


@dataclass(frozen=True)
class _Said:
    """A sentence and the run of windows that say it."""

    text: str
    first: int
    last: int
    start_s: float
    end_s: float


def _sentences(text: str) -> list[str]:
    """The sentences of a text, each once, without the mark at its end."""
    found = re.split(r"(?<=[.!?])\s+|(?<=[。！？])", " ".join(text.split()))
    return list(dict.fromkeys(s.rstrip(" .") for s in found if s.rstrip(" .")))


def _words(sentence: str) -> tuple[str, ...]:
    return tuple(re.findall(r"[\w'-]+", sentence.lower()))


def _spans(parts: Sequence[Part], told: Sequence[Sequence[str]]) -> list[_Said]:
    """Each sentence with each run of windows that say it, in order of time, then of the text."""
    spans: dict[tuple[str, ...], list[_Said]] = {}
    for number, (part, sentences) in enumerate(zip(parts, told, strict=True)):
        for sentence in sentences:
            runs = spans.setdefault(_words(sentence), [])
            if runs and runs[-1].last == number - 1:
                begun = runs.pop()
                text, first, start_s = begun.text, begun.first, begun.start_s
                runs.append(_Said(text, first, number, start_s, part.end_s))
            elif not runs or runs[-1].last < number:
                runs.append(_Said(sentence, number, number, part.start_s, part.end_s))
    flat = [said for runs in spans.values() for said in runs]
    return sorted(flat, key=lambda said: said.first)  # stable: within a window as it is told


def _joined(spans: Sequence[_Said], told: Sequence[Sequence[str]], times: bool) -> str:
    """Shared sentences and, where the first that is not shared stands, all others in order."""
    last = len(told) - 1
    passing = [said for said in spans if (said.first, said.last) != (0, last)]
    chains = _chains(passing)
    opened = [said for chain in chains for said in chain]
    loose = [said for said in passing if said not in opened]
    lines: list[str] = []
    for said in spans:
        chain = next((c for c in chains if c[0] is said), None)
        if (said.first, said.last) == (0, last):
            lines.append(said.text)
        elif chain is not None:
            lines.append(_woven(chain, times))
        elif loose and said is loose[0]:
            lines += _in_order(loose, times)
    return " ".join(line if line.endswith(("!", "?", "。")) else f"{line}." for line in lines)


def _in_order(loose: Sequence[_Said], times: bool) -> list[str]:
    """First, from 0 to 8 s, two dogs play. A cat looks on. Then, from 8 to 16 s, two dogs sleep."""
    lines: list[str] = []
    several = len({said.first for said in loose}) > 1
    before = None
    for said in loose:
        opening = []
        if said.first != (before.first if before else 0) or (several and before is None):
            opening = ["Then" if before or not several else "First"]
        if times and (before is None or (said.first, said.last) != (before.first, before.last)):
            span = f"from {_clock(said.start_s)} to {_clock(said.end_s)} s"
            opening = [*(opening if several else []), span]
        words = ", ".join([*opening, _inside(said.text) if opening else said.text])
        lines.append(words[0].upper() + words[1:])
        before = said
    return lines


def _inside(sentence: str) -> str:
    """A sentence as it stands behind a comma: its article small, a name as it is."""
    first, _, rest = sentence.partition(" ")
    small = first.lower() if first.lower() in _OPENINGS else first
    return f"{small} {rest}".strip()


def _clock(seconds: float) -> str:
    return f"{seconds:.1f}".removesuffix(".0")


# ---- one subject that does several things -----------------------------------------------------

_PREPOSITIONS = {
    *("of", "across", "in", "on", "at", "to", "from", "into", "over", "under", "behind", "with"),
    *("through", "towards", "toward", "past", "along", "by", "around", "near", "beside", "and"),
    *("a", "an", "the", "its", "his", "her", "their"),
}
_OPENINGS = {"a", "an", "the", "one", "two", "three", "some", "it", "its", "they", "he", "she"}


def _chains(passing: Sequence[_Said]) -> list[list[_Said]]:
    """Runs of sentences, one after the other in time, that differ in one place after a subject."""
    chains: list[list[_Said]] = []
    for said in passing:
        for chain in chains:
            if chain[-1].last + 1 == said.first and _frame([*chain, said]) is not None:
                chain.append(said)
                break
        else:
            chains.append([said])
    return [chain for chain in chains if len(chain) > 1]


def _frame(chain: Sequence[_Said]) -> tuple[int, int] | None:
    """How many words all sentences begin and end with, if what differs begins at their verb.

    Only "a ..." and "the camera ..." are sure to be of one thing, whose verb ends in s.
    """
    rows = [said.text.split() for said in chain]
    shortest = min(map(len, rows))
    head = _common(rows, shortest)
    tail = _common([row[::-1] for row in rows], shortest - head)
    opening = tuple(word.lower() for word in rows[0][:2])
    if head < 2 or not (opening[0] in ("a", "an") or opening == ("the", "camera")):
        return None
    verb = any(_is_verb(word) for word in rows[0][2:head])
    if any(len(row) == head + tail for row in rows):  # what one says, another leaves out
        return None
    if not verb and not all(_is_verb(row[head]) for row in rows):
        return None
    return head, tail


def _common(rows: Sequence[Sequence[str]], most: int) -> int:
    count = 0
    while count < most and len({row[count].lower().strip(",") for row in rows}) == 1:
        count += 1
    return count


def _is_verb(word: str) -> bool:
    word = word.lower().strip(",")
    ends = word.endswith("s") and not word.endswith(("ss", "us"))
    return word == "is" or (len(word) > 3 and ends)


def _woven(chain: Sequence[_Said], times: bool) -> str:
    """A red ball moves first right (0 to 8 s), then left (8 to 16 s) across ..."""
    frame = _frame(chain)
    assert frame is not None
    head, tail = frame
    rows = [said.text.split() for said in chain]
    middles = [" ".join(row[head : len(row) - tail]).rstrip(",") for row in rows]
    words = [f"{word} " for word in ("first", *["then"] * (len(chain) - 1))]
    if times:
        clocks = [f"{_clock(said.start_s)} to {_clock(said.end_s)} s" for said in chain]
        if any(middle.split()[-1].lower() in _PREPOSITIONS for middle in middles):
            # What they have in common goes on directly behind.
            words = [f"{word.strip()}, from {c}, " for word, c in zip(words, clocks, strict=True)]
        else:
            middles = [f"{middle} ({c})" for middle, c in zip(middles, clocks, strict=True)]
    told = [word + middle for word, middle in zip(words, middles, strict=True)]
    return " ".join([*rows[0][:head], ", ".join(told), *rows[0][len(rows[0]) - tail :]])


# ---- contradictions ---------------------------------------------------------------------------

_STILL = re.compile(
    r"\bcamera (?:is|stays|remains|holds|keeps) (?:completely |perfectly )?(?:still|static|fixed|"
    r"stationary|motionless)\b|\b(?:static|fixed|stationary|locked[- ]off) (?:camera|shot)\b"
)
_MOVING = re.compile(
    r"\bcamera (?:slowly |quickly |smoothly |then )?(?P<verb>pan|tilt|zoom|rotate|orbit|track|"
    r"follow|push|pull|doll(?:y|ie)|move|shake)\w*(?: (?P<way>left|right|up|down|in|out))?"
)
_COLOURED = re.compile(rf"\b({'|'.join(sorted(COLOURS))})[ -](?:\w+ing |\w+ed )?([a-z]+)\b")


def contradiction(parts: Sequence[Part]) -> str:
    """What two windows of one shot cannot both say rightly, or an empty string.

    The camera: still in one window and moving in another, or moving in opposite directions. A thing
    named by one colour in each of two windows, but not the same. Other things may well change.
    """
    return _camera(parts) or _colours(parts)


def _camera(parts: Sequence[Part]) -> str:
    said: list[tuple[str, Part]] = []
    for part in parts:
        text = part.text.lower()
        moving = _MOVING.search(text)
        if _STILL.search(text):
            said.append(("still", part))
        elif moving is not None:
            said.append((" ".join(filter(None, (f"{moving['verb']}s", moving["way"]))), part))
    for one, before in said:
        for other, after in said:
            still = one == "still" and other != "still"
            if still or _opposite(one, other):
                return f"the camera {one} ({_span(before)}) and {other} ({_span(after)})"
    return ""


def _opposite(one: str, other: str) -> bool:
    pairs = (("left", "right"), ("up", "down"), ("in", "out"))
    (verb, _, way), (verb_2, _, way_2) = one.partition(" "), other.partition(" ")
    return verb == verb_2 and (way, way_2) in pairs


def _colours(parts: Iterable[Part]) -> str:
    seen: dict[str, tuple[str, Part]] = {}
    for part in parts:
        colours: dict[str, set[str]] = {}
        for colour, noun in _COLOURED.findall(part.text.lower()):
            colours.setdefault(noun, set()).add("grey" if colour == "gray" else colour)
        for noun, own in colours.items():
            if len(own) > 1 or noun in ("and", "or", "with", "in", "on"):
                continue
            (colour,) = own
            before, where = seen.setdefault(noun, (colour, part))
            if before != colour:
                return f"{before} {noun} ({_span(where)}) and {colour} {noun} ({_span(part)})"
    return ""


def _span(part: Part) -> str:
    return f"{_clock(part.start_s)} to {_clock(part.end_s)} s"
