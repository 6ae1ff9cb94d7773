"""The objective: how data is corrupted, what the network predicts, how a prediction becomes data.

There is one path, the straight line of rectified flow (Liu et al., arXiv 2209.03003; Esser et al.,
arXiv 2403.03206): x_s = (1 - s) x_0 + s e, with levels s from 0 (data) to 1 (noise), one per sample
inside a pack. The other families walk the same path and differ in three things only:

    what is predicted   velocity e - x_0, the data x_0, or v
    what goes in        v sees x_s / sqrt(((1 - s) d)^2 + s^2), of unit variance where the data's
                        standard deviation is d: that is variance-preserving diffusion with
                        alpha = (1 - s) / (that root), and EDM with sigma = s / (1 - s)
    how s is drawn      logit-normal, with mean -1.2 and deviation 1.2 for EDM (logit s = ln sigma);
                        or the 1000 steps of a schedule whose last has no signal left

so that one sampler serves all of them.

    L packed tokens   C values of a token   S samples
"""

import functools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from openreel.packing.plan import Grid
from openreel.pipeline.errors import InputError

Prediction = Literal["velocity", "data", "v"]


@dataclass(frozen=True, kw_only=True)
class Flow:
    """The path and what the network says of it; levels_L1 is each token's noise level.

    velocity is rectified flow's. With data, as Sora's report has it, the velocity that the loss
    compares is (x_s - x_0) / s: clean patches need not carry the noise through the network, which
    a narrow one learns much sooner (Li and He, arXiv 2511.13720). v is Salimans and Ho's (arXiv
    2202.00512), which is also what EDM's network predicts (Karras et al., arXiv 2206.00364, table
    1: F = -v), so that its loss weights become those of EDM.
    """

    predicts: Prediction = "velocity"
    data_std: float = 1.0
    """d, of v's preconditioning"""
    floor: float = 0.05
    """least level that v is divided by in training with data prediction"""

    def __post_init__(self) -> None:
        if not 0 < self.floor < 1:
            raise InputError("floor", self.floor, "0 < floor < 1")
        if not self.data_std > 0:
            raise InputError("data_std", self.data_std, "above 0")

    def corrupt(self, clean_LC: Tensor, noise_LC: Tensor, levels_L1: Tensor) -> Tensor:
        """x_s = (1 - s) x_0 + s e"""
        return (1 - levels_L1) * clean_LC + levels_L1 * noise_LC

    def inputs(self, noisy_LC: Tensor, levels_L1: Tensor) -> Tensor:
        """What the network sees of x_s."""
        return noisy_LC / self._root(levels_L1) if self.predicts == "v" else noisy_LC

    def target(self, clean_LC: Tensor, noise_LC: Tensor, levels_L1: Tensor) -> Tensor:
        """What the loss compares with: v, or the velocity; scaled below the floor as compared()."""
        if self.predicts == "v":
            alpha, sigma = self._rates(levels_L1)
            return alpha * noise_LC - sigma * clean_LC / self.data_std
        velocity = noise_LC - clean_LC
        if self.predicts == "velocity":
            return velocity
        return velocity * (levels_L1 / self.floor).clamp(max=1)

    def compared(self, noisy_LC: Tensor, output_LC: Tensor, levels_L1: Tensor) -> Tensor:
        """What the loss compares: the output, or (x_s - x_0) / s."""
        if self.predicts == "data":
            return (noisy_LC - output_LC) / levels_L1.clamp(min=self.floor)
        return output_LC

    def denoise(self, noisy_LC: Tensor, output_LC: Tensor, levels_L1: Tensor) -> Tensor:
        """x_0 = x_s - s v of the velocity, the output itself, or d (alpha x - sigma v)."""
        if self.predicts == "velocity":
            return noisy_LC - levels_L1 * output_LC
        if self.predicts == "data":
            return output_LC
        alpha, sigma = self._rates(levels_L1)
        inputs_LC = self.inputs(noisy_LC, levels_L1)
        return self.data_std * (alpha * inputs_LC - sigma * output_LC)

    def _root(self, levels_L1: Tensor) -> Tensor:
        """The standard deviation of x_s."""
        return (((1 - levels_L1) * self.data_std).square() + levels_L1.square()).sqrt()

    def _rates(self, levels_L1: Tensor) -> tuple[Tensor, Tensor]:
        """Shares (alpha, sigma) of data / d and noise in the network's input; squares add to 1."""
        root_L1 = self._root(levels_L1)
        return (1 - levels_L1) * self.data_std / root_L1, levels_L1 / root_L1


@functools.cache
def zero_snr_levels(steps: int = 1000) -> npt.NDArray[np.float64]:
    """Levels of Stable Diffusion's steps, moved so that the last has no signal: s = 1.

    Lin et al., arXiv 2305.08891, algorithm 1.
    """
    betas = np.linspace(0.00085**0.5, 0.012**0.5, steps) ** 2
    alphas = np.sqrt(np.cumprod(1 - betas))
    alphas = (alphas - alphas[-1]) * alphas[0] / (alphas[0] - alphas[-1])
    sigmas = np.sqrt(1 - alphas**2)
    levels: npt.NDArray[np.float64] = sigmas / (alphas + sigmas)
    levels.setflags(write=False)
    return levels


@dataclass(frozen=True, kw_only=True)
class ShiftConfig:
    """More tokens hide more noise: levels move up with a sample's area and, bounded, its length.

    The square-root law on area is eq. 23 of arXiv 2403.03206. A law fitted on images runs away for
    video, so time has a bounded factor of its own.
    """

    base_tokens: int = 256
    """area, in patches of a frame, that is not shifted"""
    base_frames: int = 1
    """latent frames that are not shifted"""
    time_power: float = 0.25
    max_time_factor: float = 2.0
    min_shift: float = 1.0
    max_shift: float = 12.0

    def __post_init__(self) -> None:
        if min(self.base_tokens, self.base_frames) < 1:
            asked = (self.base_tokens, self.base_frames)
            raise InputError("base_tokens, base_frames", asked, "at least 1 each")
        if not 0 < self.min_shift <= self.max_shift:
            raise InputError(
                "min_shift, max_shift", (self.min_shift, self.max_shift), "0 < min <= max"
            )

    def shift(self, grid: Grid) -> float:
        """The factor for a patch grid (t, h, w)."""
        t, h, w = grid
        area = math.sqrt(h * w / self.base_tokens)
        time = min(math.pow(max(t, 1) / self.base_frames, self.time_power), self.max_time_factor)
        return min(max(area * time, self.min_shift), self.max_shift)


def shifted(
    levels: npt.NDArray[np.float64], shift: float | npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """s' = k s / (1 + (k - 1) s): the same law in training and in the sampler."""
    return shift * levels / (1 + (shift - 1) * levels)
