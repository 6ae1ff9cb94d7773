"""Fill, rank balance and speed of the packer: `python -m tests.benchmarks.bench_packer`.

The declared mixture: 30 % images, clips of 9-129 frames, 256-720 pixels at six aspects, 4 x 16 x 16
pixels a token, packs of 32,768 tokens; longer samples (under 10 %) are left out. Costs are those of
a block of width 1,536 and an MLP of four times that: attention counts 2 / (14 x width) of a token's
own cost for each other one. With the FLOP budget a pack costs as much as one sample of 32,768
tokens, and has at most twice as many tokens.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from openreel.dit.config import DiTConfig
from openreel.dit.flow import Flow
from openreel.dit.model import DiT
from openreel.dit.train import DenoiserLoss, DenoiserTaskConfig, corrupt_batch
from openreel.packing.batch import Sample, collate
from openreel.packing.packer import Item, PackerConfig, pack_all
from openreel.packing.patches import positions
from tests.benchmarks import packings
from tests.benchmarks.timing import report

BUDGET, WIDTH, COUNT = 32_768, 1536, 20_000
TOKENS = PackerConfig(max_tokens=BUDGET)
ATTENTION = 2 / (14 * WIDTH)
FLOPS = PackerConfig(
    max_tokens=2 * BUDGET, attention_cost=ATTENTION, max_cost=BUDGET * (1 + ATTENTION * BUDGET)
)
Row = tuple[str, str, str]


def packed(lengths: list[int], config: PackerConfig) -> list[packings.Pack]:
    """Ours, without the stream's end: that is not its fill."""
    packs = [[item.num_tokens for item in pack] for pack in pack_all(_items(lengths), config)]
    return packs[: -config.look_ahead // 2]


def fill(packs: list[packings.Pack]) -> str:
    return f"{np.mean([sum(pack) for pack in packs]) / BUDGET:.2%}"


def costs(packs: list[packings.Pack]) -> list[float]:
    return [sum(FLOPS.cost(n) for n in pack) for pack in packs]


def fills(sources: list[packings.Source], lengths: list[int]) -> list[Row]:
    fewer = PackerConfig(max_tokens=BUDGET, look_ahead=64)
    bucketed = packings.buckets(sources, BUDGET)
    lost = f"{bucketed.cut:.1%} of all tokens cut off"
    return [
        ("fill, look-ahead 256", "", fill(packed(lengths, TOKENS))),
        ("fill, look-ahead 64", "", fill(packed(lengths, fewer))),
        ("fill, next-fit", "baseline", fill(packings.next_fit(lengths, BUDGET))),
        ("fill, padded to the longest of 8", "baseline", f"{packings.padded(lengths, 8):.2%}"),
        ("fill, buckets of one shape (Open-Sora's way)", lost, fill(bucketed.packs)),
    ]


def balances(lengths: list[int]) -> list[Row]:
    by_flops = packed(lengths, FLOPS)
    ours, by_tokens = costs(by_flops), costs(packed(lengths, TOKENS))
    assert FLOPS.max_cost is not None
    sizes = [sum(pack) / BUDGET for pack in by_flops]
    rows = [
        ("cost of a pack over the FLOP budget", "", f"{np.mean(ours) / FLOPS.max_cost:.3%}"),
        (
            "tokens of a pack with the FLOP budget: mean, most",
            "32,768",
            f"{np.mean(sizes):.2f}x, {max(sizes):.2f}x",
        ),
    ]
    for ranks in (8, 64):
        what = f"rank balance (mean / max cost of a micro-step), {ranks} ranks"
        found = {"FLOP budget": packings.in_order(ours, ranks)}
        found["token budget, packs at random"] = packings.random_ranks(by_tokens, ranks, 1)
        for each in (2, 4):
            lpt = packings.longest_first(by_tokens, ranks, each)
            found[f"token budget, LPT of {each} packs a rank and step"] = lpt
        rows += [(what, way, f"{packings.balance(steps):.3%}") for way, steps in found.items()]
    return rows


def speeds(lengths: list[int]) -> list[Row]:
    """Samples a second of one core, and the packing of a micro-step beside the step itself."""
    some = lengths[:4000]
    torch.set_num_threads(1)
    runs: dict[str, Callable[[], object]] = {
        "tokens": lambda: packed(some, TOKENS),
        "flops": lambda: packed(some, FLOPS),
        "step": training_step(some),
    }
    seconds = {name: cpu_seconds(run) for name, run in runs.items()}
    a_pack = seconds["tokens"] / len(list(pack_all(_items(some), TOKENS)))
    share = a_pack / seconds["step"]
    what = "packed samples a second of one core, look-ahead 256"
    return [
        (what, "token budget", f"{len(some) / seconds['tokens']:,.0f}"),
        (what, "FLOP budget", f"{len(some) / seconds['flops']:,.0f}"),
        (
            "packing for 1 rank, for 64",
            f"a step of the demo's denoiser, {SMALL:,} tokens",
            f"{share:.3%}, {64 * share:.2%} of the step",
        ),
    ]


SMALL = 1536


def cpu_seconds(run: Callable[[], object]) -> float:
    """Median seconds of processor time of three runs after one: the machine's load counts less."""
    spent = []
    for _ in range(4):
        start = time.process_time()
        run()
        spent.append(time.process_time() - start)
    return statistics.median(spent[1:])


def training_step(lengths: list[int]) -> Callable[[], None]:
    """Forward and backward of a denoiser of the demo's size on one pack of the mixture, scaled."""
    config = DiTConfig(latent_channels=4, text_dim=16, dim=128, depth=4, num_heads=4)
    torch.manual_seed(0)
    loss = DenoiserLoss(DiT(config), Flow())
    scaled = [max(1, n * SMALL // BUDGET) for n in lengths[:64]]
    pack = next(pack_all(_items(scaled), PackerConfig(max_tokens=SMALL, look_ahead=64)))
    noisy = corrupt_batch(collate([_sample(i.num_tokens) for i in pack]), DenoiserTaskConfig())

    def step() -> None:
        loss(noisy)[0].backward()
        loss.zero_grad()

    return step


def _items(lengths: list[int]) -> list[Item]:
    return [Item(sample_id=str(i), num_tokens=n) for i, n in enumerate(lengths)]


def _sample(num_tokens: int) -> Sample:
    """Noise of one frame and one row."""
    rng, grid = np.random.default_rng(num_tokens), (1, 1, num_tokens)
    return Sample(
        sample_id=str(num_tokens),
        tokens=rng.standard_normal((num_tokens, 16), np.float32),
        valid=np.ones((num_tokens, 16), bool),
        positions=positions(grid),
        grid=grid,
        text=rng.standard_normal((8, 16), np.float32),
        fps=8.0,
    )


def main() -> None:
    sources = packings.mixture(COUNT, BUDGET)
    lengths = [source.num_tokens for source in sources]
    report("packer", [*fills(sources, lengths), *balances(lengths), *speeds(lengths)])


if __name__ == "__main__":
    main()
