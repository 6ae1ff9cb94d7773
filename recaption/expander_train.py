"""Training an expander on the (short, dense) pairs of a data set.

Letters: B pairs, K tokens.

    <short> a red ball moves right <dense> A large red ball moves right across … <end>
                                           '------------- the loss is on this -------------'

In part of the pairs, words that both captions share are replaced by made-up ones, the same in both:
what the model learns from them is to copy, so that it keeps words that no caption ever had.
"""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from openreel.pipeline.errors import InputError
from openreel.pipeline.keyed import generator
from openreel.recaption.english import FILLERS, NEGATORS
from openreel.recaption.expander_model import LanguageModel, Style
from openreel.recaption.pairs import Pair

PREFIX = "lm."
_IGNORED = -100
_PLACE = "\N{OBJECT REPLACEMENT CHARACTER}"


@dataclass(frozen=True, kw_only=True)
class ExpanderTrainConfig:
    """What a step trains on. Optimiser and schedule belong to the trainer."""

    batch_size: int = 32
    made_up: float = 0.5
    """share of pairs in which words are replaced by made-up ones"""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise InputError("batch_size", self.batch_size, "1 or more")
        if not 0 <= self.made_up <= 1:
            raise InputError("made_up", self.made_up, "0 to 1")


@dataclass(frozen=True)
class PairBatch:
    """Tokens of prompts and expansions, padded behind."""

    ids_BK: Tensor
    target_BK: Tensor
    """ids that are to be foretold at each position; -100 elsewhere"""
    mask_BK: Tensor

    @property
    def weight(self) -> float:
        return float(len(self.ids_BK))


class ExpanderObjective(nn.Module):
    """The sum over pairs of the mean cross-entropy of a dense caption's tokens."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.lm = model

    def forward(self, batch: PairBatch) -> tuple[Tensor, dict[str, Tensor]]:
        device = next(self.lm.parameters()).device
        ids_BK, target_BK = batch.ids_BK.to(device), batch.target_BK.to(device)
        logits_BKV = self.lm(
            input_ids=ids_BK, attention_mask=batch.mask_BK.to(device), use_cache=False
        ).logits
        loss_BK = F.cross_entropy(
            logits_BKV.float().transpose(1, 2), target_BK, ignore_index=_IGNORED, reduction="none"
        )
        wanted_BK = target_BK != _IGNORED
        loss_B = loss_BK.sum(1) / wanted_BK.sum(1)
        right_BK = (logits_BKV.argmax(-1) == target_BK) & wanted_BK
        return loss_B.sum(), {"token_accuracy": right_BK.sum() / wanted_BK.sum()}


@functools.lru_cache(maxsize=2)
def _order(seed: int, epoch: int, num_pairs: int) -> npt.NDArray[np.int64]:
    return generator(seed, "expander order", epoch).permutation(num_pairs)


class ExpanderTask:
    """Batches of pairs, in an order that depends on the seed alone.

    The pairs' permutations of all epochs form one endless sequence; batch b is its b-th slice, and
    rank r of n takes batches r, r + n, r + 2n, ...
    """

    def __init__(
        self,
        language: LanguageModel,
        pairs: Sequence[Pair],
        config: ExpanderTrainConfig,
        *,
        style: Style,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """style: goes into the exported folder. Pairs that are too long for the model are left out.

        Raises InputError if none is left.
        """
        self.language, self.config, self.style = language, config, style
        self.seed, self.rank, self.world_size = seed, rank, world_size
        room = language.model.config.max_position_embeddings
        self.pairs = [pair for pair in pairs if sum(map(len, self._tokens(pair))) <= room]
        if not self.pairs:
            raise InputError("pairs", f"{len(pairs)}, none within {room} tokens", "at least 1")
        self.model = ExpanderObjective(language.model)
        self._taken = 0
        """batches that all ranks together have taken"""

    def next_batch(self) -> PairBatch:
        first = (self._taken + self.rank) * self.config.batch_size
        self._taken += self.world_size
        rows = [self._tokens(self._pair(first + i)) for i in range(self.config.batch_size)]
        longest = max(len(short) + len(dense) for short, dense in rows)
        size = (len(rows), longest)
        pad = self.language.tokenizer.pad_token_id
        ids_BK = torch.full(size, self._end if pad is None else pad)
        target_BK, mask_BK = torch.full(size, _IGNORED), torch.zeros(size, dtype=torch.long)
        for b, (short, dense) in enumerate(rows):
            length = len(short) + len(dense)
            ids_BK[b, :length] = torch.tensor(short + dense)
            target_BK[b, len(short) - 1 : length - 1] = torch.tensor(dense)
            mask_BK[b, :length] = 1
        return PairBatch(ids_BK, target_BK, mask_BK)

    def _pair(self, position: int) -> Pair:
        """The pair at a position of the endless sequence, or its like with made-up words."""
        epoch, index = divmod(position, len(self.pairs))
        number = int(_order(self.seed, epoch, len(self.pairs))[index])
        pair = self.pairs[number]
        draw = generator(self.seed, "expander pair", number, epoch)
        changed = estranged(pair, draw) if draw.random() < self.config.made_up else pair
        room = self.language.model.config.max_position_embeddings
        return changed if sum(map(len, self._tokens(changed))) <= room else pair

    @property
    def _end(self) -> int:
        return int(self.language.tokenizer.eos_token_id)

    def _tokens(self, pair: Pair) -> tuple[list[int], list[int]]:
        """Ids up to the place where the model has the word, and of what it is to say."""
        tokenizer = self.language.tokenizer
        asked = self._turn.replace(_PLACE, pair.short)
        short = tokenizer(asked, add_special_tokens=False)["input_ids"]
        dense = tokenizer(pair.dense, add_special_tokens=False)["input_ids"]
        return list(short), [*dense, self._end]

    @functools.cached_property
    def _turn(self) -> str:
        """A user's turn with the place for its text: the template is slow, and always the same."""
        asked = [{"role": "user", "content": _PLACE}]
        turn: str = self.language.tokenizer.apply_chat_template(
            asked, add_generation_prompt=True, tokenize=False
        )
        return turn

    def state(self) -> dict[str, Any]:
        return {"batches_taken": self._taken}

    def restore(self, state: dict[str, Any]) -> None:
        self._taken = int(state["batches_taken"])

    def export(self, folder: Path, weights: dict[str, Tensor]) -> None:
        """Write what transformers loads, and the style; weights is the state_dict of `model`."""
        own = {k.removeprefix(PREFIX): v.detach().cpu() for k, v in weights.items()}
        model = self.language.model
        model.save_pretrained(folder, state_dict=own, safe_serialization=True)
        self.language.tokenizer.save_pretrained(folder)
        self.style.write(folder)


def estranged(pair: Pair, draw: np.random.Generator) -> Pair:
    """A pair in which some words that both captions have are made up, the same ones in both."""
    shared = _words(pair.short) & _words(pair.dense) - FILLERS - NEGATORS
    chosen = {word: _made_up(draw) for word in sorted(shared) if draw.random() < 0.5}

    def strange(text: str) -> str:
        return re.sub(r"\w+", lambda m: chosen.get(m[0], m[0]), text)

    return Pair(strange(pair.short), strange(pair.dense))


def _words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]{3,}", text))


def _made_up(draw: np.random.Generator) -> str:
    """One to three syllables."""
    picked = [
        part[draw.integers(len(part))]
        for _ in range(int(draw.integers(1, 4)))
        for part in ("bcdfghjklmnprstvwz", "aeiou", "lmnrstpk")
    ]
    return "".join(picked)
