"""What is wrong with a caption that a model wrote. Pure functions on text.

A flaw begins with the name of its check: error, refusal, empty, cut off, length, repetition,
boilerplate, language, unsupported, contradiction. Rules in English are for captions that are to be
in English; where another language is expected, they find nothing.
"""

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass

from openreel.pipeline.errors import InputError
from openreel.recaption.writer import Written

_PICTURE = r"(?:image|video|picture|photo(?:graph)?|clip|footage|gif)s?"
_SCENE = r"(?:scene|shot|frame|film|animation|sequence)s?"
_SHOWS = (
    r"(?: [\w-]+)? (?:shows?|showing|depicts?|depicting|features?|featuring|captures?|capturing|"
    r"displays?|displaying|presents?|portrays?|illustrates?|contains?|begins|opens|starts)\b"
)
_BOILERPLATE = re.compile(
    "|".join(
        (
            r"(?:(?:this|these|here) (?:is|are) )?(?:this|the|these|an?|our)"
            rf"(?: black and white| [\w-]+){{0,2}}? {_PICTURE}(?:{_SHOWS}| of\b)",
            rf"(?:this|the|these) (?:[\w-]+ )?{_SCENE}{_SHOWS}",
            rf"in (?:this|the|these) (?:[\w-]+ )?(?:{_PICTURE}|{_SCENE})\b",
            r"(?:sure|certainly|of course|okay|ok|absolutely)\b\s*[,!.]",
            r"here(?:'s| is| are) (?:the|an?|my|your) (?:[\w-]+ )?(?:caption|description|summary)",
            r"(?:captions?|descriptions?|summary|answer|output)\s*:",
            r"(?:we|you|i) (?:can )?(?:also )?see\b",
            r"it (?:appears|seems) (?:that|to)\b",
            rf"based on (?:this|the|these) {_PICTURE}",
        )
    )
)
_REFUSAL = re.compile(
    "|".join(
        (
            r"\bi(?:'m| am) (?:very |so |really )?(?:sorry|unable|not able)\b",
            r"\bi apologi[sz]e\b",
            r"\bi (?:can't|cannot|can not|don't have the|do not have the)\b",
            r"\bas an? (?:ai|artificial intelligence|(?:large )?language model|assistant)\b",
            r"\bviolates? (?:my|our|the) (?:guidelines|polic)",
            r"^(?:sorry|unfortunately)\b",
            r"\bno (?:images?|videos?|frames?) (?:was|were|is|are) (?:provided|given|visible)\b",
        )
    )
)

_STOP_WORDS = {
    "English": "the a an and of is are in on with to at it its his her their by from as over while",
    "German": "der die das und ein eine einen einer ist sind mit auf von zu im dem den nicht vor",
    "French": "le la les un une des et est sont dans sur avec du au aux en qui par il elle devant",
    "Spanish": "el la los las un una y es son en con del al de que por su sobre está se hacia",
    "Italian": "il lo la gli le un una e è sono in con di del della che su per si nel mentre",
    "Portuguese": "o a os as um uma e é são em com do da dos das no na que por ao está",
    "Dutch": "de het een en is zijn in op met van te naar voor niet aan door die dat over",
}
"""the commonest small words; a language is the one that most of a text's are of"""
_SCRIPTS = dict.fromkeys(_STOP_WORDS, "LATIN") | {
    **{"Russian": "CYRILLIC", "Greek": "GREEK", "Arabic": "ARABIC", "Hebrew": "HEBREW"},
    **{"Hindi": "DEVANAGARI", "Thai": "THAI", "Korean": "HANGUL", "Chinese": "CJK"},
    "Japanese": "CJK HIRAGANA KATAKANA",
}
"""the first words of Unicode's names of a language's letters"""
_UNSPACED = r"\u3040-\u30ff\u3400-\u9fff"
_QUOTED = re.compile(r"\"[^\"]*\"|\u201c[^\u201d]*\u201d|\u00ab[^\u00bb]*\u00bb")
ANY = "any"
_FEW_WORDS = 6
"""a shorter text may do without small words"""


@dataclass(frozen=True, kw_only=True)
class CaptionChecks:
    """The limits within which a caption is used."""

    min_words: int = 3
    max_words: int = 200
    max_repeats: int = 2
    """how often one run of four words may occur"""
    language: str = "English"
    """that captions are to be in, or any"""
    boilerplate: bool = False
    """True: openings such as "the image shows" are let pass"""
    min_agreement: float | None = None
    """contrastive likeness of clip and caption below which its claims count as unsupported; None:
    not looked at. It differs from model to model: `openreel eval captions --calibrate` finds it"""

    def __post_init__(self) -> None:
        if not 1 <= self.min_words <= self.max_words:
            accepted = f"1 to max_words ({self.max_words})"
            raise InputError("min_words", self.min_words, accepted)
        if self.max_repeats < 1:
            raise InputError("max_repeats", self.max_repeats, "1 or more")
        if self.language not in (ANY, *_SCRIPTS):
            raise InputError("language", self.language, ", ".join((ANY, *_SCRIPTS)))
        if self.min_agreement is not None and not -1 <= self.min_agreement <= 1:
            raise InputError("min_agreement", self.min_agreement, "-1 to 1")


def flaw(written: Written, checks: CaptionChecks, *, windows: int = 1) -> str:
    """Why a caption is not used, or an empty string. windows: how many it was merged from."""
    text = written.text
    words = spoken_words(text)
    if written.outcome == "error":
        return f"error: {written.reason}"
    if written.outcome == "blocked":
        return f"refusal: {written.reason}"
    if not words:
        return "empty"
    if written.outcome == "truncated":
        return f"cut off: {written.reason}" if written.reason else "cut off"
    if found := _REFUSAL.search(plain(_QUOTED.sub(" ", text))):
        return f"refusal: {found[0]}"
    if not checks.min_words <= len(words) <= checks.max_words * windows:
        return f"length: {len(words)} words, not {checks.min_words} to {checks.max_words * windows}"
    if not checks.boilerplate and (found := _BOILERPLATE.match(plain(text))):
        return f"boilerplate: {found[0]}"
    if repeated := _repetition(text, words, checks.max_repeats):
        return f"repetition: {repeated}"
    if checks.language != ANY and (found_in := _foreign(text, checks.language)):
        return f"language: {found_in}, not {checks.language}"
    least = checks.min_agreement
    if least is not None and written.agreement is not None and written.agreement < least:
        return f"unsupported: agreement {written.agreement:.3f}, below {least:g}"
    return ""


def plain(text: str) -> str:
    """In small letters, with straight apostrophes and single spaces, without marks around it."""
    text = text.lower().replace("\u2019", "'")
    return " ".join(text.split()).strip(" \"'*#>-")


def spoken_words(text: str) -> list[str]:
    """The words of a text in small letters. In scripts without spaces each letter is one."""
    return re.findall(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+", text.lower())


def _repetition(text: str, words: list[str], max_repeats: int) -> str:
    spoken = [s.strip().lower() for s in re.split(r"[.!?。！？]", text) if s.strip()]
    if len(set(spoken)) < len(spoken):
        return "a sentence twice"
    if any(a == b == c for a, b, c in zip(words, words[1:], words[2:], strict=False)):
        return "a word three times running"
    runs = Counter(" ".join(words[i : i + 4]) for i in range(len(words) - 3))
    for run, count in runs.most_common(1):
        if count > max_repeats:
            return f"four words {count} times: {run}"
    return ""


def _foreign(text: str, expected: str) -> str:
    """The script or language that a text is in instead of the expected one, or an empty string.

    What stands in quotation marks is not the caption's own and not looked at.
    """
    text = _QUOTED.sub(" ", text)
    letters = Counter(unicodedata.name(c, "?").split()[0] for c in text if c.isalpha())
    own = _SCRIPTS[expected].split()
    foreign = {script: n for script, n in letters.items() if script not in own}
    if sum(foreign.values()) > 0.2 * letters.total():
        return f"{max(foreign, key=lambda script: foreign[script]).capitalize()} letters"
    if expected not in _STOP_WORDS:
        return ""
    words = spoken_words(text)
    counts = {
        name: sum(word in small.split() for word in words) for name, small in _STOP_WORDS.items()
    }
    best = max(counts, key=lambda name: counts[name])
    if counts[best] > counts[expected] and counts[best] >= 2:
        return best
    if counts[expected] == 0 and len(words) > _FEW_WORDS:
        return "none of its small words"
    return ""
