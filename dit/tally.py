"""A step's figures, over all micro-batches of all ranks.

The ranks have to add up the loss of every micro-batch anyway, before anything is done with it; all
other figures travel in the same exchange and arrive in the same copy to the host.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from openreel.dit.distributed import Ranks


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a batch holds, counted on the host."""

    samples: int
    tokens: int
    cost: float
    """what the packer reckons it to cost"""
    budget: float
    """what would have been allowed"""
    flops: float
    """operations of training on it"""


class Tally:
    """Adds up; the names of the figures must be the same on all ranks."""

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        self.loss, self.weight = 0.0, 0.0
        self._sums: dict[str, tuple[float, float]] = {}
        self._load = [0.0] * 4
        self._mean_flops = self._most_flops = 0.0

    def add(
        self, loss: Tensor, shown: Mapping[str, Tensor], weight: float, load: Load | None
    ) -> float:
        """One micro-batch of every rank; returns the sum of their losses.

        loss: the weighted sum over this rank's samples. shown: scalars, which are means over the
        batch, or (2,) of a sum and its weight. weight: of this rank's samples.
        """
        own = [weight] + [0.0] * (4 + self.ranks.world_size)
        if load is not None:
            own[1:5] = [load.samples, load.tokens, load.cost, load.budget]
            own[5 + self.ranks.rank] = load.flops
        parts = [loss.detach().double().view(1)]
        parts += [_sum_and_weight(value.detach(), weight) for value in shown.values()]
        parts.append(torch.tensor(own, dtype=torch.float64).to(loss.device))
        flat = torch.cat(parts)
        if self.ranks.world_size > 1:
            torch.distributed.all_reduce(flat)
        total, *values = flat.tolist()
        for i, name in enumerate(shown):
            before = self._sums.get(name, (0.0, 0.0))
            self._sums[name] = (before[0] + values[2 * i], before[1] + values[2 * i + 1])
        weight, *counts = values[2 * len(shown) :]
        self.loss, self.weight = self.loss + total, self.weight + weight
        self._load = [a + b for a, b in zip(self._load, counts[:4], strict=True)]
        flops = counts[4:]
        self._mean_flops += sum(flops) / len(flops)
        self._most_flops += max(flops)
        return float(total)

    def means(self) -> dict[str, float]:
        """The loss and the figures; one without a sample is absent."""
        found = {n: total / weight for n, (total, weight) in self._sums.items() if weight}
        return {"loss": self.loss / self.weight, **found}

    def speed(self, seconds: float, peak: float | None) -> dict[str, float]:
        """What all ranks did in that time, and how well it was shared out; nothing if uncounted.

        tflops: of one device. mfu: its share of the device's peak, in operations a second.
        rank_balance: mean of the ranks' work over the most of any, which all others wait for.
        """
        samples, tokens, cost, budget = self._load
        if not tokens:
            return {}
        rate = self._mean_flops / seconds
        found = {"samples": samples, "tokens": tokens, "fill": cost / budget}
        found |= {"tokens_per_second": tokens / seconds, "tflops": rate / 1e12}
        if peak is not None:
            found["mfu"] = rate / peak
        if self.ranks.world_size > 1:
            found["rank_balance"] = self._mean_flops / self._most_flops
        return found


def _sum_and_weight(value: Tensor, weight: float) -> Tensor:
    """(2,) float64"""
    if value.numel() == 2:
        return value.double()
    mean = value.double().view(1)
    return torch.cat([mean * weight, torch.full_like(mean, weight)])
