"""What can be told of a captioner from its captions alone, and from texts that came with clips."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from openreel.recaption.caption import MANIFEST, Caption, ClipCaptions, mean
from openreel.recaption.checks import spoken_words
from openreel.recaption.ngrams import NgramScores, score

QUANTILES = (0.0, 0.1, 0.5, 0.9, 1.0)

Said = tuple[str, Caption]
"""a clip's id and a caption of the whole clip"""


@dataclass(frozen=True, kw_only=True, order=True)
class Author:
    """Who wrote a group of captions, and under which instruction."""

    source: str
    model: str
    prompt: str
    kind: str


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """Figures of one author's captions. Shares are of all captions, those with a flaw included."""

    captions: int
    windows: int
    """further captions, of windows of long clips; they are in none of the figures"""
    flaws: Mapping[str, int]
    """by the name of the check, the most frequent first"""
    words: tuple[float, ...]
    """the length in words at QUANTILES"""
    distinct_2: float
    """different pairs of neighbouring words, as a share of all; 0 where there are none"""
    repeated: float
    """share of captions whose words are also the caption of another clip"""
    logprob: float | None
    """mean over those captions that have one"""
    agreement: float | None

    @property
    def flawed(self) -> float:
        """Share of captions that are not used."""
        return sum(self.flaws.values()) / self.captions

    @property
    def boilerplate(self) -> float:
        """Share of captions that open with a phrase such as "the image shows"."""
        return self.flaws.get("boilerplate", 0) / self.captions


def by_author(rows: Iterable[ClipCaptions]) -> dict[Author, list[Said]]:
    """All captions, those of windows too, with their clips; authors in order of their names."""
    found: dict[Author, list[Said]] = {}
    for row in rows:
        for c in row.captions:
            author = Author(source=c.source, model=c.model, prompt=c.prompt, kind=c.kind)
            found.setdefault(author, []).append((row.clip_id, c))
    return {author: found[author] for author in sorted(found)}


def assess(said: Sequence[Said]) -> Assessment | None:
    """The figures of one author; None if all captions are of windows."""
    whole = [(clip, c) for clip, c in said if c.whole]
    if not whole:
        return None
    words = [spoken_words(c.text) for _, c in whole]
    pairs = [pair for spoken in words for pair in pairwise(spoken)]
    keys = [" ".join(spoken) for spoken in words]
    told = {(key, clip) for key, (clip, _) in zip(keys, whole, strict=True)}
    clips = Counter(key for key, _ in told)
    return Assessment(
        captions=len(whole),
        windows=len(said) - len(whole),
        flaws=dict(Counter(c.failed_check for _, c in whole if c.flaw).most_common()),
        words=tuple(np.quantile([len(spoken) for spoken in words], QUANTILES).tolist()),
        distinct_2=len(set(pairs)) / max(1, len(pairs)),
        repeated=sum(clips[key] > 1 for key in keys) / len(keys),
        logprob=mean(c.logprob for _, c in whole),
        agreement=mean(c.agreement for _, c in whole),
    )


def against_originals(said: Mapping[Author, Sequence[Said]], author: Author) -> NgramScores | None:
    """An author's newest caption of each clip against the texts that came with it.

    Those of the same kind count; where no clip has one, those of any kind. None if there is nothing
    to compare, and for the originals themselves. Raises InputError without the extra `metrics`.
    """
    if author.source == MANIFEST:
        return None
    candidates = {clip: c.text for clip, c in said[author] if c.whole}
    originals = [
        (a.kind, clip, c.text) for a, own in said.items() if a.source == MANIFEST for clip, c in own
    ]
    alike = [row for row in originals if row[0] == author.kind]
    references: dict[str, list[str]] = {}
    for _, clip, text in alike or originals:
        references.setdefault(clip, []).append(text)
    candidates = {clip: text for clip, text in candidates.items() if clip in references}
    return score(candidates, references) if candidates else None
