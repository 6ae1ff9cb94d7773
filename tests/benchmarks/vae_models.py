"""The autoencoders that benchmarks compare: small, with random weights, of about equal cost.

FLOPs are counted by torch on no data (meta tensors), multiplications and additions apart.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from openreel.vae.codec import Frames
from openreel.vae.config import AutoencoderConfig
from openreel.vae.diffusers_kinds import KINDS
from openreel.vae.model import Autoencoder
from openreel.vae.pretrained import Pretrained

OURS = AutoencoderConfig(
    patch=4, widths=(96, 192, 192), blocks=(1, 2, 2), folds=((2, 2), (2, 1)), step=2
)
"""4x8x8 with 16 channels, as the peers; their number of parameters"""
WIDE = dataclasses.replace(OURS, widths=(208, 400, 400))
"""their FLOPs, both ways together"""
PEERS: dict[str, dict[str, Any]] = {
    "AutoencoderKLWan": {"base_dim": 20, "num_res_blocks": 1},
    "AutoencoderKLCogVideoX": {
        "block_out_channels": (24, 48, 48, 96),
        "layers_per_block": 1,
        "norm_num_groups": 8,
    },
    "AutoencoderKLHunyuanVideo": {
        "block_out_channels": (24, 48, 48, 96),
        "layers_per_block": 1,
        "norm_num_groups": 8,
    },
    "AutoencoderKLLTXVideo": {
        "latent_channels": 16,
        "block_out_channels": (32, 64, 64, 64),
        "decoder_block_out_channels": (32, 64, 64, 64),
        "layers_per_block": (1, 1, 1, 1, 1),
        "decoder_layers_per_block": (1, 1, 1, 1, 1),
    },
}


def ours(config: AutoencoderConfig = OURS) -> Autoencoder:
    """Random weights throughout: untrained blocks are identities, which would hide faults."""
    made = Autoencoder(config).requires_grad_(False).eval()
    random = torch.Generator().manual_seed(0)
    for parameter in made.parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 16
        parameter += torch.randn(parameter.shape, generator=random) / (2 * fan_in**0.5)
    return made


def raw(name: str) -> Any:
    """One of diffusers' classes as it is."""
    import diffusers

    torch.manual_seed(0)
    return getattr(diffusers, name)(**PEERS[name]).eval().requires_grad_(False)


def peer(name: str) -> Pretrained:
    """The same behind our contract."""
    return Pretrained(raw(name), KINDS[name])


def noise(*shape: int) -> Frames:
    """Frames (T, H, W, 3)."""
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)


def pixels(frames: Frames) -> torch.Tensor:
    """(1, 3, T, H, W) in [-1, 1]."""
    return torch.from_numpy(frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1


def flops(run: Callable[[], Any]) -> int:
    """Of one call."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    return int(counter.get_total_flops())


def num_parameters(model: Any) -> int:
    return sum(p.numel() for p in model.parameters())
