"""What a prompt says, read with word lists: its words, quotations, negations, clauses, camera.

Pure functions for English. They are wrong about some sentences; the guards compare two readings by
the same rules, so that most mistakes cancel, and what is left refuses a good expansion rather than
letting a bad one pass.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from openreel.recaption.english import FILLERS, LIGHT, NEGATORS, stem

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
_QUOTED = (
    r"\"[^\"]+\"|“[^”]+”|«[^»]+»|»[^«]+«|‹[^›]+›|「[^」]+」|『[^』]+』|《[^》]+》|＂[^＂]+＂|`[^`]+`"
    r"|„[^“”]+[“”]|(?<!\w)'[^']+'(?!\w)|‘[^’]+’(?!\w)"
)
_WORD = r"[^\W_]+(?:['’.,:/-][^\W_]+)*"
_ENDS = set(".,;:!?()[]{}\n—–|")
_SYMBOLS = {"So", "Sc", "Sm"}
"""categories of characters that are said like words: emoji, currencies, signs of arithmetic"""
_TOKEN = re.compile(rf"(?P<quote>{_QUOTED})|(?P<word>{_WORD})|(?P<other>\S|\n)")
_CLAUSE_ENDS = {"and", "or", "but", "while", "as", "in", "on", "at", "with", "of", "to", "for"}
_SCOPE_ENDS = {"but", "while", "as", "in", "on", "at", "with", "for", "from", "into", "then"}
"""words that end what a negator reaches"""
_ARTICLES = {"a", "an", "the", "one", "his", "her", "their", "its"}
_REQUEST = re.compile(
    r"^\W*(?:please )?(?:generate|create|make|render|show|give|film|draw|produce|imagine)(?![-\w])"
    r"(?: (?:me|us))?(?: an?| the| some)?"
    r"(?: (?:short|video|clip|movie|animation|footage|shot|scene))*"
    r"(?: (?:of|showing|about|with))?\b",
    re.IGNORECASE,
)
"""how people begin who talk to a machine; it is not about the picture"""
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]"
)
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))")
"""a terminal's commands, whose letters would stay without their first character"""
_TAGS = re.compile("(\U0001f3f4[\U000e0020-\U000e007f]+)|[\U000e0000-\U000e007f]")


def visible(text: str) -> str:
    """A text without control characters: of terminals, of writing direction, of hidden tags.

    Lines and tabs stay, and so do the joiners that Persian, Hindi and emoji need. Flags of regions
    are the one honest use of tags.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _TAGS.sub(lambda m: m[1] or "", _HIDDEN.sub("", _ESCAPES.sub("", text)))


def words(text: str) -> list[str]:
    """Lower-case words; apostrophes and hyphens inside a word belong to it."""
    return re.findall(r"\w+(?:['’-]\w+)*", text.lower().replace("’", "'"))


def quoted(text: str) -> list[str]:
    """What stands in quotation marks of any style, marks included."""
    return re.findall(_QUOTED, text)


def unquoted(text: str) -> str:
    """A text without its quotations, which may be in any language."""
    return re.sub(_QUOTED, " ", text)


def sentences(text: str) -> list[str]:
    """A text cut after each full stop, exclamation and question mark; quotations stay whole."""
    spans = quoted(text)
    for i, span in enumerate(spans):
        text = text.replace(span, f"\x00{i}\x00", 1)
    parts = re.split(r"(?<=[.!?])\s+|\n+", text.strip())
    return [re.sub(r"\x00(\d+)\x00", lambda m: spans[int(m[1])], part) for part in parts if part]


@dataclass(frozen=True)
class Said:
    """One word of a text, by its stem; a quotation or a symbol counts as a word."""

    word: str
    """as it is written, in lower case"""
    stem: str
    negated: bool
    clause: int
    """number of the clause that it stands in"""
    sentence: int

    @property
    def mark(self) -> str:
        return f"no {self.stem}" if self.negated else self.stem


def _negator(word: str) -> bool:
    return word in NEGATORS or word.endswith("n't")


@dataclass
class _Scope:
    """How far a negator reaches."""

    on: bool = False
    fresh: bool = False
    """only light words since the negator"""

    def step(self, word: str, following: str) -> bool:
        """Whether a word is negated."""
        if word in _SCOPE_ENDS and not self.fresh:
            self.on = False
        elif word == "and":
            # "no cars and trucks" goes on, "no cars and a dog" does not.
            self.on = self.on and not (following in _ARTICLES or _negator(following))
        elif self.on:
            self.fresh = False
            return True
        return False


def read(text: str) -> list[Said]:
    """The words that make claims, in order; a request's opening and fillers are left out."""
    if opening := _REQUEST.match(text):
        text = " " * opening.end() + text[opening.end() :]
    found = list(_TOKEN.finditer(text))
    low = [m[0].lower().replace("’", "'") for m in found]
    said: list[Said] = []
    scope, clause, sentence = _Scope(), 0, 0
    for i, match in enumerate(found):
        word = low[i]
        if match["other"] and unicodedata.category(word[0]) not in _SYMBOLS and word not in "%&@#":
            if word in _ENDS:
                scope.on, clause = False, clause + 1
            sentence += word in ".!?\n"
            continue
        if match["word"] and _negator(word):
            scope = _Scope(on=True, fresh=True)
            if word in ("nobody", "nothing", "nowhere"):
                said.append(Said(word, word, False, clause, sentence))
            continue
        if scope.on and scope.fresh and word in LIGHT:
            continue
        negated = scope.step(word, low[i + 1] if i + 1 < len(low) else "")
        if match["word"] and word in FILLERS:
            directed = word == "to" and any(s.stem == "from" and s.clause == clause for s in said)
            clause += word in _CLAUSE_ENDS and not scope.on and not directed
            if not directed:
                continue
        name = match[0] if match["quote"] else stem(word)
        said.append(Said(match[0] if match["quote"] else word, name, negated, clause, sentence))
    return said


def clauses(said: list[Said]) -> Iterator[list[Said]]:
    """The words of each clause, in order."""
    for number in dict.fromkeys(s.clause for s in said):
        yield [s for s in said if s.clause == number]


def affirmed(text: str) -> set[str]:
    """Stems of a text that are not negated."""
    return {s.stem for s in read(text) if not s.negated}


def negated(text: str) -> set[str]:
    """Stems that a text says not to show: "no people" and "don't show the people"."""
    return {s.stem for s in read(text) if s.negated}


_MOVE_STEMS = {move: {stem(form) for form in forms} for move, forms in CAMERA_MOVES.items()}
_STILL_STEMS = {stem(word) for word in CAMERA_STILL}
_MOVING = {stem("move"), stem("movement"), stem("motion")}


def camera_moves(text: str) -> set[str]:
    """Camera movements that a text asks for."""
    said = affirmed(text)
    return {move for move, forms in _MOVE_STEMS.items() if said & forms}


def camera_still(text: str) -> bool:
    """Whether a text asks for a camera that does not move."""
    for sentence in re.split(r"[.;,!?\n]", text.lower()):
        said = affirmed(sentence)
        rests = said & _STILL_STEMS or negated(sentence) & _MOVING
        if said & {"camera", "shot"} and rests:
            return True
    said = negated(text)
    return bool(said & {"camera", *set().union(*_MOVE_STEMS.values())}) and not camera_moves(text)


def mentions_camera(text: str) -> bool:
    """Whether a text says anything about the camera."""
    said = {stem(word) for word in words(text)}
    close = {stem("close-up"), stem("closeup")}
    return bool(said & ({"camera", "shot"} | close | set().union(*_MOVE_STEMS.values())))
