"""Fill and speed of the packer on a declared mixture: `python -m tests.benchmarks.bench_packer`.

30 % images, clips of 9-129 frames, 256-720 pixels at six aspects, patches of 4x16x16 pixels, packs
of 32,768 tokens.
"""

import numpy as np

from openreel.packing.packer import Item, PackerConfig, pack_all
from tests.benchmarks.timing import interleaved, report

BUDGET = 32_768


def mixture(count: int, seed: int = 0) -> list[Item]:
    """Samples of the declared mixture; those above the budget (under 10 %) are left out."""
    rng = np.random.default_rng(seed)
    frames = np.where(rng.random(count) < 0.3, 1, rng.integers(9, 130, count))
    side = rng.choice([256, 384, 480, 720], count)
    aspect = rng.choice([9 / 16, 3 / 4, 1.0, 4 / 3, 16 / 9, 21 / 9], count)
    rows = np.ceil(side / np.sqrt(aspect) / 16)
    columns = np.ceil(side * np.sqrt(aspect) / 16)
    tokens = (np.ceil((frames - 1) / 4) + 1) * rows * columns
    return [Item(sample_id=str(i), num_tokens=int(n)) for i, n in enumerate(tokens) if n <= BUDGET]


def fill(packs: list[int]) -> float:
    return float(np.mean(packs)) / BUDGET


def best_fit(items: list[Item], look_ahead: int) -> list[int]:
    packs = pack_all(items, PackerConfig(max_tokens=BUDGET, look_ahead=look_ahead))
    totals = [sum(i.num_tokens for i in pack) for pack in packs]
    return totals[: -look_ahead // 2]  # the stream's end is not its fill


def next_fit(items: list[Item]) -> list[int]:
    totals = [0]
    for item in items:
        if totals[-1] + item.num_tokens > BUDGET:
            totals.append(0)
        totals[-1] += item.num_tokens
    return totals[:-1]


def pad_to_longest(items: list[Item], batch: int = 8) -> float:
    lengths = np.array([i.num_tokens for i in items[: len(items) // batch * batch]])
    groups = lengths.reshape(-1, batch)
    return float(groups.sum() / (groups.max(1) * batch).sum())


def main() -> None:
    items = mixture(20_000)
    some = items[:4000]
    seconds = interleaved(
        {"64": lambda: best_fit(some, 64), "256": lambda: best_fit(some, 256)}, repeats=3
    )
    report(
        "packer",
        [
            ("fill, look-ahead 256", "", f"{fill(best_fit(items, 256)):.2%}"),
            ("fill, look-ahead 64", "", f"{fill(best_fit(items, 64)):.2%}"),
            ("fill, next-fit", "baseline", f"{fill(next_fit(items)):.2%}"),
            ("fill, padded to the longest of 8", "baseline", f"{pad_to_longest(items):.2%}"),
            ("packed samples a second, look-ahead 256", "", f"{len(some) / seconds['256']:,.0f}"),
            ("packed samples a second, look-ahead 64", "", f"{len(some) / seconds['64']:,.0f}"),
        ],
    )


if __name__ == "__main__":
    main()
