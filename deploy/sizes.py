"""The size planner: any width and height, in words, with its cost before weights are loaded.

Pixels are WIDTHxHEIGHT, the way a person says them. The grid generated is the next whole one and
the picture is cropped back, so that 1080 rows are 1080 rows.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from openreel.packing.patches import Patch, patch_grid
from openreel.pipeline.errors import InputError

if TYPE_CHECKING:
    from openreel.vae.codec import Shape

SMALLEST = 16
ACCEPTED = "WIDTHxHEIGHT in pixels, each at least 16, such as 1080x1920"


@dataclass(frozen=True, kw_only=True)
class Size:
    """A picture's size in pixels."""

    width: int
    height: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises InputError for anything but WIDTHxHEIGHT with sides of at least 16."""
        match = re.fullmatch(r"\s*(\d{1,9})\s*[xX×]\s*(\d{1,9})\s*", text)
        if match is None:
            raise InputError("size", text, ACCEPTED)
        width, height = int(match[1]), int(match[2])
        if min(width, height) < SMALLEST:
            raise InputError("size", text, ACCEPTED)
        return cls(width=width, height=height)

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"

    @property
    def words(self) -> str:
        """1080x1920 -> "1080 wide × 1920 tall, portrait"."""
        shape = "square"
        if self.width != self.height:
            shape = "landscape" if self.width > self.height else "portrait"
        return f"{self.width} wide × {self.height} tall, {shape}"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a video will cost."""

    size: Size
    num_frames: int
    fps: float
    latent_size: tuple[int, int, int]
    num_tokens: int
    memory_bytes: int
    """working memory of the denoiser and the frames; weights come on top"""

    @property
    def words(self) -> str:
        seconds = self.num_frames / self.fps
        latent = "x".join(map(str, self.latent_size))
        return (
            f"{self.size.words}, {self.num_frames} frames at {self.fps:g} a second "
            f"({seconds:.2f} s); {latent} latents, {self.num_tokens:,} tokens, "
            f"about {self.memory_bytes / 2**20:,.0f} MiB of working memory"
        )


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What the planner must know of a model."""

    pixels: "Shape"
    """how the autoencoder's latents lie in time and space"""
    patch: Patch
    dim: int
    depth: int

    def plan(self, size: Size, num_frames: int, fps: float) -> Plan:
        """The plan of one video. Sampling holds a dozen activations of every token at a time."""
        latent = self.pixels.latent_shape(num_frames, size.height, size.width)[1:]
        tokens = math.prod(patch_grid(latent, self.patch))
        guided = 2
        activations = guided * tokens * self.dim * 4 * 24
        pixels = num_frames * size.width * size.height * 3
        step_pixels = self.pixels.time_factor * size.width * size.height * 4 * 96
        return Plan(
            size=size,
            num_frames=num_frames,
            fps=fps,
            latent_size=latent,
            num_tokens=tokens,
            memory_bytes=activations + pixels + step_pixels,
        )

    def checked(self, size: Size, num_frames: int, fps: float, budget_bytes: int) -> Plan:
        """The plan, if it fits the memory. Raises InputError with the largest size that does."""
        plan = self.plan(size, num_frames, fps)
        if plan.memory_bytes <= budget_bytes:
            return plan
        gib = f"{budget_bytes / 2**30:.1f} GiB of memory"
        if self.plan(_scaled(size, 0), num_frames, fps).memory_bytes > budget_bytes:
            raise InputError("frames", num_frames, f"fewer: not one pixel more fits {gib}")
        low, high = 0.0, 1.0  # share of the asked side lengths
        for _ in range(40):
            middle = (low + high) / 2
            smaller = _scaled(size, middle)
            fits = self.plan(smaller, num_frames, fps).memory_bytes <= budget_bytes
            low, high = (middle, high) if fits else (low, middle)
        largest = _scaled(size, low)
        raise InputError("size", str(size), f"at most {largest} for {num_frames} frames in {gib}")


def _scaled(size: Size, share: float) -> Size:
    return Size(
        width=max(SMALLEST, int(size.width * share)), height=max(SMALLEST, int(size.height * share))
    )


def frames_for(seconds: float | None, frames: int | None, fps: float) -> int:
    """The number of frames asked for, by either flag. Raises InputError for both or nonsense."""
    if not (math.isfinite(fps) and 0 < fps <= 240):
        raise InputError("fps", fps, "above 0, at most 240")
    if seconds is not None and frames is not None:
        raise InputError("seconds, frames", (seconds, frames), "one of the two")
    if frames is not None:
        if frames < 1:
            raise InputError("frames", frames, "at least 1")
        return frames
    if seconds is None or not (math.isfinite(seconds) and 0 < seconds <= 3600):
        raise InputError("seconds", seconds, "above 0, at most 3600")
    return max(1, round(seconds * fps))


def available_memory() -> int:
    """Bytes of memory that can still be used, on this machine and in this container."""
    import psutil

    limits = [int(psutil.virtual_memory().available)]
    control = Path("/sys/fs/cgroup")
    try:
        most = (control / "memory.max").read_text().strip()
        used = (control / "memory.current").read_text().strip()
        limits.append(int(most) - int(used))
    except (OSError, ValueError):
        pass  # no control group, or one without a limit ("max")
    return min(limits)
