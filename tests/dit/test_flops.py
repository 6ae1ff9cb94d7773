"""Counted operations against torch's own counter, on the real model with real packs."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from openreel.dit.config import DiTConfig
from openreel.dit.flops import forward_flops, peak_flops, training_flops
from openreel.dit.model import DiT
from openreel.dit.places import WIDTH
from openreel.packing.batch import PackedBatch, collate
from openreel.packing.plan import CAUSAL, FULL, SPATIAL, TEMPORAL

sys.path.insert(0, str(Path(__file__).parent))
from toy import CONFIG, sample

EVERYTHING = replace(
    CONFIG,
    depth=3,
    mlp_ratio=3.3,
    windows=(FULL, SPATIAL, (2, 2, None)),
    pooled_text=True,
    shape_condition=True,
    fractional_places=True,
)
CONFIGS = {
    "plain": CONFIG,
    "everything": EVERYTHING,
    "temporal": replace(CONFIG, windows=(TEMPORAL,)),
}


def counted(config: DiTConfig, batch: PackedBatch) -> tuple[int, int]:
    """Operations of the forward and of the backward pass, as torch sees them happen."""
    dit = DiT(config)
    torch.nn.init.normal_(dit.head.weight)
    held = batch.map(torch.as_tensor)
    levels = torch.linspace(0.1, 0.9, len(batch.lengths))
    # As matrix multiplications: a fused kernel's backward pass computes the scores a second time.
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as forward:
            out = dit(held.tokens, levels, held.text, dit.layout(held))
        with FlopCounterMode(display=False) as backward:
            out.sum().backward()
    return forward.get_total_flops(), backward.get_total_flops()


@pytest.mark.parametrize("name", list(CONFIGS))
def test_every_multiplication_is_counted(name: str) -> None:
    config, batch = CONFIGS[name], collate([sample(i) for i in range(6)])
    assert len(set(batch.grids)) > 3
    forward, backward = counted(config, batch)
    assert forward_flops(config, batch) == forward
    # What a batch brings along needs no gradient: one product less where it enters the network.
    tokens, text, samples = sum(batch.lengths), sum(batch.text_lengths), len(batch.lengths)
    entering = tokens * config.token_dim + text * config.text_dim + 2 * samples * config.time_dim
    entering += samples * (3 * config.shape_condition + config.text_dim * config.pooled_text)
    entering += tokens * WIDTH * config.fractional_places
    spared = 2 * entering * config.dim
    assert training_flops(config, batch) == forward + backward + spared
    assert spared < 0.05 * backward


def test_a_pack_costs_what_its_samples_cost() -> None:
    samples = [sample(i) for i in range(9)]
    alone = [forward_flops(EVERYTHING, collate([s])) for s in samples]
    assert forward_flops(EVERYTHING, collate(samples)) == sum(alone)
    assert len(set(alone)) > 5


def test_causal_attention_costs_the_pairs_that_it_sees() -> None:
    batch = collate([sample(i) for i in range(6)])
    causal = replace(CONFIG, windows=(CAUSAL,))
    owner = np.repeat(np.arange(6), batch.lengths)
    frame = batch.positions[:, 0]
    same = owner[:, None] == owner[None]
    seen = same & (frame[:, None] >= frame[None])
    assert seen.sum() < same.sum()
    spared = 2 * 2 * CONFIG.dim * CONFIG.depth * int(same.sum() - seen.sum())
    assert forward_flops(CONFIG, batch) - forward_flops(causal, batch) == spared


def test_the_peak_of_an_unknown_device_is_unknown() -> None:
    assert peak_flops("NVIDIA H200") == peak_flops("NVIDIA H100 80GB HBM3") == 989e12
    assert peak_flops("NVIDIA A100-SXM4-80GB") == 312e12
    assert peak_flops("NVIDIA H100 PCIe") == 756e12
    assert peak_flops("NVIDIA H100 NVL") is None
    assert peak_flops("cpu") is None
