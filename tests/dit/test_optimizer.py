"""Optimizers: each weight is stepped as the paper or the library says, and a resume is exact."""

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from openreel.dit.engine import EngineConfig
from openreel.dit.optimizer import Lamb, Muon, matrices
from openreel.dit.trainer import TrainConfig, train
from openreel.pipeline.errors import InputError

sys.path.insert(0, str(Path(__file__).parent))
from toy import ToyTask


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(5, 12)
        self.places = nn.Parameter(torch.randn(4, 12))
        self.attention = nn.MultiheadAttention(12, 2, batch_first=True)
        self.norm, self.out = nn.LayerNorm(12), nn.Linear(12, 7)
        self.frozen = nn.Linear(12, 12).requires_grad_(False)

    def forward(self) -> torch.Tensor:
        x = (self.words.weight[:4] + self.places)[None]
        mean: torch.Tensor = self.out(self.norm(self.attention(x, x, x)[0])).square().mean()
        return mean


def test_matrices_are_those_that_multiply_activations() -> None:
    model = Small()
    names = {p: name for name, p in model.named_parameters()}
    found = [names[p] for p in matrices(model)]
    assert sorted(found) == [
        "attention.in_proj_weight",
        "attention.out_proj.weight",
        "out.weight",
    ]


def test_each_weight_moves_as_the_librarys_optimizers_move_it() -> None:
    torch.manual_seed(0)
    model = Small()
    twin = copy.deepcopy(model)
    betas, rate, decay = (0.9, 0.95), 0.01, 0.1
    both = Muon(model, learning_rate=rate, betas=betas, weight_decay=decay)
    own = matrices(twin)
    rest = [p for p in twin.parameters() if p.requires_grad and all(p is not m for m in own)]
    muon = torch.optim.Muon(own, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in rest if p.ndim == 1], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=rate, betas=betas)
    before = copy.deepcopy(model.state_dict())
    for _ in range(3):
        for optimizers, network in (([both], model), ([muon, adamw], twin)):
            network.zero_grad()
            network().backward()
            for optimizer in optimizers:
                optimizer.step()
    for name, value in twin.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
        assert torch.equal(before[name], value) == name.startswith("frozen"), name


def test_a_rate_set_on_the_groups_reaches_both_parts() -> None:
    model = Small()
    optimizer = Muon(model, learning_rate=0.1, betas=(0.9, 0.95), weight_decay=0.0)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = copy.deepcopy(model.state_dict())
    model().backward()
    optimizer.step()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_lamb_steps_each_decaying_weight_by_its_own_norm() -> None:
    torch.manual_seed(0)
    decays, plain = torch.randn(4, 3, requires_grad=True), torch.randn(3, requires_grad=True)
    twins = [w.detach().clone().double() for w in (decays, plain)]
    rate, betas, eps = 0.1, (0.9, 0.99), 1e-6
    groups = [{"params": [decays], "weight_decay": 0.2}, {"params": [plain], "weight_decay": 0.0}]
    lamb = Lamb(groups, lr=rate, betas=betas, eps=eps)
    history: list[list[torch.Tensor]] = [[], []]
    for step in range(1, 5):
        for i, (weight, twin, decay) in enumerate(
            zip((decays, plain), twins, (0.2, 0.0), strict=True)
        ):
            weight.grad = torch.randn_like(weight)
            history[i].append(weight.grad.double())
            ages = torch.arange(step - 1, -1, -1, dtype=torch.float64)
            # The moments as sums over the whole history, not as recurrences.
            first, second = (
                torch.einsum("k,k...->...", (1 - b) * b**ages, torch.stack(history[i]) ** power)
                / (1 - b**step)
                for b, power in zip(betas, (1, 2), strict=True)
            )
            direction = first / (second.sqrt() + eps) + decay * twin
            trust = twin.norm() / direction.norm() if decay else 1.0
            twin -= rate * trust * direction
        before = decays.detach().clone()
        lamb.step()
        moved = (decays.detach() - before).norm()
        torch.testing.assert_close(moved, rate * before.norm())  # layer-wise: relative to itself
    for weight, twin in zip((decays, plain), twins, strict=True):
        torch.testing.assert_close(weight.detach().double(), twin, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("optimizer", ["muon", "lamb"])
def test_an_interrupted_run_ends_with_the_same_weights(tmp_path: Path, optimizer: Any) -> None:
    engine = EngineConfig(learning_rate=3e-3, warmup_steps=2, optimizer=optimizer)
    config = TrainConfig(steps=8, engine=engine, ema_decay=0.9, save_every=3)
    whole = train(ToyTask(), config, tmp_path / "whole")

    def fail(step: int, figures: dict[str, float]) -> None:
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(ToyTask(), config, tmp_path / "cut", on_step=fail)
    assert not (tmp_path / "cut" / "model").exists()
    again = train(ToyTask(), config, tmp_path / "cut", resume="must")
    weights = load_file(again / "model.safetensors")
    for name, value in load_file(whole / "model.safetensors").items():
        assert torch.equal(weights[name], value), name


@pytest.mark.parametrize("optimizer", ["muon", "lamb"])
def test_what_needs_whole_weights_refuses_sharding(optimizer: Any) -> None:
    with pytest.raises(InputError, match=f"zero_stage: got 1; accepted: 0 with {optimizer}"):
        EngineConfig(learning_rate=1e-3, optimizer=optimizer, zero_stage=1)
