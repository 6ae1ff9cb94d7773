"""Judge an autoencoder on clips: what comes back, how it wears over ten passes, plain colours.

T H W   frames, rows, columns; frames are uint8 (T, H, W, 3)
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from einops import rearrange

from openreel.pipeline.errors import InputError
from openreel.vae.codec import Codec, Frames
from openreel.vae.measures import (
    colour_difference,
    flicker,
    ms_ssim,
    num_scales,
    off_mean,
    psnr,
    ssim,
)

PASSES = 10
PLAIN = ((0, 0, 0), (255, 255, 255), (128, 128, 128), (0, 255, 0), (200, 30, 60), (20, 60, 200))
"""colours of the plain clips"""
_PLAIN_SHAPE = (9, 67, 101)
Network = Callable[..., torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class ClipFigures:
    """One clip's reconstruction."""

    name: str
    num_frames: int
    height: int
    width: int
    psnr: float
    """dB"""
    ssim: float
    ms_ssim: float
    ms_ssim_scales: int
    flicker: float
    """levels of 255: how much the error changes from a frame to the next"""
    lpips: float = math.nan
    """nan without weights"""


@dataclass(frozen=True, kw_only=True)
class Drift:
    """A clip after each of several passes through the autoencoder, against the original."""

    psnr: tuple[float, ...]
    colour: tuple[float, ...]
    """distance in CIE L*a*b*"""


@dataclass(frozen=True, kw_only=True)
class Plain:
    """Plain colours, the worst of several: a grid or a border would show here."""

    off_mean: float
    """root mean square distance from the frame's mean colour, in levels of 255"""
    largest: float
    """of any value, in levels"""
    wobble: float
    """largest change of a frame's mean colour along the clip, in levels"""


class Judges:
    """Networks with real weights; those that are absent are None and their figures are not made."""

    def __init__(self, lpips: Path | None = None, fvd: Path | None = None) -> None:
        """lpips, fvd: TorchScript files. LPIPS takes two pictures (N, 3, H, W) in [-1, 1] and gives
        their distances; FVD's network takes videos (N, 3, T, 224, 224) in [-1, 1] and the settings
        that the published I3D takes, and gives features (N, D).

        Raises InputError for a file that can't be read.
        """
        self.lpips = None if lpips is None else _network("lpips", lpips)
        self.fvd = None if fvd is None else _network("fvd", fvd)

    def perceptual(self, x: Frames, y: Frames) -> float:
        """LPIPS, mean over the frames; nan without its weights."""
        if self.lpips is None:
            return math.nan
        found = [
            float(self.lpips(_picture(a), _picture(b)).mean()) for a, b in zip(x, y, strict=True)
        ]
        return math.fsum(found) / len(found)

    def features(self, frames: Frames) -> npt.NDArray[np.float32]:
        """A video's features, for the Fréchet distance."""
        assert self.fvd is not None
        video = torch.cat([_picture(frame) for frame in frames])
        video = torch.nn.functional.interpolate(video, (224, 224), mode="bilinear")
        x = rearrange(video, "t c h w -> 1 c t h w")
        with torch.no_grad():
            found = self.fvd(x, rescale=False, resize=False, return_features=True)
        return np.asarray(found[0].float().numpy(), np.float32)


def _network(field: str, path: Path) -> Network:
    try:
        load: Any = torch.jit.load
        loaded: Network = load(str(path), map_location="cpu").eval()
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(field, str(path), f"a TorchScript file ({reason})") from error
    return loaded


def _picture(frame: Frames) -> torch.Tensor:
    pixels = torch.from_numpy(np.ascontiguousarray(frame)).float() / 127.5 - 1
    return rearrange(pixels, "h w c -> 1 c h w")


def reconstruct(codec: Codec, frames: Frames, budget_bytes: int) -> Frames:
    """Encode and decode in tiles that fit the budget. Raises InputError if none does."""
    num_frames, height, width, _ = frames.shape
    side = codec.plan(num_frames, height, width, budget_bytes).side
    return codec.decode_video(codec.encode_video(frames, fps=0.0, tile=side), tile=side)


def figures(name: str, frames: Frames, decoded: Frames, judges: Judges) -> ClipFigures:
    """One clip's figures."""
    num_frames, height, width, _ = frames.shape
    return ClipFigures(
        name=name,
        num_frames=num_frames,
        height=height,
        width=width,
        psnr=psnr(frames, decoded),
        ssim=ssim(frames, decoded),
        ms_ssim=ms_ssim(frames, decoded),
        ms_ssim_scales=num_scales(height, width),
        flicker=flicker(frames, decoded),
        lpips=judges.perceptual(frames, decoded),
    )


def drift(codec: Codec, frames: Frames, budget_bytes: int, passes: int = PASSES) -> Drift:
    """Encode and decode again and again."""
    found, now = [], frames
    for _ in range(passes):
        now = reconstruct(codec, now, budget_bytes)
        found.append((psnr(frames, now), colour_difference(frames, now)))
    return Drift(psnr=tuple(f[0] for f in found), colour=tuple(f[1] for f in found))


def plain(codec: Codec, budget_bytes: int) -> Plain:
    """The worst over several colours of a clip that is of one colour throughout."""
    seen = []
    for colour in PLAIN:
        frames = np.broadcast_to(np.array(colour, np.uint8), (*_PLAIN_SHAPE, 3))
        decoded = reconstruct(codec, np.ascontiguousarray(frames), budget_bytes)
        means = decoded.mean((1, 2), dtype=np.float64)
        seen.append((*off_mean(decoded), float(np.ptp(means, axis=0).max())))
    return Plain(
        **dict(zip(("off_mean", "largest", "wobble"), np.max(seen, 0).tolist(), strict=True))
    )


def means(clips: Sequence[ClipFigures]) -> Mapping[str, float]:
    """Of each figure over the clips, every clip counting once; clips without it left out."""
    found = {}
    for name in ("psnr", "ssim", "ms_ssim", "flicker", "lpips"):
        values = [value for clip in clips if math.isfinite(value := getattr(clip, name))]
        found[name] = math.fsum(values) / len(values) if values else math.nan
    return found
