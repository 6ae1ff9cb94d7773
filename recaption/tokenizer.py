"""Words to ids and back: open_clip's byte-pair encoding, whose table ships in its package.

Two layouts. `published` keeps open_clip's 49,408 ids, so that published weights fit. `compact`
keeps only the ids that occur in a corpus: a tiny model then spends its parameters on seeing.

    <start of kind> word word ... <end> <pad> <pad> ...        always context_length long

The first id says which kind of caption follows (original, short or dense), so that one model
writes all of them. Always padded: open_clip's class token sits behind the padding and its position
would move otherwise.

    B captions, K context length
"""

import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from openreel.pipeline.errors import InputError
from openreel.recaption.caption import KINDS

BPE_START, BPE_END, NUM_BPE = 49406, 49407, 49408
PAD, UNKNOWN, END = 0, 1, 2
NUM_SPECIAL = 3 + len(KINDS)
"""a compact layout begins: pad, unknown, end, one start for each kind"""


@functools.cache
def _bpe() -> Any:
    # Imported when first used: open_clip builds its own tokenizer and loads timm at import.
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()


@dataclass(frozen=True, kw_only=True)
class CaptionTokenizer:
    """Encodes texts as (B, K) ids and decodes ids into clean sentences."""

    context_length: int
    bpe_ids: tuple[int, ...] = ()
    """open_clip's ids that are kept, ascending; empty for the published layout, which keeps all"""

    def __post_init__(self) -> None:
        if self.context_length < 3:
            raise InputError("context_length", self.context_length, "3 or more")

    @classmethod
    def fit(cls, corpus: Iterable[str], context_length: int) -> Self:
        """The compact layout of a corpus of captions."""
        ids = sorted({i for text in set(corpus) for i in _bpe().encode(text)})
        if not ids:
            raise InputError("corpus", "no words", "at least one caption with a word in it")
        return cls(context_length=context_length, bpe_ids=tuple(ids))

    @property
    def published(self) -> bool:
        return not self.bpe_ids

    @property
    def vocab_size(self) -> int:
        # The published layout has two ids more than open_clip: the starts of two further kinds.
        return NUM_BPE + len(KINDS) - 1 if self.published else NUM_SPECIAL + len(self.bpe_ids)

    @property
    def pad(self) -> int:
        return PAD

    @property
    def unknown(self) -> int | None:
        return None if self.published else UNKNOWN

    @property
    def end(self) -> int:
        return BPE_END if self.published else END

    def start(self, kind: str) -> int:
        """The id that a caption of this kind begins with."""
        if kind not in KINDS:
            raise InputError("kind", kind, ", ".join(KINDS))
        index = KINDS.index(kind)
        if self.published:
            return BPE_START if index == 0 else NUM_BPE + index - 1
        return END + 1 + index

    @property
    def unspeakable(self) -> tuple[int, ...]:
        """Ids that a caption never contains: all special ones but the end."""
        starts = tuple(self.start(kind) for kind in KINDS)
        return (self.pad, *starts) if self.unknown is None else (self.pad, self.unknown, *starts)

    @functools.cached_property
    def _own(self) -> dict[int, int]:
        return {bpe: NUM_SPECIAL + own for own, bpe in enumerate(self.bpe_ids)}

    def words(self, text: str) -> list[int]:
        """Ids of a text without start and end; a word outside a compact corpus is `unknown`."""
        bpe = _bpe().encode(text)
        return bpe if self.published else [self._own.get(i, UNKNOWN) for i in bpe]

    def num_unknown(self, text: str) -> int:
        """How many of a text's ids the vocabulary lacks."""
        return 0 if self.published else self.words(text).count(UNKNOWN)

    def overflows(self, text: str) -> bool:
        """Whether encode() would cut the text to fit."""
        return len(self.words(text)) + 2 > self.context_length

    def encode(self, texts: Sequence[str], kinds: Sequence[str]) -> Tensor:
        """(B, K) int64 ids of texts of the given kinds; too long a text is cut, its end kept."""
        rows_BK = torch.full((len(texts), self.context_length), self.pad, dtype=torch.long)
        for row_K, text, kind in zip(rows_BK, texts, kinds, strict=True):
            words = self.words(text)[: self.context_length - 2]
            ids = [self.start(kind), *words, self.end]
            row_K[: len(ids)] = torch.tensor(ids)
        return rows_BK

    def decode(self, ids: Sequence[int]) -> str:
        """The text of a caption's ids: what follows the end, and all special ids, left out."""
        ids = ids[: ids.index(self.end)] if self.end in ids else ids
        spoken = [i for i in ids if i not in self.unspeakable]
        bpe = spoken if self.published else [self.bpe_ids[i - NUM_SPECIAL] for i in spoken]
        return detokenise(_bpe().decode(bpe))


def detokenise(text: str) -> str:
    """Undo what byte-pair encoding did to spacing; capitals if the text is made of sentences.

    "the camera is still . it is 2 4 fps ." -> "The camera is still. It is 24 fps."
    "a close - up of a red ball"            -> "a close-up of a red ball"
    """
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r"(?<=\b\d) (?=\d\b)", "", text)
    text = re.sub(r"(?<=\d) ?([.:,]) ?(?=\d)", r"\1", text)
    text = re.sub(r" ([.,;:!?)\]%])", r"\1", text)
    text = re.sub(r"([(\[]) ", r"\1", text)
    text = re.sub(r"(?<=\w) - (?=\w)", "-", text)
    text = re.sub(r" '(s|t|re|ve|m|ll|d)\b", r"'\1", text)
    if text.endswith((".", "!", "?")):
        text = re.sub(r"(^|[.!?] )(\w)", lambda m: m[1] + m[2].upper(), text)
    return text
