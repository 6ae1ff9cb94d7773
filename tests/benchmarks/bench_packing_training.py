"""Useful tokens a second in training: `python -m tests.benchmarks.bench_packing_training`.

One model of the demo's size and one mixture (bench_packer's, at a quarter of its sides) behind
three loaders. Two ranks of one core each: a step takes as long as the slower rank, in processor
time, so that the machine's load counts less; the two ranks' batches are computed one after the
other. Useful are tokens of samples, not those that pad. Text is packed for ours and padded to its
longest for the others, as those do who batch.
"""

import time
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import torch

from openreel.dit.config import DiTConfig
from openreel.dit.flow import Flow
from openreel.dit.model import DiT
from openreel.dit.train import DenoiserLoss, DenoiserTaskConfig, corrupt_batch
from openreel.packing.batch import PackedBatch, Sample, collate
from openreel.packing.packer import Item, PackerConfig, pack_all
from openreel.packing.patches import positions
from tests.benchmarks import packings
from tests.benchmarks.timing import report

BUDGET, DIM, RANKS, STEPS = 2048, 128, 2, 10
LONGEST_TEXT = 32
ATTENTION = 2 / (14 * DIM)
FLOPS = PackerConfig(
    max_tokens=2 * BUDGET, attention_cost=ATTENTION, max_cost=BUDGET * (1 + ATTENTION * BUDGET)
)
Batch = tuple[PackedBatch, int]
"""and how many of its tokens are useful"""


def sample(name: str, num_tokens: int, num_text: int) -> Sample:
    """Noise, in a row: the work depends on the length alone."""
    rng, grid = np.random.default_rng(num_tokens), (1, 1, num_tokens)
    return Sample(
        sample_id=name,
        tokens=rng.standard_normal((num_tokens, 16), np.float32),
        valid=np.ones((num_tokens, 16), bool),
        positions=positions(grid),
        grid=grid,
        text=rng.standard_normal((num_text, 64), np.float32),
        fps=8.0,
    )


def packed(sources: Sequence[packings.Source]) -> Iterator[Batch]:
    """Ours: packs of one FLOP budget."""
    items = [Item(sample_id=str(i), num_tokens=s.num_tokens) for i, s in enumerate(sources)]
    texts = np.random.default_rng(0).integers(4, LONGEST_TEXT + 1, len(items))
    for pack in pack_all(items, FLOPS):
        samples = [sample(i.sample_id, i.num_tokens, int(texts[int(i.sample_id)])) for i in pack]
        yield collate(samples), sum(i.num_tokens for i in pack)


def padded(sources: Sequence[packings.Source], size: int = 8) -> Iterator[Batch]:
    """The next samples, all as long as the longest of them."""
    for i in range(0, len(sources) - size, size):
        lengths = [source.num_tokens for source in sources[i : i + size]]
        batch = [sample(str(j), max(lengths), LONGEST_TEXT) for j in range(size)]
        yield collate(batch), sum(lengths)


def bucketed(sources: Sequence[packings.Source]) -> Iterator[Batch]:
    """Batches of one shape, in random order: those of long clips fill first."""
    packs = packings.buckets(sources, BUDGET).packs
    for k in np.random.default_rng(0).permutation(len(packs)):
        pack = packs[k]
        yield collate([sample(str(i), n, LONGEST_TEXT) for i, n in enumerate(pack)]), sum(pack)


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = DiTConfig(latent_channels=4, text_dim=64, dim=DIM, depth=4, num_heads=4)
    loss = DenoiserLoss(DiT(config), Flow())
    sources = [
        packings.Source(s.frames, max(1, s.rows // 4), max(1, s.columns // 4))
        for s in packings.mixture(6000, 16 * BUDGET)
    ]
    ways = {"packed": packed(sources), "padded": padded(sources), "buckets": bucketed(sources)}
    useful, seconds = dict.fromkeys(ways, 0.0), dict.fromkeys(ways, 0.0)
    for step in range(STEPS + 1):
        for name, way in ways.items():
            ranks = []
            for batch, tokens in islice(way, RANKS):
                noisy = corrupt_batch(batch, DenoiserTaskConfig())
                start = time.process_time()
                loss(noisy)[0].backward()
                loss.zero_grad()
                ranks.append(time.process_time() - start)
                useful[name] += tokens if step else 0
            seconds[name] += max(ranks) if step else 0
    rates = {name: useful[name] / seconds[name] for name in ways}
    what = "useful tokens a second in training, two ranks of a core"
    report(
        "packing_training",
        [
            (what, "", f"{rates['packed']:,.0f}"),
            (what, "padded to the longest of 8", f"{rates['packed'] / rates['padded']:.2f}x"),
            (what, "buckets of one shape", f"{rates['packed'] / rates['buckets']:.2f}x"),
        ],
    )


if __name__ == "__main__":
    main()
