"""What every autoencoder offers, ours or a pretrained one: any T, H, W >= 1 in, the same out.

C T H W   of latents: channels, latent frames, rows, columns; of frames: (T, H, W, 3)
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from openreel.vae.latent import LatentVideo
from openreel.vae.tiling import TilePlan

Frames = npt.NDArray[np.uint8]
Latents = npt.NDArray[np.float32]

DIFFUSERS = "diffusers:"
"""begins the name of a folder that holds one of diffusers' autoencoders"""


@dataclass(frozen=True, kw_only=True)
class Abilities:
    """What an autoencoder promises beyond the contract on shapes."""

    causal: bool
    """no latent depends on a later frame than its own, and no frame on a later latent"""
    streams: bool
    """coded in pieces of any lengths, the bits are the same, and memory doesn't grow with time"""
    tiles: bool
    """coded in tiles, the bits are the same"""
    note: str = ""
    """what else a person should know of it"""


EXACT = Abilities(causal=True, streams=True, tiles=True)
"""of openreel's own"""


class Shape(Protocol):
    """The extents of an autoencoder's latents."""

    @property
    def channels(self) -> int: ...
    @property
    def time_factor(self) -> int: ...
    @property
    def space_factor(self) -> int: ...

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """(C, T, H, W) of the latents of a video."""
        ...


class Codec(Protocol):
    """An autoencoder: vae.model.Autoencoder and vae.pretrained.Pretrained."""

    @property
    def config(self) -> Shape: ...
    @property
    def codec(self) -> str:
        """16-digit identity; latents of another one are refused."""
        ...

    @property
    def abilities(self) -> Abilities:
        """What it promises."""
        ...

    @property
    def halo(self) -> int | None:
        """Cells of margin that make a tile exact; None if no margin does."""
        ...

    def plan(self, num_frames: int, height: int, width: int, budget_bytes: int) -> TilePlan:
        """What coding a video takes, and the largest tile whose memory fits the budget.

        Raises InputError if nothing fits: another way of computing is never taken in silence.
        """
        ...

    def encode_stream(self, chunks: Iterable[Frames]) -> Iterator[Latents]: ...
    def decode_stream(
        self, chunks: Iterable[Latents], *, height: int, width: int, num_frames: int | None = None
    ) -> Iterator[Frames]: ...
    def encode_video(
        self, frames: Frames, fps: float, *, tile: int | None = None
    ) -> LatentVideo: ...
    def decode_video(self, video: LatentVideo, *, tile: int | None = None) -> Frames: ...


def load_codec(spec: str | Path, device: str = "cpu") -> Codec:
    """The autoencoder of a folder, ours or, with or without "diffusers:" before it, one of theirs.

    Raises InputError, in one line, if the folder holds no autoencoder that is known.
    """
    if _is_diffusers(spec):
        from openreel.vae.pretrained import load_pretrained

        return load_pretrained(folder_of(spec), device)
    from openreel.vae.weights import load_autoencoder

    return load_autoencoder(Path(spec), device)


def load_shape(spec: str | Path) -> Shape:
    """The extents of its latents, without its weights. Raises as load_codec does."""
    if _is_diffusers(spec):
        from openreel.vae.pretrained import load_layout

        return load_layout(folder_of(spec))
    from openreel.vae.weights import load_config

    return load_config(Path(spec))


def folder_of(spec: str | Path) -> Path:
    """Where an autoencoder lies: without the prefix, and a pipeline's in its vae/."""
    folder = Path(str(spec).removeprefix(DIFFUSERS))
    return folder / "vae" if (folder / "model_index.json").is_file() else folder


def _is_diffusers(spec: str | Path) -> bool:
    """Whether it is said to be diffusers', or its config says so."""
    if str(spec).startswith(DIFFUSERS):
        return True
    try:
        config = json.loads((folder_of(spec) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return "_class_name" in config
