"""The denoiser's shape."""

from dataclasses import dataclass

from openreel.packing.patches import Patch
from openreel.packing.plan import FULL, Window
from openreel.pipeline.errors import InputError


@dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """A packed diffusion transformer; the defaults of the flags are Wan 2.1's block."""

    latent_channels: int
    text_dim: int
    dim: int
    depth: int
    num_heads: int
    mlp_ratio: float = 4.0
    patch: Patch = (1, 2, 2)
    windows: tuple[Window, ...] = (FULL,)
    """attention windows of the layers, repeated along the depth; "causal" sees no later frame"""
    time_dim: int = 256
    """sinusoids of the noise level"""
    pooled_text: bool = False
    """add the mean text feature to the modulation"""
    shape_condition: bool = False
    """tell the modulation the frame rate, duration and area"""
    fractional_places: bool = False
    """tell each token where in its sample it lies, beside the rotary positions (places.py)"""
    rope_theta: float = 10_000.0
    eps: float = 1e-6

    def __post_init__(self) -> None:
        if self.num_heads < 1 or self.dim % self.num_heads or (self.dim // self.num_heads) % 2:
            raise InputError(
                "num_heads", self.num_heads, f"a divisor of dim {self.dim} with an even quotient"
            )
        if self.dim // self.num_heads < 6:
            raise InputError("num_heads", self.num_heads, "heads of at least 6 values")
        if min(self.depth, self.latent_channels, self.text_dim, *self.patch) < 1:
            raise InputError("depth, latent_channels, text_dim, patch", "below 1", "at least 1")
        if not self.windows:
            raise InputError("windows", self.windows, "at least one window")

    @property
    def head_dim(self) -> int:
        return self.dim // self.num_heads

    @property
    def token_dim(self) -> int:
        """Values of a packed token."""
        p, q, r = self.patch
        return self.latent_channels * p * q * r
