"""What every expander is: a backend that proposes, guards that decide, a record of what happened.

    prompt -> control characters out -> backend -> guards -> text
                                           ^          |
                                           +-- once --+   what was broken, by name

Whatever a backend does, the result is an expansion that keeps to the prompt or the prompt itself,
with the reason. Backends: the grammar without weights (expand.py), causal language models from a
folder, the own one included (language.py), a server (endpoint_expander.py).
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, get_args

from openreel.pipeline.clip import digest
from openreel.pipeline.errors import InputError
from openreel.recaption.english import is_english
from openreel.recaption.expansion_cache import ExpansionCache
from openreel.recaption.grammar import with_seen
from openreel.recaption.guards import (
    LONGEST_WORD,
    WordRange,
    violations,
    violations_of_translation,
)
from openreel.recaption.reading import unquoted, visible, words

Status = Literal["expanded", "unchanged", "fell back"]
Language = Literal["keep", "en"]


@dataclass(frozen=True, kw_only=True)
class Expansion:
    """A prompt and what is generated from, on record."""

    original: str
    """byte for byte"""
    text: str
    """data for the text encoder and nothing else"""
    backend: str
    """off, offline, or a language model's identity"""
    status: Status
    """fell back: there was no usable expansion, and the original stands"""
    reason: str = ""
    """why it is not expanded"""
    violations: tuple[str, ...] = ()
    """what the last refused expansion broke"""
    seed: int = 0
    seen: str = ""
    """what was known of the picture beside the prompt"""
    instruction: str = ""
    """digest of what a language model was told; empty where it is told nothing"""
    attempts: int = 0
    seconds: float = field(default=0.0, compare=False)
    cached: bool = field(default=False, compare=False)


class Expander(Protocol):
    """What makes a short prompt dense."""

    def expand(self, prompt: str, *, seed: int = 0, seen: str = "") -> Expansion:
        """Never raises for a prompt, in whatever language; the same seed gives the same bytes.

        seen: a caption of the picture that a video starts from.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Refused:
    """An answer that the guards did not let pass."""

    text: str
    violations: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Wish:
    """One thing to write."""

    prompt: str
    """without control characters; what is known of the picture is part of it"""
    words: WordRange
    seed: int
    seconds: float
    """time left"""
    seen: bool = False
    """the prompt knows the picture, and a careful writer adds nothing"""
    translate: bool = False
    """the prompt is not English and is to become so"""
    refused: Refused | None = None
    """the first attempt, on the second"""


class NoAnswer(Exception):
    """A backend has nothing to offer; the message says why."""


class Backend(Protocol):
    """What proposes expansions."""

    identity: str
    """equal identity, equal proposals"""
    instruction: str
    """digest of what it is told; empty for none"""
    translates: bool

    def write(self, wish: Wish) -> str:
        """A proposal, as it comes. Raises NoAnswer, or anything: both end as a reason."""
        ...


@dataclass(frozen=True, kw_only=True)
class ExpandConfig:
    """How any backend is used."""

    words: WordRange | None = None
    """None: as long as the corpus' dense captions are; 15 to 80 without a corpus"""
    language: Language = "keep"
    """keep: prompts that are not English pass through; en: a language model translates them"""
    timeout_s: float = 30.0
    """for one prompt in all, loading aside"""

    def __post_init__(self) -> None:
        if self.language not in get_args(Language):
            raise InputError("language", self.language, ", ".join(get_args(Language)))
        if not 0 < self.timeout_s < float("inf"):
            raise InputError("timeout_s", self.timeout_s, "seconds above 0")


def untouched(prompt: str, seed: int) -> Expansion:
    """No expansion at all: the prompt byte for byte."""
    return Expansion(original=prompt, text=prompt, backend="off", status="unchanged", seed=seed)


class GuardedExpander:
    """A backend whose proposals are checked; one attempt to mend, then the original stands."""

    def __init__(
        self,
        backend: Backend,
        config: ExpandConfig | None = None,
        *,
        corpus: Sequence[str] = (),
        cache: ExpansionCache | None = None,
    ) -> None:
        """corpus: dense captions of the style; a prompt that is one of them passes unchanged."""
        self.backend, self.config = backend, config or ExpandConfig()
        self.cache = cache or ExpansionCache()
        self.known = frozenset(caption.strip() for caption in corpus)
        self.vocabulary = frozenset(word for caption in corpus for word in words(caption))
        self.words = self.config.words or WordRange.of(corpus)

    def expand(self, prompt: str, *, seed: int = 0, seen: str = "") -> Expansion:
        start = time.monotonic()
        clean, seen = visible(prompt), visible(seen)
        blank = Expansion(
            original=prompt,
            text=clean,
            backend=self.backend.identity,
            status="unchanged",
            seed=seed,
            seen=seen,
            instruction=self.backend.instruction,
        )
        key = self._key(clean, seed, seen)
        if (found := self.cache.get(key)) is not None:
            return replace(blank, **found, cached=True, seconds=time.monotonic() - start)
        result = self._expanded(blank, clean, start)
        result = replace(result, seconds=time.monotonic() - start)
        if result.status == "expanded":  # what fell back may go better next time
            kept = {"text": result.text, "status": result.status, "attempts": result.attempts}
            self.cache.put(key, kept)
        return result

    def _key(self, prompt: str, seed: int, seen: str) -> str:
        """Everything that an expansion depends on."""
        backend = self.backend
        limits = f"{self.words.low}-{self.words.high}"
        language = self.config.language
        return digest(backend.identity, backend.instruction, limits, language, seed, seen, prompt)

    def _expanded(self, blank: Expansion, clean: str, start: float) -> Expansion:
        if not clean.strip():
            return replace(blank, reason="empty")
        long = len(clean) > LONGEST_WORD * self.words.high
        if long or len(words(clean)) >= self.words.high:
            return replace(blank, reason="as long as the captions are")
        if clean.strip() in self.known:
            return replace(blank, reason="a caption of the style")
        if not is_english(unquoted(clean), self.vocabulary):
            letters = any(c.isalpha() for c in clean)
            if self.config.language == "keep" or not self.backend.translates or not letters:
                return replace(blank, reason="not English")
            return self._asked(blank, self._wish(blank, clean, translate=True), start)
        base = with_seen(clean, blank.seen)
        if base != clean and violations(clean, base, seen=blank.seen):
            base = clean
        wish = self._wish(blank, base, seen=base != clean)
        return self._asked(replace(blank, text=base), wish, start)

    def _wish(
        self, blank: Expansion, prompt: str, *, seen: bool = False, translate: bool = False
    ) -> Wish:
        return Wish(
            prompt=prompt,
            words=self.words,
            seed=blank.seed,
            seconds=self.config.timeout_s,
            seen=seen,
            translate=translate,
        )

    def _asked(self, blank: Expansion, wish: Wish, start: float) -> Expansion:
        """The first of two proposals that the guards let pass, or `blank` with the reason."""
        broken: tuple[str, ...] = ()
        for attempt in (1, 2):
            left = self.config.timeout_s - (time.monotonic() - start)
            if left < self.config.timeout_s / 2 and attempt == 2:
                reason = "no time for a second attempt"
                return replace(blank, status="fell back", reason=reason, violations=broken)
            try:
                said = self.backend.write(replace(wish, seconds=left))
            except Exception as error:  # the boundary: no backend's fault costs anybody a video
                kind = "" if isinstance(error, NoAnswer) else f"{type(error).__name__}: "
                reason = visible(f"{kind}{error}")[:300]
                blank = replace(blank, attempts=attempt, violations=broken)
                return replace(blank, status="fell back", reason=reason)
            room = LONGEST_WORD * self.words.high
            text = said[: room + 1] if len(said) > room else " ".join(visible(said).split())
            blank = replace(blank, attempts=attempt)
            if said == wish.prompt:
                same = wish.prompt == visible(blank.original)
                return replace(
                    blank,
                    status="unchanged" if same else "expanded",
                    reason="nothing to add" if same else "",
                )
            broken = self._broken(wish, blank.seen, text)
            if not broken:
                return replace(blank, text=text, status="expanded")
            wish = replace(wish, refused=Refused(text=text[:2000], violations=broken))
        return replace(blank, status="fell back", reason="refused twice", violations=broken)

    def _broken(self, wish: Wish, seen: str, text: str) -> tuple[str, ...]:
        if not wish.translate:
            limits = replace(self.words, low=0) if wish.seen else self.words
            return violations(wish.prompt, text, limits=limits, seen=seen)
        found = violations_of_translation(wish.prompt, text, self.words)
        english = is_english(unquoted(text), self.vocabulary)
        return found if english else (*found, "not English")
