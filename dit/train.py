"""Training the denoiser: one noise level per sample, a loss that no packing can change.

A sample's loss is the mean over its target values; a step's is the weighted sum over all samples of
all ranks divided by their total weight (the trainer divides). Levels, noise and tasks are keyed by
(seed, sample, epoch), so that a sample's part of the loss is the same in any pack on any rank.

    L packed tokens   C values of a token   S samples
"""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from einops import rearrange
from torch import Tensor, nn

from openreel.dit.breakdown import broken_down
from openreel.dit.conditioning import TaskMix
from openreel.dit.flops import training_flops
from openreel.dit.flow import Flow, ShiftConfig, shifted, zero_snr_levels
from openreel.dit.model import DiT
from openreel.dit.tally import Load
from openreel.dit.weights import Method, save_dit
from openreel.packing.batch import PackedBatch
from openreel.packing.loader import PackLoader
from openreel.pipeline.keyed import generator


@dataclass(frozen=True, kw_only=True)
class DenoiserTaskConfig:
    """How examples are corrupted."""

    seed: int = 0
    levels: Literal["logit-normal", "zero-snr"] = "logit-normal"
    """how a level is drawn, before the shift: zero-snr takes one of a schedule's 1000 steps"""
    level_mean: float = 0.0
    level_std: float = 1.0
    """the logit of the unshifted level is normal with these (arXiv 2403.03206, eq. 19)"""
    flow: Flow = field(default_factory=Flow)
    shift: ShiftConfig = field(default_factory=ShiftConfig)
    tasks: TaskMix = field(default_factory=TaskMix)


@dataclass(frozen=True, kw_only=True, eq=False)
class NoisyBatch:
    """A pack with its noise, drawn on the host."""

    batch: PackedBatch
    noise: Any
    """(L, C) float32"""
    levels: Any
    """(S,) float32"""

    @property
    def weight(self) -> float:
        return self.batch.weight

    def described(self) -> list[dict[str, Any]]:
        """Its samples, their levels, and whether their latents and texts are numbers all through:
        what makes the very batch again, and who may have spoilt it."""
        packed = self.batch
        return [
            {
                "sample_id": segment.sample_id,
                "epoch": packed.epochs[i],
                "level": float(self.levels[i]),
                "grid": segment.grid,
                "finite": bool(
                    np.isfinite(packed.tokens[segment.tokens]).all()
                    and np.isfinite(packed.text[segment.text]).all()
                ),
            }
            for i, segment in enumerate(packed.segments())
        ]


def corrupt_batch(batch: PackedBatch, config: DenoiserTaskConfig) -> NoisyBatch:
    """Draw known masks, levels and noise for a pack; each sample's depend on its own key alone.

    Masks and noise are drawn for whole grids, so that a token has its own whichever are dropped.
    """
    known = np.array(batch.known)
    noise = np.empty_like(batch.tokens)
    levels = np.empty(len(batch.grids), np.float32)
    for i, segment in enumerate(batch.segments()):
        key = (segment.sample_id, batch.epochs[i])
        if not known[segment.tokens].any():
            given = segment.cut(config.tasks.draw(segment.grid, config.seed, *key))
            # Where nothing that is generated was kept, there would be nothing to learn.
            known[segment.tokens] = given & ~given.all()
        random = generator(config.seed, "noise", *key)
        levels[i] = shifted(_level(config, random), config.shift.shift(segment.grid))
        whole = (math.prod(segment.grid), noise.shape[1])
        noise[segment.tokens] = segment.cut(random.standard_normal(whole, np.float32))
    return NoisyBatch(batch=replace(batch, known=known), noise=noise, levels=levels)


def _level(config: DenoiserTaskConfig, random: np.random.Generator) -> npt.NDArray[np.float64]:
    """An unshifted noise level."""
    if config.levels == "zero-snr":
        return np.array(zero_snr_levels()[random.integers(1000)])
    logit = config.level_mean + config.level_std * random.standard_normal()
    return np.array(1 / (1 + np.exp(-logit)))


class DenoiserLoss(nn.Module):
    """The model under its objective."""

    def __init__(self, dit: DiT, flow: Flow) -> None:
        super().__init__()
        self.dit, self.flow = dit, flow

    def forward(self, noisy: NoisyBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum of the samples' losses, and figures to report."""
        device = self.dit.head.weight.device
        batch = noisy.batch.map(lambda a: torch.as_tensor(a).to(device))
        clean, noise = batch.tokens, torch.as_tensor(noisy.noise).to(device)
        levels_S = torch.as_tensor(noisy.levels).to(device)
        layout = self.dit.layout(batch)
        sample_L = layout.row_of_token_L // 2
        known_L1 = rearrange(batch.known, "l -> l 1")
        levels_L1 = rearrange(levels_S[sample_L], "l -> l 1").masked_fill(known_L1, 0.0)
        corrupted = self.flow.corrupt(clean, noise, levels_L1)
        inputs = self.flow.inputs(corrupted, levels_L1)
        output = self.dit(inputs, levels_S, batch.text, layout)
        compared = self.flow.compared(corrupted, output, levels_L1)
        error = (compared - self.flow.target(clean, noise, levels_L1)) ** 2
        counted = batch.valid & ~known_L1
        loss_S = _mean_by_sample(error, counted, sample_L, len(batch.grids))
        loss = (loss_S * batch.weights).sum()
        total_level = (levels_S * batch.weights).sum()
        figures = {"mean_level": torch.stack([total_level, batch.weights.sum()])}
        return loss, figures | broken_down(loss_S, batch.weights, levels_S, batch.grids)


def _mean_by_sample(error_LC: Tensor, counted_LC: Tensor, sample_L: Tensor, count: int) -> Tensor:
    """(S,) mean error over each sample's counted values."""
    sums = error_LC.new_zeros(count)
    totals = sums.index_add(0, sample_L, (error_LC * counted_LC).sum(-1))
    numbers = sums.index_add(0, sample_L, counted_LC.sum(-1).to(sums.dtype))
    return totals / numbers.clamp(min=1)


class DenoiserTask:
    """What the trainer drives: batches, loss, state, export."""

    def __init__(
        self,
        dit: DiT,
        loader: PackLoader,
        config: DenoiserTaskConfig,
        card: dict[str, Any],
    ) -> None:
        """card is written beside the published weights: codec, text encoder, recipe."""
        self.model = DenoiserLoss(dit, config.flow)
        self.loader, self.config, self.card = loader, config, card

    def next_batch(self) -> NoisyBatch:
        return corrupt_batch(self.loader.next_batch(), self.config)

    def state(self) -> dict[str, Any]:
        return self.loader.state()

    def restore(self, state: dict[str, Any]) -> None:
        self.loader.restore(state)

    def load(self, batch: NoisyBatch) -> Load:
        """How much of it there is."""
        lengths, packer = batch.batch.lengths, self.loader.packer.config
        cost = sum(map(packer.cost, lengths))
        return Load(
            samples=len(lengths),
            tokens=sum(lengths),
            cost=cost,
            budget=max(packer.budget, cost),  # a sample that no pack holds fills its own
            flops=training_flops(self.model.dit.config, batch.batch),
        )

    def export(self, folder: Path, weights: dict[str, Tensor]) -> None:
        """Write the published model: safetensors, config and card."""
        own = {k.removeprefix("dit."): v for k, v in weights.items() if k.startswith("dit.")}
        method = Method(flow=self.config.flow, shift=self.config.shift)
        save_dit(folder, self.model.dit.config, own, method, self.card)
