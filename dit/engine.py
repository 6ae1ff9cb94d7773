"""DeepSpeed's engine from a config: its dictionary is generated here, never kept by hand."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from openreel.dit.distributed import Ranks, quiet_deepspeed
from openreel.dit.optimizer import Lamb, Muon, adamw_groups
from openreel.pipeline.errors import InputError


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Optimizer, precision and sharding."""

    learning_rate: float
    optimizer: Literal["adamw", "muon", "lamb"] = "adamw"
    """muon learns small models in a third of the steps, lamb is for batches of thousands; both
    need whole weights, so zero_stage 0"""
    warmup_steps: int = 50
    schedule: Literal["constant", "cosine"] = "cosine"
    final_rate: float = 0.05
    """the cosine ends at this share of the learning rate"""
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    gradient_clip: float = 1.0
    accumulation: int = 1
    zero_stage: Literal[0, 1, 2] = 0
    precision: Literal["fp32", "bf16"] = "fp32"

    def __post_init__(self) -> None:
        if self.learning_rate <= 0:
            raise InputError("learning_rate", self.learning_rate, "above 0")
        if self.accumulation < 1:
            raise InputError("accumulation", self.accumulation, "at least 1")
        if self.precision == "bf16" and self.zero_stage == 0:
            # Without sharding DeepSpeed keeps no float32 weights that could be averaged.
            raise InputError("zero_stage", 0, "1 or 2 with bf16")
        if self.optimizer != "adamw" and self.zero_stage > 0:
            accepted = f"0 with {self.optimizer}: it needs whole weights"
            raise InputError("zero_stage", self.zero_stage, accepted)

    def deepspeed(self) -> dict[str, Any]:
        """DeepSpeed's own configuration."""
        return {
            "train_micro_batch_size_per_gpu": 1,
            "gradient_accumulation_steps": self.accumulation,
            "gradient_clipping": self.gradient_clip,
            "zero_optimization": {"stage": self.zero_stage},
            "zero_allow_untested_optimizer": True,
            "bf16": {"enabled": self.precision == "bf16"},
            "steps_per_print": 10**9,
        }

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of step `step` (from 0) of `steps`: warm-up, then the schedule."""
        warm = min(1.0, (step + 1) / max(self.warmup_steps, 1))
        if self.schedule == "constant":
            return self.learning_rate * warm
        cosine = 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0)))
        return self.learning_rate * warm * (self.final_rate + (1 - self.final_rate) * cosine)


def build_engine(
    model: nn.Module, config: EngineConfig, ranks: Ranks, *, universal: bool = False
) -> Any:
    """A DeepSpeed engine around a model. universal: it will load shards made whole (resume.py).

    DeepSpeed can neither broadcast nor clip a parameter without dimensions: scalars become vectors
    of one value, here and in the engine's checkpoints.
    """
    model.to(ranks.device)
    for scalar in (p for p in model.parameters() if p.ndim == 0):
        scalar.data = scalar.data.view(1)
    engine, *_ = quiet_deepspeed().initialize(
        model=model,
        optimizer=_optimizer(model, config),
        config={**config.deepspeed(), "checkpoint": {"load_universal": universal}},
        dist_init_required=False,
    )
    return engine


def _optimizer(model: nn.Module, config: EngineConfig) -> torch.optim.Optimizer:
    rate, betas, decay = config.learning_rate, config.betas, config.weight_decay
    if config.optimizer == "muon":
        return Muon(model, learning_rate=rate, betas=betas, weight_decay=decay)
    groups = adamw_groups((p for p in model.parameters() if p.requires_grad), decay)
    if config.optimizer == "lamb":
        return Lamb(groups, lr=rate, betas=betas)
    adamw: torch.optim.Optimizer = torch.optim.AdamW(groups, lr=rate, betas=betas)
    return adamw


def set_learning_rate(engine: Any, config: EngineConfig, step: int, steps: int) -> float:
    """The rate is a function of the step alone, so that there is no scheduler state to lose."""
    rate = config.rate(step, steps)
    for group in engine.optimizer.param_groups:
        group["lr"] = rate
    return rate


def gradient_norm(engine: Any) -> float | None:
    """Of the gradients that wait for the step; None where they are sharded already."""
    if engine.zero_optimization_stage() > 0:
        return None
    gradients = [p.grad for p in engine.module.parameters() if p.grad is not None]
    return float(torch.nn.utils.get_total_norm(gradients))


def discard_gradients(engine: Any) -> None:
    """Forget what has been accumulated since the last optimizer step."""
    engine.zero_grad()
    engine.optimizer.zero_grad()
    accumulation = engine.gradient_accumulation_steps()
    engine.micro_steps = engine.micro_steps // accumulation * accumulation


def full_weights(engine: Any) -> dict[str, Tensor]:
    """The module's whole weights in the optimizer's precision, whatever the sharding."""
    if engine.zero_optimization_stage() == 0 and not engine.bfloat16_enabled():
        weights: dict[str, Tensor] = engine.module.state_dict()
        return weights
    from deepspeed.utils import safe_get_full_fp32_param

    weights = dict(engine.module.state_dict())
    # Frozen parameters are neither sharded nor kept twice by these stages.
    trained = ((n, p) for n, p in engine.module.named_parameters() if p.requires_grad)
    for name, parameter in trained:
        full = safe_get_full_fp32_param(parameter)
        assert full is not None, name
        weights[name] = full
    return weights
