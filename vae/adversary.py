"""A discriminator of spacetime patches for the end of a training: hinge loss, held by LeCAM.

The trainer knows one loss and one optimiser, and needs no second. The autoencoder's term is taken
with the discriminator's weights detached, the discriminator's with the pictures detached: each gets
its own gradient from their sum.

    T H W C   frames, rows, columns, channels; pixels in [-1, 1]
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from openreel.pipeline.errors import InputError
from openreel.vae.blocks import Block, Chain, FoldDown, Pointwise
from openreel.vae.haar import haar, halvings
from openreel.vae.model import whole_cells, whole_folds


@dataclass(frozen=True, kw_only=True)
class AdversaryConfig:
    """How strong, and from when on."""

    weight: float = 0.0
    """of the term in the autoencoder's loss; 0 leaves the discriminator out altogether"""
    start: int = 50_000
    """batches of all ranks that are trained without it"""
    ramp: int = 2000
    """batches from there until the weight is whole; the discriminator learns from the first"""
    lecam: float = 0.05
    """weight of LeCAM in the discriminator's loss (Tseng et al. 2021)"""
    width: int = 64
    """channels of the discriminator"""

    def __post_init__(self) -> None:
        for field in ("weight", "start", "ramp", "lecam"):
            if getattr(self, field) < 0:
                raise InputError(field, getattr(self, field), "0 or more")
        if self.width < 1:
            raise InputError("width", self.width, "1 or more")

    def strength(self, batches: int) -> float:
        """The weight once so many batches have been trained."""
        return self.weight * min(1.0, (batches - self.start) / max(self.ramp, 1))


class Discriminator(nn.Module):
    """(T, H, W, 3) of any size -> a score for each 4x16x16 patch; above 0 looks real."""

    patch, time, space = 4, 4, 16

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter = Pointwise(3 * self.patch**2, width)
        self.levels = Chain(
            [
                Block(width),
                FoldDown(width, 2 * width, 2, 2),
                Block(2 * width),
                FoldDown(2 * width, 4 * width, 2, 2),
                Block(4 * width),
            ]
        )
        self.leave = Pointwise(4 * width, 1)

    def forward(self, x_THWC: Tensor) -> Tensor:
        x = whole_folds(whole_cells(x_THWC, self.space), self.time).to(self.enter.weight.dtype)
        for _ in range(halvings(self.patch)):
            x = haar(x, group=3)
        x, _ = self.levels(self.enter(x), None)
        scores: Tensor = self.leave(x)
        return scores.float()


class Adversary(nn.Module):
    """The discriminator and the running means of its scores, which LeCAM needs."""

    decay = 0.99
    means: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.network = Discriminator(width)
        self.register_buffer("means", torch.zeros(2))

    def forward(
        self, pairs: Sequence[tuple[Tensor, Tensor]], lecam: float
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Pairs (target, decoded) -> the autoencoder's loss, the discriminator's, and figures.

        Both losses are sums over the pairs.
        """
        frozen = {name: x.detach() for name, x in self.network.named_parameters()}
        deceived, found, scores = [], [], []
        for target, decoded in pairs:
            deceived.append(-functional_call(self.network, frozen, (decoded,)).mean())
            real, fake = self.network(target), self.network(decoded.detach())
            hinge = (F.relu(1 - real).mean() + F.relu(1 + fake).mean()) / 2
            mean_real, mean_fake = self.means
            held = (
                F.relu(real - mean_fake).square().mean() + F.relu(mean_real - fake).square().mean()
            )
            found.append(hinge + lecam * held)
            scores.append(torch.stack([real.mean(), fake.mean()]))
        scores_2 = torch.stack(scores).mean(0).detach()
        self._follow(scores_2)
        figures = {
            "adversary": torch.stack(found).mean().detach(),
            "score_real": scores_2[0],
            "score_fake": scores_2[1],
        }
        return torch.stack(deceived).sum(), torch.stack(found).sum(), figures

    @torch.no_grad()
    def _follow(self, scores_2: Tensor) -> None:
        """Move the means by all ranks' scores, which keeps them the same on every rank."""
        scores_2 = scores_2.to(self.means)
        if dist.is_initialized() and dist.get_world_size() > 1:
            scores_2 = scores_2 / dist.get_world_size()
            dist.all_reduce(scores_2)
        moved = self.means.lerp(scores_2, 1 - self.decay)
        # A step that isn't finite is undone by the trainer, which knows nothing of these.
        self.means.copy_(torch.where(scores_2.isfinite(), moved, self.means))
