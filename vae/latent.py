"""The record of the autoencoder: one clip's latents and all that decoding needs. No torch here.

C T H W   latent channels, latent frames, latent rows, latent columns; of frames: (T, H, W, 3)
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from openreel.pipeline.clip import Verdict
from openreel.pipeline.errors import InputError


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


def checked_frames(frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The frames, once they are known to be uint8 (T, H, W, 3). Raises InputError otherwise."""
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        accepted = "uint8 (T, H, W, 3), each 1 or more"
        raise InputError("frames", f"{frames.dtype} {frames.shape}", accepted)
    return frames


def checked_latents(latents: npt.NDArray[np.float32], channels: int) -> npt.NDArray[np.float32]:
    """The latents, once they are known to be finite float32 (C, T, H, W). Raises InputError
    otherwise."""
    shape = latents.shape
    if latents.dtype != np.float32 or len(shape) != 4 or shape[0] != channels or 0 in shape:
        accepted = f"float32 ({channels}, T, H, W), each 1 or more"
        raise InputError("latents", f"{latents.dtype} {shape}", accepted)
    if wrong := int(latents.size - np.isfinite(latents).sum()):
        raise InputError("latents", f"{wrong} of {latents.size} NaN or infinite", "finite numbers")
    return latents


def check_own(video: LatentVideo, codec: str, shape: tuple[int, int, int, int]) -> None:
    """Raises InputError unless the latents are this codec's, of this shape, and finite."""
    if video.codec != codec:
        raise InputError("codec", video.codec, f"{codec}, the loaded autoencoder's")
    if video.latents.shape != shape:
        raise InputError("latents", video.latents.shape, f"{shape} for this extent")
    checked_latents(video.latents, shape[0])


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
