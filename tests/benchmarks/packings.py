"""What the packer is compared with. None of it is used outside the benchmark.

A packing is a list of packs, a pack a list of its samples' tokens.
"""

import heapq
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Pack = list[int]
Cost = Callable[[int], float]


@dataclass(frozen=True)
class Source:
    """A sample of the mixture: 4 x 16 x 16 pixels a token, the first frame alone."""

    frames: int
    rows: int
    columns: int

    @property
    def num_tokens(self) -> int:
        return tokens_of(self.frames, self.rows, self.columns)


def tokens_of(frames: int, rows: int, columns: int) -> int:
    return ((frames - 1 + 3) // 4 + 1) * rows * columns


def mixture(count: int, budget: int, seed: int = 0) -> list[Source]:
    """30 % images, else 9-129 frames; areas of 256-720 squared at six aspects; at most a budget."""
    rng = np.random.default_rng(seed)
    frames = np.where(rng.random(count) < 0.3, 1, rng.integers(9, 130, count))
    side = rng.choice([256, 384, 480, 720], count)
    aspect = rng.choice([9 / 16, 3 / 4, 1.0, 4 / 3, 16 / 9, 21 / 9], count)
    rows = np.ceil(side / np.sqrt(aspect) / 16).astype(int)
    columns = np.ceil(side * np.sqrt(aspect) / 16).astype(int)
    values = zip(frames.tolist(), rows.tolist(), columns.tolist(), strict=True)
    found = [Source(*value) for value in values]
    return [source for source in found if source.num_tokens <= budget]


def next_fit(lengths: Sequence[int], budget: int) -> list[Pack]:
    """A sample that does not fit opens a new pack: NaViT as it is mostly written."""
    packs: list[Pack] = [[]]
    for n in lengths:
        if sum(packs[-1]) + n > budget:
            packs.append([])
        packs[-1].append(n)
    return packs[:-1]


def padded(lengths: Sequence[int], batch: int) -> float:
    """Share of a batch that is not padding, where every sample is padded to the longest."""
    groups = np.array(lengths[: len(lengths) // batch * batch]).reshape(-1, batch)
    return float(groups.sum() / (groups.max(1) * batch).sum())


FRAMES = (1, 17, 33, 49, 65, 81, 97, 113, 129)


@dataclass(frozen=True)
class Buckets:
    """What Open-Sora's way comes to: batches of one shape, clips cut to a bucket's frames."""

    packs: list[Pack]
    cut: float
    """share of the sources' tokens that no model sees, cut off at the end of clips"""
    left: float
    """share of the samples left over in buckets that never filled"""


def buckets(sources: Sequence[Source], budget: int) -> Buckets:
    """A bucket a size and number of frames; each batch holds as many as the budget has room for.

    Clips below 17 frames are used as images, which is what the buckets leave of them.
    """
    filling: dict[tuple[int, int, int], Pack] = defaultdict(list)
    packs: list[Pack] = []
    for source in sources:
        frames = max(f for f in FRAMES if f <= source.frames)
        key = (frames, source.rows, source.columns)
        bucket, n = filling[key], tokens_of(*key)
        bucket.append(n)
        if (len(bucket) + 1) * n > budget:
            packs.append(bucket)
            filling[key] = []
    placed = sum(map(sum, packs)) + sum(map(sum, filling.values()))
    cut = 1 - placed / sum(source.num_tokens for source in sources)
    return Buckets(packs, cut, sum(map(len, filling.values())) / len(sources))


def random_ranks(
    costs: Sequence[float], ranks: int, each: int, seed: int = 0
) -> list[npt.NDArray[np.float64]]:
    """Packs in random order, `each` to a rank and step: the ranks' costs of each step."""
    order = np.random.default_rng(seed).permutation(np.array(costs))
    steps = order[: len(order) // (ranks * each) * ranks * each].reshape(-1, ranks, each)
    return list(steps.sum(2))


def longest_first(
    costs: Sequence[float], ranks: int, each: int, seed: int = 0
) -> list[npt.NDArray[np.float64]]:
    """The same packs, each step's spread by LPT: the dearest left goes to the cheapest rank that
    has less than `each`."""
    order = np.random.default_rng(seed).permutation(np.array(costs))
    steps = order[: len(order) // (ranks * each) * ranks * each].reshape(-1, ranks * each)
    spread = []
    for step in steps:
        heap = [(0.0, 0, rank) for rank in range(ranks)]
        done = np.zeros(ranks)
        for cost in np.sort(step)[::-1].tolist():
            total, held, rank = heapq.heappop(heap)
            done[rank] = total + cost
            if held + 1 < each:
                heapq.heappush(heap, (total + cost, held + 1, rank))
        spread.append(done)
    return spread


def in_order(costs: Sequence[float], ranks: int) -> list[npt.NDArray[np.float64]]:
    """Pack k to rank k mod ranks, as the loader has it."""
    return list(np.array(costs[: len(costs) // ranks * ranks]).reshape(-1, ranks))


def balance(steps: Sequence[npt.NDArray[np.float64]]) -> float:
    """Mean over maximum of the ranks' costs, over all steps: the share of time not waited."""
    return sum(float(s.mean()) for s in steps) / sum(float(s.max()) for s in steps)
