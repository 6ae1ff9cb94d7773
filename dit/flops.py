"""Counted work: the floating point operations of a packed batch, and what a GPU could do of them.

Matrix multiplications alone are counted, two operations a multiply-add, with the lengths that the
batch really has: attention costs the pairs of each segment of each layer's window, so that two
packs of as many tokens may differ by far. Norms, rotations and gathers are left out, as is what
activation checkpointing computes a second time.

    L packed tokens   M packed text tokens   S samples   R = 2 S modulation rows   D width
"""

from openreel.dit.config import DiTConfig
from openreel.dit.places import WIDTH
from openreel.packing.batch import PackedBatch
from openreel.packing.plan import Window, windows

TRAINING = 3
"""a backward pass multiplies twice as much as the forward pass: by the weights, by the inputs"""

_BF16 = {
    "NVIDIA A100": 312e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA L40S": 362e12,
    "NVIDIA B200": 2250e12,
}
"""by the beginning of CUDA's name for it: NVIDIA's data sheets, bfloat16 on tensor cores, without
sparsity, for which they print twice as much"""


def forward_flops(config: DiTConfig, batch: PackedBatch) -> int:
    """Operations of one forward pass over a pack."""
    dim, tokens, text = config.dim, sum(batch.lengths), sum(batch.text_lengths)
    samples = len(batch.lengths)
    mlp = int(dim * config.mlp_ratio)
    # Multiply-adds of the linear layers: rows x inputs x outputs.
    ends = 2 * tokens * config.token_dim * dim + text * (config.text_dim + dim) * dim
    rows = 2 * samples * (config.time_dim + dim + 6 * dim) * dim
    if config.shape_condition:
        rows += samples * (3 + dim) * dim
    if config.pooled_text:
        rows += samples * (config.text_dim + dim) * dim
    if config.fractional_places:
        ends += tokens * WIDTH * dim
    layer = tokens * (4 * dim + 2 * dim + 2 * mlp) * dim + text * 2 * dim * dim
    cross = sum(q * k for q, k in zip(batch.lengths, batch.text_lengths, strict=True))
    # Attention: every pair's score, and its share of the values.
    pairs = {window: _pairs(batch, window) for window in set(config.windows)}
    of_layers = [config.windows[i % len(config.windows)] for i in range(config.depth)]
    attention = sum(2 * (pairs[window] + cross) * dim for window in of_layers)
    return 2 * (ends + rows + config.depth * layer + attention)


def _pairs(batch: PackedBatch, window: Window) -> int:
    """Pairs of a query and a key that it sees."""
    plan = windows(batch.grids, window, batch.kept)
    keys = plan.lengths if plan.key_lengths is None else plan.key_lengths
    return sum(q * k for q, k in zip(plan.lengths, keys, strict=True))


def training_flops(config: DiTConfig, batch: PackedBatch) -> int:
    """Operations of a forward and a backward pass over a pack."""
    return TRAINING * forward_flops(config, batch)


def peak_flops(device_name: str) -> float | None:
    """Operations a second in bfloat16 of a GPU, by CUDA's name for it; None of one not known."""
    known = [(name, peak) for name, peak in _BF16.items() if device_name.startswith(name)]
    return max(known, key=lambda one: len(one[0]))[1] if known else None
