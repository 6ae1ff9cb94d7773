"""Small random-weight models of diffusers' classes, as somebody would have saved them.

Their factors are those of the published ones; only the widths and depths are small.
"""

from pathlib import Path
from typing import Any

import torch

SMALL: dict[str, dict[str, Any]] = {
    "AutoencoderKLWan": {
        "base_dim": 8,
        "z_dim": 4,
        "num_res_blocks": 1,
        "latents_mean": [0.1, -0.2, 0.3, 0.0],
        "latents_std": [0.5, 1.0, 2.0, 1.5],
    },
    "AutoencoderKLCogVideoX": {
        "block_out_channels": (8, 8, 16, 16),
        "latent_channels": 4,
        "layers_per_block": 1,
        "norm_num_groups": 4,
    },
    "AutoencoderKLHunyuanVideo": {
        "block_out_channels": (8, 8, 16, 16),
        "latent_channels": 4,
        "layers_per_block": 1,
        "norm_num_groups": 4,
    },
    "AutoencoderKLLTXVideo": {
        "latent_channels": 8,
        "block_out_channels": (8, 16, 16, 16),
        "decoder_block_out_channels": (8, 16, 16, 16),
        "layers_per_block": (1, 1, 1, 1, 1),
        "decoder_layers_per_block": (1, 1, 1, 1, 1),
    },
}


def made(name: str, **changes: Any) -> Any:
    """A model with random weights, the same each time."""
    import diffusers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return getattr(diffusers, name)(**{**SMALL[name], **changes}).eval().requires_grad_(False)


def saved(name: str, folder: Path, **changes: Any) -> Path:
    """Its folder."""
    made(name, **changes).save_pretrained(folder)
    return folder
