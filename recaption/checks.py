"""What is wrong with a caption that a model wrote. Pure functions on text."""

import re
from collections import Counter
from dataclasses import dataclass

from openreel.pipeline.errors import InputError


@dataclass(frozen=True, kw_only=True)
class CaptionChecks:
    """The limits within which a caption is used."""

    min_words: int = 3
    max_words: int = 200
    max_repeats: int = 2
    """how often one run of four words may occur"""

    def __post_init__(self) -> None:
        if not 1 <= self.min_words <= self.max_words:
            accepted = f"1 to max_words ({self.max_words})"
            raise InputError("min_words", self.min_words, accepted)
        if self.max_repeats < 1:
            raise InputError("max_repeats", self.max_repeats, "1 or more")


def flaw(text: str, *, ended: bool, checks: CaptionChecks) -> str:
    """Why a caption is not used, or an empty string. ended: whether the model finished it."""
    words = re.findall(r"\w+", text.lower())
    if not words:
        return "empty"
    if not ended:
        return "cut off at the context length"
    if not checks.min_words <= len(words) <= checks.max_words:
        return f"{len(words)} words, not {checks.min_words} to {checks.max_words}"
    spoken = [s.strip().lower() for s in re.split(r"[.!?]", text) if s.strip()]
    if len(set(spoken)) < len(spoken):
        return "a sentence twice"
    if any(a == b == c for a, b, c in zip(words, words[1:], words[2:], strict=False)):
        return "a word three times running"
    runs = Counter(" ".join(words[i : i + 4]) for i in range(len(words) - 3))
    for run, count in runs.most_common(1):
        if count > checks.max_repeats:
            return f"four words {count} times: {run}"
    return ""
