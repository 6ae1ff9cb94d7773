"""Objectives: how data is corrupted, what the network predicts, how a prediction becomes data.

One interface; rectified flow is the default (Liu et al., arXiv 2209.03003; Esser et al., arXiv
2403.03206). Noise levels run from 0 (data) to 1 (noise), one per sample inside a pack.

    L packed tokens   C values of a token   S samples
"""

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from openreel.packing.plan import Grid
from openreel.pipeline.errors import InputError


class Objective(Protocol):
    """What training and sampling need to know; levels_L1 is each token's noise level."""

    def corrupt(self, clean_LC: Tensor, noise_LC: Tensor, levels_L1: Tensor) -> Tensor:
        """The noisy data at a level."""

    def target(self, clean_LC: Tensor, noise_LC: Tensor, levels_L1: Tensor) -> Tensor:
        """The velocity that training compares with."""

    def velocity(self, noisy_LC: Tensor, output_LC: Tensor, levels_L1: Tensor) -> Tensor:
        """The velocity that the network's output stands for."""

    def denoise(self, noisy_LC: Tensor, output_LC: Tensor, levels_L1: Tensor) -> Tensor:
        """The clean data that the network's output stands for."""


@dataclass(frozen=True, kw_only=True)
class RectifiedFlow:
    """Straight lines from data to noise: x_s = (1 - s) x_0 + s e, velocity v = e - x_0.

    The network gives v itself or, as Sora's report says of theirs, the clean patches x_0, from
    which v = (x_s - x_0) / s. Clean patches need not carry the noise through the network, which a
    narrow one learns much sooner (Li and He, arXiv 2511.13720); the loss is on v in both cases.
    """

    predicts: Literal["velocity", "data"] = "velocity"
    floor: float = 0.05
    """least level that v is divided by in training with data prediction"""

    def __post_init__(self) -> None:
        if not 0 < self.floor < 1:
            raise InputError("floor", self.floor, "0 < floor < 1")

    def corrupt(self, clean_LC: Tensor, noise_LC: Tensor, levels_L1: Tensor) -> Tensor:
        """x_s = (1 - s) x_0 + s e"""
        return (1 - levels_L1) * clean_LC + levels_L1 * noise_LC

    def target(self, clean_LC: Tensor, noise_LC: Tensor, levels_L1: Tensor) -> Tensor:
        """v = e - x_0, scaled down below the floor as velocity() is."""
        velocity = noise_LC - clean_LC
        if self.predicts == "velocity":
            return velocity
        return velocity * (levels_L1 / self.floor).clamp(max=1)

    def velocity(self, noisy_LC: Tensor, output_LC: Tensor, levels_L1: Tensor) -> Tensor:
        """v, or (x_s - x_0) / s"""
        if self.predicts == "velocity":
            return output_LC
        return (noisy_LC - output_LC) / levels_L1.clamp(min=self.floor)

    def denoise(self, noisy_LC: Tensor, output_LC: Tensor, levels_L1: Tensor) -> Tensor:
        """x_0 = x_s - s v, or x_0"""
        return noisy_LC - levels_L1 * output_LC if self.predicts == "velocity" else output_LC


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
