"""An exponential moving average of the weights, in float32, on the weights' device."""

import torch
from torch import Tensor, nn


class EMA:
    """Shadow weights: shadow <- d shadow + (1 - d) weights; d is warmed up."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.shadow = {k: v.detach().float().clone() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self, weights: dict[str, Tensor], step: int) -> None:
        """After step `step` (from 1). The warm-up (1 + n) / (10 + n) forgets the random start."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in weights.items():
            self.shadow[name].lerp_(value.detach().float(), 1 - decay)
