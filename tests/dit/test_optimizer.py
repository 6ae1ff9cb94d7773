"""Muon with AdamW: each weight is stepped by the library's own, and a resume is exact."""

import copy
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from openreel.dit.engine import EngineConfig
from openreel.dit.optimizer import Muon, matrices
from openreel.dit.trainer import TrainConfig, train
from openreel.pipeline.errors import InputError

sys.path.insert(0, str(Path(__file__).parent))
from toy import ToyTask

MUON = EngineConfig(learning_rate=3e-3, warmup_steps=2, optimizer="muon")


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


def test_an_interrupted_run_with_muon_ends_with_the_same_weights(tmp_path: Path) -> None:
    config = TrainConfig(steps=8, engine=MUON, ema_decay=0.9, save_every=3)
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


def test_muon_refuses_sharding() -> None:
    with pytest.raises(InputError, match="zero_stage: got 1; accepted: 0 with muon"):
        EngineConfig(learning_rate=1e-3, optimizer="muon", zero_stage=1)
