"""Pairs of a short and a dense caption of one clip: what an expander learns from.

No denoiser's users write as its captioner does; the pairs of its own data set show the way.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from openreel.recaption.caption import Caption, ClipCaptions
from openreel.recaption.guards import violations
from openreel.recaption.reading import read


@dataclass(frozen=True, order=True)
class Pair:
    """Two captions of one clip."""

    short: str
    dense: str


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """The pairs of a data set that can teach, and how many cannot."""

    usable: tuple[Pair, ...]
    """distinct, sorted; each dense caption keeps to its short one as the guards understand it"""
    torn: int = 0
    """pairs whose dense caption says something else than the short one"""


def pairs_of(rows: Iterable[ClipCaptions]) -> Pairs:
    """The pairs of each clip's captions by the same writer, and of its newest ones.

    An expander that learnt from a dense caption that contradicts its short one would be refused by
    the guards each time, so such pairs are left out and counted.
    """
    found: set[Pair] = set()
    for row in rows:
        usable = [c for c in row.captions if c.whole and not c.flaw]
        for short in (c for c in usable if c.kind == "short"):
            dense = (c for c in usable if c.kind == "dense" and _writer(c) == _writer(short))
            found |= {Pair(short.text, c.text) for c in dense}
        newest = row.of_kind("short"), row.of_kind("dense")
        if newest[0] is not None and newest[1] is not None:
            found.add(Pair(newest[0].text, newest[1].text))
    kept = sorted(pair for pair in found if not violations(pair.short, pair.dense))
    return Pairs(usable=tuple(kept), torn=len(found) - len(kept))


def _writer(caption: Caption) -> tuple[str, str]:
    return caption.source, caption.model


class Nearest:
    """Finds the pairs whose short captions are most like a prompt: cosine of tf-idf vectors."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.pairs = sorted(set(pairs))
        stems = [Counter(s.mark for s in read(pair.short)) for pair in self.pairs]
        seen_in = Counter(stem for counts in stems for stem in counts)
        self._weight = {s: math.log((1 + len(stems)) / n) for s, n in seen_in.items()}
        self._vectors = [self._unit(counts) for counts in stems]

    def __call__(self, prompt: str, count: int) -> list[Pair]:
        """At most `count` pairs, the nearest last; equally near ones in alphabetical order.

        No dense caption comes twice: a second example of the same style teaches less.
        """
        vector = self._unit(Counter(s.mark for s in read(prompt)))
        near = [sum(v * vector.get(s, 0.0) for s, v in own.items()) for own in self._vectors]
        order = sorted(range(len(near)), key=lambda i: (-near[i], i))
        found = {self.pairs[i].dense: self.pairs[i] for i in reversed(order[: 4 * count])}
        return sorted(found.values(), key=lambda p: (near[self.pairs.index(p)], p))[-count:]

    def _unit(self, counts: Counter[str]) -> dict[str, float]:
        weighed = {s: n * self._weight.get(s, 0.0) for s, n in counts.items()}
        norm = math.sqrt(sum(v * v for v in weighed.values()))
        return {s: v / norm for s, v in weighed.items() if v} if norm else {}
