"""The optimizers of a recipe beside AdamW: Muon for the matrices, and LAMB for large batches.

Muon (Jordan et al. 2024; Liu et al., arXiv 2502.16982) makes each matrix's momentum orthogonal
before it steps, so that the few directions which dominate a gradient do not drown the others. Its
step is scaled to the root mean square of AdamW's (eq. 4 of the second paper): one learning rate and
one weight decay serve both.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


def matrices(model: nn.Module) -> list[Tensor]:
    """The trained weights that multiply activations: those of linear layers and of attention.

    Tables of embeddings and positions have two dimensions too, but their rows are looked up.
    """
    found: list[Tensor] = []
    for module in model.modules():
        if isinstance(module, nn.Linear):
            found.append(module.weight)
        elif isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None:
            found.append(module.in_proj_weight)
    return [weight for weight in dict.fromkeys(found) if weight.requires_grad]


def adamw_groups(parameters: Iterable[Tensor], weight_decay: float) -> list[dict[str, Any]]:
    """Groups for AdamW, none of them empty: matrices decay, vectors do not."""
    parameters = list(parameters)
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


class Muon(torch.optim.Optimizer):
    """torch's Muon and AdamW as one optimizer. Needs whole matrices, so no sharding."""

    def __init__(
        self,
        model: nn.Module,
        *,
        learning_rate: float,
        betas: tuple[float, float],
        weight_decay: float,
        momentum: float = 0.95,
    ) -> None:
        """betas are AdamW's. Raises ValueError for a model without a matrix."""
        own = matrices(model)
        hidden = set(own)
        rest = [p for p in model.parameters() if p.requires_grad and p not in hidden]
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.Muon(
                own,
                lr=learning_rate,
                weight_decay=weight_decay,
                momentum=momentum,
                adjust_lr_fn="match_rms_adamw",
            )
        ]
        if rest:
            groups = adamw_groups(rest, weight_decay)
            self.parts.append(torch.optim.AdamW(groups, lr=learning_rate, betas=betas))
        super().__init__([p for p in model.parameters() if p.requires_grad], {"lr": learning_rate})
        self._share_groups()

    def _share_groups(self) -> None:
        """Whoever sets a group's learning rate sets it for the part that steps."""
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One step of both. Raises ValueError for a closure."""
        if closure is not None:
            raise ValueError("closure: got one; accepted: None")
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()


class Lamb(torch.optim.Optimizer):
    """AdamW whose step is scaled, weight by weight, to the weight's own norm.

    You et al., arXiv 1904.00962, algorithm 2, with the bound on the norm of its section 3 left out,
    as in the authors' code for BERT. Weights that do not decay take AdamW's step as it is.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
    ) -> None:
        """Every group names its weight_decay."""
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One step. Raises ValueError for a closure."""
        if closure is not None:
            raise ValueError("closure: got one; accepted: None")
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, weight.grad, group)

    def _move(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state, (beta, beta2) = self.state[weight], group["betas"]
        if not state:
            state["step"] = 0
            state["mean"], state["square"] = torch.zeros_like(weight), torch.zeros_like(weight)
        state["step"] += 1
        mean = state["mean"].lerp_(gradient, 1 - beta)
        square = state["square"].lerp_(gradient.square(), 1 - beta2)
        mean = mean / (1 - beta ** state["step"])
        square = square / (1 - beta2 ** state["step"])
        direction = mean / (square.sqrt() + group["eps"]) + group["weight_decay"] * weight
        trust = 1.0
        if group["weight_decay"]:
            norm, length = weight.norm(), direction.norm()
            trust = float(norm / length) if norm > 0 and length > 0 else 1.0
        weight.add_(direction, alpha=-group["lr"] * trust)
