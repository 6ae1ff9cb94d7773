"""Sampling: requests of any sizes are denoised together, in one pack.

Guidance doubles the pack instead of the batch: each request has a segment with its prompt and one
with the negative prompt. Solvers come from diffusers, one per request, because each has its own
shifted noise levels. Known tokens are laid back, clean, before every step.

    L packed tokens   C values of a token   S segments (with guidance, 2 per request)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from openreel.dit.flow import shifted
from openreel.dit.model import Layout
from openreel.dit.weights import Denoiser
from openreel.packing.batch import PackedBatch, Sample, collate
from openreel.packing.patches import patch_grid, patchify, positions, unpatchify, valid_values
from openreel.pipeline.errors import InputError
from openreel.pipeline.keyed import generator

Solver = Literal["euler", "unipc", "dpm++"]


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """How to solve. guidance g: negative + g (prompt - negative); 1 is none."""

    steps: int = 30
    guidance: float = 4.0
    solver: Solver = "euler"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError("steps", self.steps, "at least 1")
        if self.guidance < 1:
            raise InputError("guidance", self.guidance, "at least 1 (1 is no guidance)")


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """One video to be made."""

    name: str
    """keys its noise, together with the seed"""
    seed: int
    size: tuple[int, int, int]
    """latent (T, H, W)"""
    fps: float
    text: npt.NDArray[np.float32]
    """(M, E) prompt features"""
    negative: npt.NDArray[np.float32]
    """(M, E) features of what to move away from, usually of the empty prompt"""
    known: npt.NDArray[np.bool_] | None = None
    """(L,) tokens that are given"""
    clean: npt.NDArray[np.float32] | None = None
    """(C, T, H, W) latents that hold the given tokens"""


@torch.no_grad()
def sample(
    denoiser: Denoiser,
    requests: Sequence[Request],
    config: SampleConfig,
    on_step: Callable[[int], None] | None = None,
) -> list[npt.NDArray[np.float32]]:
    """Denoise all requests in one pack: a (C, T, H, W) array each, in their order.

    The noise is keyed by (seed, name) and drawn on the host, so that neither the pack's other
    requests nor the machine change it. Raises InputError when there is no request.
    """
    if not requests:
        raise InputError("requests", "none", "at least one")
    dit = denoiser.dit
    device = dit.head.weight.device
    guided = config.guidance > 1
    copies = 2 if guided else 1
    batch = _pack(denoiser, requests, guided).map(lambda a: torch.as_tensor(a).to(device))
    layout = dit.layout(batch)
    lengths = list(batch.lengths[: len(requests)])
    clean = batch.tokens[: sum(lengths)]
    known = batch.known[: sum(lengths), None]
    noisy = torch.cat(
        [_noise(r, dit.config.token_dim, n) for r, n in zip(requests, lengths, strict=True)]
    )
    noise = noisy.to(device)
    valid = batch.valid[: sum(lengths)]
    noisy = torch.where(known, clean, noise)
    solvers = [_solver(config, denoiser, grid) for grid in batch.grids[: len(requests)]]
    for step in range(config.steps):
        levels_S = torch.tensor([float(s.sigmas[step]) for s in solvers], device=device)
        inputs = (noisy.repeat(copies, 1), known.repeat(copies, 1), levels_S.repeat(copies))
        velocity = _velocity(denoiser, *inputs, batch.text, layout)
        if guided:
            toward, away = velocity.chunk(2)
            velocity = away + config.guidance * (toward - away)
        pieces = zip(
            solvers, torch.split(velocity, lengths), torch.split(noisy, lengths), strict=True
        )
        stepped = [s.step(v, s.timesteps[step], x).prev_sample for s, v, x in pieces]
        # In training the padding inside patches is pure noise of the level: so it is here.
        next_level_L1 = _levels(solvers, step + 1, lengths, device)
        noisy = torch.where(valid, torch.cat(stepped), next_level_L1 * noise)
        noisy = torch.where(known, clean, noisy)
        if on_step is not None:
            on_step(step)
    patch = dit.config.patch
    outputs = zip(requests, torch.split(noisy, lengths), strict=True)
    return [unpatchify(x.cpu().numpy(), r.size, patch) for r, x in outputs]


def _velocity(
    denoiser: Denoiser,
    noisy_LC: Tensor,
    known_L1: Tensor,
    levels_S: Tensor,
    text_ME: Tensor,
    layout: Layout,
) -> Tensor:
    """(L, C): the direction from the data that the model sees to the noise."""
    flow = denoiser.method.flow
    levels_L1 = levels_S[layout.row_of_token_L // 2, None]
    seen_LC = flow.inputs(noisy_LC, levels_L1.masked_fill(known_L1, 0.0))
    output_LC = denoiser.dit(seen_LC, levels_S, text_ME, layout)
    return (noisy_LC - flow.denoise(noisy_LC, output_LC, levels_L1)) / levels_L1


def _pack(denoiser: Denoiser, requests: Sequence[Request], guided: bool) -> PackedBatch:
    config = denoiser.dit.config
    texts = [r.text for r in requests] + ([r.negative for r in requests] if guided else [])
    samples = []
    for request, text in zip([*requests] * (2 if guided else 1), texts, strict=True):
        empty = np.zeros((config.latent_channels, *request.size), np.float32)
        grid = patch_grid(request.size, config.patch)
        samples.append(
            Sample(
                sample_id=request.name,
                tokens=patchify(empty if request.clean is None else request.clean, config.patch),
                valid=valid_values(request.size, config.patch, config.latent_channels),
                positions=positions(grid),
                grid=grid,
                text=text,
                fps=request.fps,
                known=request.known,
            )
        )
    return collate(samples)


def _levels(solvers: Sequence[Any], step: int, lengths: list[int], device: torch.device) -> Tensor:
    """(L, 1) noise level of every token before a step; 0 after the last."""
    levels = torch.tensor([float(s.sigmas[step]) for s in solvers], device=device)
    return torch.repeat_interleave(levels, torch.tensor(lengths, device=device))[:, None]


def _noise(request: Request, token_dim: int, num_tokens: int) -> Tensor:
    random = generator(request.seed, "sample", request.name)
    return torch.from_numpy(random.standard_normal((num_tokens, token_dim), np.float32))


def _solver(config: SampleConfig, denoiser: Denoiser, grid: tuple[int, int, int]) -> Any:
    """A diffusers scheduler with this grid's levels; its own shift is 1, ours is in them."""
    from diffusers.schedulers import (
        DPMSolverMultistepScheduler,
        FlowMatchEulerDiscreteScheduler,
        UniPCMultistepScheduler,
    )

    even = np.linspace(1.0, 1.0 / config.steps, config.steps)
    levels = shifted(even, denoiser.method.shift.shift(grid))
    if config.solver == "euler":
        solver = FlowMatchEulerDiscreteScheduler(shift=1.0)
        solver.set_timesteps(sigmas=levels.tolist())
    else:
        kind = UniPCMultistepScheduler if config.solver == "unipc" else DPMSolverMultistepScheduler
        solver = kind(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=1.0)
        solver.set_timesteps(config.steps)
        # These take the logarithm of 1 - level, which level 1 does not have.
        levels[0] = min(levels[0], 1 - 1e-6)
        solver.sigmas = torch.tensor([*levels, 0.0], dtype=torch.float32)
        solver.timesteps = 1000.0 * solver.sigmas[:-1]
    solver.set_begin_index(0)
    return solver
