"""Token drop: a sample trains on some of its tokens, each with its own place. No torch.

NaViT (arXiv 2307.06304, section 3.3 and appendix A.4) drops another share of each example, which
packing makes free: a dropped token leaves room for another sample's. Three laws draw the share:

    constant   the same for every sample
    beta       most_rate x a Beta variable of the given mean and 0.3 of the largest variance it
               could have: some samples stay nearly whole, so that training sees what inference will
    length     the mean rises linearly with a sample's tokens; normal about it with a deviation of
               0.02, no further than twice that

All is keyed by (seed, sample, epoch) and follows from the length alone, so that packs are made
before anything is read.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from openreel.packing.plan import Kept
from openreel.pipeline.errors import InputError
from openreel.pipeline.keyed import generator

Law = Literal["none", "constant", "beta", "length"]

SPREAD = 0.3
"""a beta law's variance, as a share of the largest that its mean allows"""
DEVIATION, DEVIATIONS = 0.02, 2.0
"""of a length law about its mean, and how many of them it may be away"""


@dataclass(frozen=True, kw_only=True)
class TokenDrop:
    """How much of each sample is dropped in training; nothing by default."""

    law: Law = "none"
    rate: float = 0.5
    """constant: the share that is dropped; beta: its mean"""
    most_rate: float = 0.8
    """beta: the most that is dropped; length: the mean at longest tokens and above"""
    least_rate: float = 0.2
    """length: the mean at shortest tokens and below"""
    shortest: int = 256
    longest: int = 32_768

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            raise InputError("rate", self.rate, "0 <= rate < 1")
        if not 0 <= self.least_rate <= self.most_rate < 1:
            rates = (self.least_rate, self.most_rate)
            raise InputError("least_rate, most_rate", rates, "0 <= least <= most < 1")
        if self.law == "beta" and not 0 < self.rate < self.most_rate:
            raise InputError("rate", self.rate, f"0 < rate < most_rate {self.most_rate}, for beta")
        if not 1 <= self.shortest < self.longest:
            lengths = (self.shortest, self.longest)
            raise InputError("shortest, longest", lengths, "1 <= shortest < longest")

    def count(self, num_tokens: int, seed: int, *key: object) -> int:
        """How many of a sample's tokens are kept; at least one."""
        if self.law == "none":
            return num_tokens
        return _kept_count(num_tokens, self._rate(num_tokens, _random(seed, *key)))

    def kept(self, num_tokens: int, seed: int, *key: object) -> Kept | None:
        """(count,) which are kept: any set of so many is as likely as another. None keeps all."""
        if self.law == "none":
            return None
        random = _random(seed, *key)
        count = _kept_count(num_tokens, self._rate(num_tokens, random))
        if count == num_tokens:
            return None
        return np.sort(random.permutation(num_tokens)[:count]).astype(np.int64)

    def most(self, num_tokens: int) -> int:
        """The most tokens that a sample can keep in any epoch."""
        match self.law:
            case "constant":
                return _kept_count(num_tokens, self.rate)
            case "length":
                least = max(0.0, self._mean(num_tokens) - DEVIATIONS * DEVIATION)
                return _kept_count(num_tokens, least)
            case _:
                return num_tokens

    def _rate(self, num_tokens: int, random: np.random.Generator) -> float:
        """The share of one example that is dropped."""
        match self.law:
            case "beta":
                mean, total = self.rate / self.most_rate, 1 / SPREAD - 1
                return self.most_rate * float(random.beta(mean * total, (1 - mean) * total))
            case "length":
                away = math.inf
                while abs(away) > DEVIATIONS:
                    away = float(random.standard_normal())
                return min(max(self._mean(num_tokens) + DEVIATION * away, 0.0), 1.0)
            case _:
                return self.rate

    def _mean(self, num_tokens: int) -> float:
        """The length law's mean share for a sample."""
        place = (num_tokens - self.shortest) / (self.longest - self.shortest)
        return self.least_rate + (self.most_rate - self.least_rate) * min(max(place, 0.0), 1.0)


def _random(seed: int, *key: object) -> np.random.Generator:
    return generator(seed, "token drop", *key)


def _kept_count(num_tokens: int, rate: float) -> int:
    return max(1, round((1 - rate) * num_tokens))
