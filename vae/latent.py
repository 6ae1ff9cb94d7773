"""The record of the autoencoder: one clip's latents and all that decoding needs. No torch here.

C T H W   latent channels, latent frames, latent rows, latent columns
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from openreel.pipeline.clip import Verdict


@dataclass(frozen=True, kw_only=True)
class LatentVideo:
    """Latents, normalised per channel, of a video of num_frames x height x width pixels."""

    latents: npt.NDArray[np.float32]
    """(C, T, H, W), zero mean and unit variance over the training set, channel by channel"""
    num_frames: int
    height: int
    width: int
    """the true source extent in pixels: what decoding gives back, exactly"""
    fps: float
    """frames a second; 0 for a single image"""
    codec: str
    """identity of the autoencoder: digest of its weights, config and micro-step"""

    def __post_init__(self) -> None:
        if self.latents.ndim != 4:
            raise ValueError(f"latents: got shape {self.latents.shape}; accepted: (C, T, H, W)")
        if min(self.num_frames, self.height, self.width) < 1:
            raise ValueError(
                f"num_frames, height, width: got {(self.num_frames, self.height, self.width)}; "
                "accepted: at least 1 each"
            )

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.latents.shape))
        source = f"{self.num_frames}x{self.height}x{self.width}"
        return (
            f"LatentVideo(latents={shape}, source={source}, fps={self.fps:g}, codec={self.codec})"
        )


@dataclass(frozen=True, kw_only=True)
class LatentRow(Verdict):
    """One row of the latents table: where a clip's latents lie, and what they are."""

    clip_id: str
    codec: str
    uri: str = ""
    """the safetensors file, relative to the table's folder; the tensor is called "latents" """
    sha256: str = ""
    shape: tuple[int, ...] = ()
    """(C, T, H, W)"""
    num_frames: int = 0
    height: int = 0
    width: int = 0
    fps: float = 0.0
    source_num_frames: int = 0
    source_height: int = 0
    source_width: int = 0
    """the clip's own extent; larger than the above where it was shortened or scaled down"""
