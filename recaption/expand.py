"""The expander without weights: a grammar, filled from the prompt and the captions' statistics.

It finds the dense caption of the corpus that is most like the prompt and borrows the phrases that
the prompt lacks, then says in a sentence each what the style speaks of and the prompt does not
(background, light, camera), in words of the corpus that claim as little as possible.

    a red ball moves right
    A large red ball moves right across a dark striped background. The camera is still.

A prompt that has them all, or that is not English, comes back byte for byte.
"""

from collections import Counter
from collections.abc import Sequence

from openreel.pipeline.keyed import generator
from openreel.recaption.english import SIZES
from openreel.recaption.expansion import ExpandConfig, Expansion, GuardedExpander, Wish
from openreel.recaption.expansion_cache import ExpansionCache
from openreel.recaption.grammar import (
    CAMERA,
    DETAIL,
    GROUND,
    LIGHT,
    Donor,
    closed,
    with_place,
    with_size,
)
from openreel.recaption.guards import violations
from openreel.recaption.reading import quoted, sentences, words

__all__ = ["Expansion", "Grammar", "OfflineExpander"]


class Grammar:
    """A backend that borrows phrases; without a corpus it adds neutral sentences alone."""

    identity = "offline"
    instruction = ""
    translates = False

    def __init__(self, corpus: Sequence[str] = ()) -> None:
        captions = sorted({c.strip() for c in corpus if words(c)})
        self.donors = [Donor.of(caption) for caption in captions]
        places = Counter(d.place for d in self.donors if d.place.startswith("in front of"))
        self.place = max(sorted(places), key=lambda p: places[p], default="")
        """what fits behind a thing that no caption knows"""
        slots = (GROUND, LIGHT, CAMERA)
        self.style = [(slot, slot.sentence(captions)) for slot in slots]
        if not captions:
            self.style = [(slot, slot.default) for slot in slots]

    def write(self, wish: Wish) -> str:
        """The prompt itself where there is nothing to add."""
        prompt = wish.prompt
        if wish.seen:
            return prompt
        subject, *rest = sentences(prompt)
        bare = subject.rstrip(".!?")
        filled = bare
        donor = self._donor(bare, wish.seed)
        if not rest and not quoted(prompt):
            filled = _kept(prompt, filled, with_size(filled, donor.size if donor else ""))
            filled = _kept(prompt, filled, with_place(filled, donor.place if donor else self.place))
        added: list[str] = []
        for slot, sentence in self.style:
            if sentence and not slot.filled(" ".join([filled, *rest])):
                added += self._allowed(wish, " ".join([filled, *rest, *added]), sentence)
        whole = " ".join([filled, *rest, *added])
        if len(words(whole)) < wish.words.low and not DETAIL.filled(whole):
            added += self._allowed(wish, whole, DETAIL.default)
        if filled == bare and not added:
            return prompt
        end = subject[len(bare) :]
        return " ".join([closed(filled + end), *rest, *added])

    @staticmethod
    def _allowed(wish: Wish, text: str, sentence: str) -> list[str]:
        """A sentence, unless it breaks the prompt or makes the text too long."""
        longer = len(words(f"{text} {sentence}")) > wish.words.high
        return [] if longer or violations(wish.prompt, f"{text} {sentence}") else [sentence]

    def _donor(self, subject: str, seed: int) -> Donor | None:
        """One of the captions most like the subject, of those whose place can follow it."""
        said = words(subject)
        fitting = [donor for donor in self.donors if said and donor.last == said[-1]]
        scores = [donor.likeness(frozenset(said) - SIZES) for donor in fitting]
        alike = [d for d, score in zip(fitting, scores, strict=True) if score == max(scores)]
        draw = generator(seed, "expand", subject)
        return alike[draw.integers(len(alike))] if alike else None


def _kept(prompt: str, before: str, after: str) -> str:
    """A change, unless it breaks the prompt."""
    return before if violations(prompt, after) else after


class OfflineExpander(GuardedExpander):
    """The default: deterministic, without weights, in the style of a corpus of dense captions."""

    def __init__(
        self,
        corpus: Sequence[str] = (),
        config: ExpandConfig | None = None,
        cache: ExpansionCache | None = None,
    ) -> None:
        super().__init__(Grammar(corpus), config, corpus=corpus, cache=cache)
