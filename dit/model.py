"""The denoiser: packed noisy tokens, noise levels and text in, a prediction for every token out.

Samples of every shape lie in one sequence. Each has its own noise level; its known tokens (a given
image, the video to be extended) have level 0 while the rest are noisy, so that one mask is all the
conditioning there is. Modulation is computed for 2 S rows - (sample, generated) and (sample, known)
- and gathered by token.

    L packed tokens   M packed text tokens   S samples   R = 2 S modulation rows
    C values of a token   E values of a text feature   D width   F sinusoids, features of a place
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from openreel.dit.attention import Backend, Segments, choose_backend
from openreel.dit.blocks import Block, modulate
from openreel.dit.config import DiTConfig
from openreel.dit.places import WIDTH, places
from openreel.dit.rope import rotations
from openreel.packing.batch import PackedBatch
from openreel.packing.plan import Window, windows


def sinusoids(levels: Tensor, dim: int) -> Tensor:
    """(R,) noise levels in 0 to 1 -> (R, F) cosines and sines of 1000 x level, in float32.

    Half precision would turn 937.3 into 936, which moves the fast sinusoids by a third.
    """
    half = dim // 2
    steps = torch.arange(half, dtype=torch.float32, device=levels.device)
    angles = torch.outer(levels.float() * 1000.0, torch.exp(-math.log(10_000.0) * steps / half))
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


@dataclass(frozen=True, eq=False)
class Layout:
    """What the layers need to know of a batch's shapes; the same for every denoising step."""

    segments: dict[Window, Segments]
    cross: Segments
    rotations_LP: Tensor
    row_of_token_L: Tensor
    """(L,) 2 x sample + known"""
    sample_of_text_M: Tensor
    shapes_S3: Tensor
    """(S, 3) log of frame rate, of latent frames and of area in patches"""
    places_LF: Tensor
    """each token's place in its sample"""


class DiT(nn.Module):
    """A packed diffusion transformer."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config, dim = config, config.dim
        self.embed_tokens = nn.Linear(config.token_dim, dim)
        self.embed_text = _mlp(config.text_dim, dim, nn.GELU(approximate="tanh"))
        self.embed_level = _mlp(config.time_dim, dim, nn.SiLU())
        self.embed_shape = _mlp(3, dim, nn.SiLU()) if config.shape_condition else None
        self.embed_pooled = _mlp(config.text_dim, dim, nn.SiLU()) if config.pooled_text else None
        self.embed_place = nn.Linear(WIDTH, dim) if config.fractional_places else None
        self.project_rows = nn.Linear(dim, 6 * dim)
        mlp_dim = int(dim * config.mlp_ratio)
        self.blocks = nn.ModuleList(
            Block(dim, config.num_heads, mlp_dim, config.eps) for _ in range(config.depth)
        )
        self.head = nn.Linear(dim, config.token_dim)
        self.head_modulation = nn.Parameter(torch.randn(2, dim) / dim**0.5)
        self.checkpoint_activations = False
        self.backend: Backend | None = None
        """attention backend; None lets the device and precision choose"""
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def layout(self, batch: PackedBatch) -> Layout:
        """Everything that follows from the shapes of a batch whose arrays are tensors."""
        device = batch.tokens.device
        segments = {
            window: Segments.of(windows(batch.grids, window, batch.kept), device)
            for window in dict.fromkeys(self.config.windows)
        }
        samples_L = _owners(batch.lengths, device)
        grids_S3 = torch.tensor(batch.grids, device=device)
        frames_S, area_S = grids_S3[:, 0], grids_S3[:, 1:].prod(dim=1)
        shapes = [torch.log1p(batch.fps.float()), frames_S.float().log(), area_S.float().log()]
        return Layout(
            segments=segments,
            cross=Segments(batch.lengths, batch.text_lengths, device),
            rotations_LP=rotations(batch.positions, self.config.head_dim, self.config.rope_theta),
            row_of_token_L=2 * samples_L + batch.known.long(),
            sample_of_text_M=_owners(batch.text_lengths, device),
            shapes_S3=torch.stack(shapes, dim=-1),
            places_LF=places(batch.positions, grids_S3, samples_L),
        )

    def forward(
        self, noisy_LC: Tensor, levels_S: Tensor, text_ME: Tensor, layout: Layout
    ) -> Tensor:
        """(L, C) prediction; noisy holds the known tokens clean, levels run from 0 (data) to 1."""
        dtype = self.head.weight.dtype
        backend = self.backend or choose_backend(noisy_LC.device, dtype)
        text_MD = self.embed_text(text_ME.to(dtype))
        condition_RD = self._condition(levels_S, text_ME.to(dtype), layout)
        rows_R6D = rearrange(self.project_rows(F.silu(condition_RD)), "r (six d) -> r six d", six=6)
        x_LD = self.embed_tokens(noisy_LC.to(dtype))
        if self.embed_place is not None:
            x_LD = x_LD + self.embed_place(layout.places_LF.to(dtype))
        for i, block in enumerate(self.blocks):
            window = self.config.windows[i % len(self.config.windows)]
            inputs = (x_LD, text_MD, rows_R6D, layout.row_of_token_L, layout.segments[window])
            shared = (layout.cross, layout.rotations_LP, backend)
            if self.checkpoint_activations and self.training:
                x_LD = checkpoint(block, *inputs, *shared, use_reentrant=False)
            else:
                x_LD = block(*inputs, *shared)
        table = rearrange(condition_RD[:, None] + self.head_modulation, "r two d -> r (two d)")
        shift, scale = F.embedding(layout.row_of_token_L, table).chunk(2, dim=-1)
        x_LD = modulate(F.layer_norm(x_LD, (self.config.dim,), eps=self.config.eps), shift, scale)
        out: Tensor = self.head(x_LD).float()
        return out

    def _condition(self, levels_S: Tensor, text_ME: Tensor, layout: Layout) -> Tensor:
        """(R, D): a row for a sample's generated tokens, a row for its known ones (level 0)."""
        levels_R = rearrange(torch.stack([levels_S, torch.zeros_like(levels_S)], 1), "s k -> (s k)")
        sines = sinusoids(levels_R, self.config.time_dim).to(text_ME.dtype)
        condition_RD: Tensor = self.embed_level(sines)
        if self.embed_shape is not None:
            shape_SD = self.embed_shape(layout.shapes_S3.to(text_ME.dtype))
            condition_RD = condition_RD + repeat(shape_SD, "s d -> (s two) d", two=2)
        if self.embed_pooled is not None:
            pooled_SD = self.embed_pooled(_segment_mean(text_ME, layout.sample_of_text_M, levels_S))
            condition_RD = condition_RD + repeat(pooled_SD, "s d -> (s two) d", two=2)
        return condition_RD


def _mlp(inputs: int, dim: int, activation: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, dim), activation, nn.Linear(dim, dim))


def _owners(lengths: tuple[int, ...], device: torch.device) -> Tensor:
    """(S,) lengths -> the sample of each token."""
    owners = torch.arange(len(lengths), device=device)
    return torch.repeat_interleave(owners, torch.tensor(lengths, device=device))


def _segment_mean(text_ME: Tensor, sample_of_text_M: Tensor, levels_S: Tensor) -> Tensor:
    """(S, E) mean text feature of each sample."""
    sums = text_ME.new_zeros(len(levels_S), text_ME.shape[-1]).index_add(
        0, sample_of_text_M, text_ME
    )
    counts = torch.bincount(sample_of_text_M, minlength=len(levels_S))
    return sums / rearrange(counts, "s -> s 1").to(sums.dtype)
