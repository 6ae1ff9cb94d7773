"""A toy denoising task, run as `python tests/dit/toy.py FOLDER STEPS [ZERO] [PAUSE]`.

Alone or by torchrun. Packs hold 1 or 3 random samples of uneven weights, so that a mean of rank
means would be wrong.
"""

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from openreel.dit.config import DiTConfig
from openreel.dit.distributed import initialise
from openreel.dit.engine import EngineConfig
from openreel.dit.flow import Flow
from openreel.dit.model import DiT
from openreel.dit.train import DenoiserLoss, DenoiserTaskConfig, NoisyBatch, corrupt_batch
from openreel.dit.trainer import TrainConfig, train
from openreel.packing.batch import Sample, collate
from openreel.packing.patches import patch_grid, patchify, positions, valid_values
from openreel.pipeline.keyed import generator

CONFIG = DiTConfig(latent_channels=4, text_dim=8, dim=48, depth=2, num_heads=4, time_dim=32)


def sample(index: int) -> Sample:
    """Sample number `index` of an endless data set."""
    random = generator(0, "toy", index)
    size = (int(random.integers(1, 4)), int(random.integers(2, 7)), int(random.integers(2, 7)))
    return Sample(
        sample_id=str(index),
        tokens=patchify(random.standard_normal((4, *size), np.float32), CONFIG.patch),
        valid=valid_values(size, CONFIG.patch, 4),
        positions=positions(patch_grid(size, CONFIG.patch)),
        grid=patch_grid(size, CONFIG.patch),
        text=random.standard_normal((int(random.integers(1, 6)), 8), np.float32),
        fps=8.0,
        weight=float(1 + index % 3),
    )


def toy_model() -> DenoiserLoss:
    torch.manual_seed(0)
    dit = DiT(CONFIG)
    for parameter in dit.parameters():
        torch.nn.init.normal_(parameter, std=0.08)
    return DenoiserLoss(dit, Flow())


class ToyTask:
    """Pack k holds samples 3 k to 3 k + 2 where k is even, else one sample."""

    def __init__(self, rank: int = 0, world_size: int = 1, poison: int | None = None) -> None:
        self.model, self.rank, self.world_size = toy_model(), rank, world_size
        self.pack, self.poison = 0, poison

    def next_batch(self) -> NoisyBatch:
        k = self.pack + self.rank
        self.pack += self.world_size
        indices = [3 * k, 3 * k + 1, 3 * k + 2] if k % 2 == 0 else [3 * k]
        noisy = corrupt_batch(collate([sample(i) for i in indices]), DenoiserTaskConfig(seed=1))
        if k == self.poison:
            noisy.batch.tokens[0, 0] = np.nan
        return noisy

    def state(self) -> dict[str, Any]:
        return {"pack": self.pack}

    def restore(self, state: dict[str, Any]) -> None:
        self.pack = state["pack"]

    def export(self, folder: Path, weights: dict[str, Tensor]) -> None:
        save_file({k: v.contiguous() for k, v in weights.items()}, folder / "model.safetensors")


def run(folder: Path, steps: int, zero_stage: Any = 0, pause: float = 0.0) -> None:
    ranks = initialise()
    engine = EngineConfig(
        learning_rate=3e-3,
        warmup_steps=2,
        schedule="constant",
        zero_stage=zero_stage,
        accumulation=2 // ranks.world_size,  # two packs a step on one rank as on two
    )
    config = TrainConfig(steps=steps, engine=engine, ema_decay=0.9, save_every=3)
    train(
        ToyTask(ranks.rank, ranks.world_size),
        config,
        folder,
        on_step=lambda step, figures: time.sleep(pause),
    )


if __name__ == "__main__":
    stage, seconds = ([*sys.argv[3:], "0", "0"])[:2]
    run(Path(sys.argv[1]), int(sys.argv[2]), int(stage), float(seconds))
