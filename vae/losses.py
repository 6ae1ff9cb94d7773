"""What reconstruction is judged by, without downloaded networks. Each figure is of one sample.

Most terms are norms of a linear map of the error, so they are computed on the error itself.

    T H W C   frames, rows, columns, channels; pixels in [-1, 1]
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from openreel.pipeline.errors import InputError
from openreel.vae.haar import haar

_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Weights of the terms; 0 leaves a term out."""

    charbonnier: float = 4.0
    """smooth L1 of the pixels"""
    bands: float = 0.25
    """L1 of the error's three spatial Haar bands: edges and texture"""
    flicker: float = 0.25
    """L1 of the error's change from a frame to the next (the temporal Haar band)"""
    ssim: float = 0.05
    """1 - multi-scale structural similarity of the luma"""
    kl: float = 1e-6
    """continuous head: the posterior's divergence from a unit Gaussian, mean over elements"""
    commitment: float = 0.25
    """LFQ: squared distance of the encoder's numbers from their codes, mean over elements"""
    entropy: float = 0.1
    """LFQ: a position's entropy, minus the entropy of the book over the batch; nats"""
    entropy_boost: float = 3.0
    """factor of the entropy's weight in the beginning; a line leads from there to 1"""
    entropy_batches: int = 2000
    """batches of all ranks until it is 1"""
    temperature: float = 0.01
    """LFQ: of the probabilities whose entropies these are"""
    perceptual: float = 0.5
    """distance in a network's features; off unless the network's weights are given"""

    def __post_init__(self) -> None:
        for field, value in vars(self).items():
            if value < 0:
                raise InputError(field, value, "0 or more")
        if self.temperature == 0:
            raise InputError("temperature", self.temperature, "above 0")

    def entropy_weight(self, batches: int) -> float:
        """The entropy's weight once so many batches of all ranks have been trained."""
        left = max(0.0, 1 - batches / max(self.entropy_batches, 1))
        return self.entropy * (1 + (self.entropy_boost - 1) * left)


def charbonnier(error_THWC: Tensor, epsilon: float = 0.3) -> Tensor:
    """Mean of sqrt(e^2 + epsilon^2) - epsilon: squared for small errors, absolute for large ones.

    A short training needs the wide bottom: with epsilon 0.01 the gradient is mostly signs, and 700
    steps on the toy world end 1.6 dB lower.
    """
    return (error_THWC.square() + epsilon**2).sqrt().mean() - epsilon


def bands(error_THWC: Tensor) -> Tensor:
    """Mean magnitude of the error's high Haar bands; an odd last row or column is left out."""
    height, width = (size // 2 * 2 for size in error_THWC.shape[1:3])
    if 0 in (height, width):
        return error_THWC.new_zeros(())
    channels = error_THWC.shape[-1]
    return haar(error_THWC[:, :height, :width])[..., channels:].abs().mean()


def flicker(error_THWC: Tensor) -> Tensor:
    """Mean magnitude of the error's change between successive frames; 0 for an image."""
    if error_THWC.shape[0] < 2:
        return error_THWC.new_zeros(())
    return error_THWC.diff(dim=0).abs().mean()


def multiscale_ssim(x_THWC: Tensor, y_THWC: Tensor, scales: int = 3, window: int = 5) -> Tensor:
    """Mean over up to `scales` halvings of the structural similarity of the luma, in [-1, 1].

    Uniform windows; a scale whose image is smaller than the window is left out (Wang et al. 2003
    weight the scales unequally and multiply them; a plain mean is steadier on small clips).
    """
    luma = x_THWC.new_tensor(_LUMA)
    pair = torch.stack([x_THWC @ luma, y_THWC @ luma])
    found = []
    for _ in range(scales):
        if min(pair.shape[-2:]) < window:
            break
        found.append(_ssim(pair[0], pair[1], window))
        pair = F.avg_pool2d(pair, 2)
    return torch.stack(found).mean() if found else x_THWC.new_ones(())


def _ssim(x_THW: Tensor, y_THW: Tensor, window: int) -> Tensor:
    # Constants of Wang et al. 2004 for a range of 2.
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    moments = torch.stack([x_THW, y_THW, x_THW**2, y_THW**2, x_THW * y_THW], dim=1)
    x, y, xx, yy, xy = F.avg_pool2d(moments, window, stride=1).unbind(1)
    contrast = (2 * (xy - x * y) + c2) / (xx - x * x + yy - y * y + c2)
    return (contrast * (2 * x * y + c1) / (x * x + y * y + c1)).mean()


def kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Mean over elements of KL(N(mean, variance) || N(0, 1)), in nats."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()


def loss(
    target_THWC: Tensor,
    decoded_THWC: Tensor,
    others: Mapping[str, Tensor],
    weights: LossWeights,
) -> tuple[Tensor, dict[str, Tensor]]:
    """One sample's loss and its terms (unweighted), with the PSNR in decibels beside them.

    others: terms that are not of the pixels, under the names of their weights.
    """
    error = decoded_THWC - target_THWC
    terms = {
        "charbonnier": charbonnier(error),
        "bands": bands(error),
        "flicker": flicker(error),
        **others,
    }
    if weights.ssim > 0:
        terms["ssim"] = 1 - multiscale_ssim(target_THWC, decoded_THWC)
    total = torch.stack([getattr(weights, name) * term for name, term in terms.items()]).sum()
    figures = {name: term.detach() for name, term in terms.items()}
    with torch.no_grad():
        clamped = decoded_THWC.detach().clamp(-1, 1) - target_THWC
        figures["psnr"] = 10 * torch.log10(4 / clamped.square().mean().clamp(min=1e-10))
    return total, figures
