"""diffusers' pretrained autoencoders behind openreel's contract: any T, H, W in, the same out.

What a class wants whole – cells in space, windows in time – is filled up by repeating the last row,
column and frame, and cut off again. The latents are normalised with the statistics of its config.

    B C T H W   batch of 1, channels, frames, rows, columns of pixels; t h w the same of latents
    N           items of a stream: frames or latent frames
"""

import contextlib
import functools
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from safetensors import SafetensorError
from torch import Tensor

from openreel.pipeline.errors import InputError
from openreel.vae.codec import DIFFUSERS, Frames, Latents
from openreel.vae.diffusers_cost import window_bytes
from openreel.vae.diffusers_kinds import KINDS, Kind, Layout, Model
from openreel.vae.latent import LatentVideo, check_own, checked_frames, checked_latents
from openreel.vae.model import whole_cells
from openreel.vae.tiling import TilePlan, one_tile

CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
INDEX = f"{WEIGHTS}.index.json"


def windows(chunks: Iterable[Tensor], first: int, later: int) -> Iterator[tuple[Tensor, int]]:
    """Cut a stream of items (N, ...) into windows of `first` items, then of `later` each.

    The end is filled up with copies of the last item: later windows to their size, the first one to
    1 + a multiple of `later`, so that a stream of one item stays one, an image. Yields each window
    and how many of its items are such copies.
    """
    held: list[Tensor] = []
    size = first
    for chunk in chunks:
        held.append(chunk)
        if sum(map(len, held)) < size:
            continue
        items = torch.cat(held)
        while len(items) >= size:
            window, items = items.tensor_split([size])
            yield window, 0
            size = later
        held = [items.clone()]
    items = torch.cat(held) if held else torch.empty(0)
    if len(items):
        missing = (1 - len(items)) % later if size == first else later - len(items)
        yield torch.cat([items, items[-1:].expand(missing, *items.shape[1:])]), missing


class Pretrained:
    """One of diffusers' autoencoders as a vae.codec.Codec."""

    halo = None

    def __init__(self, model: Model, kind: Kind, device: str = "cpu") -> None:
        """Raises InputError for a configuration that can't be driven."""
        self.config = kind.layout(model)
        self.statistics = kind.statistics(model)
        self.abilities = kind.abilities
        if len(self.statistics.mean) != self.config.channels:
            got = f"{len(self.statistics.mean)} values"
            raise InputError("latents_mean", got, f"{self.config.channels}, one a channel")
        self._model = model.to(device).eval().requires_grad_(False)
        self._kind, self._device = kind, device
        self._mean = torch.tensor(self.statistics.mean, device=device)
        self._std = torch.tensor(self.statistics.std, device=device)

    @functools.cached_property
    def codec(self) -> str:
        """16-digit identity: digest of the class, its config, the windows and all weights."""
        model = self._model
        described = [type(model).__name__, self._settings, repr((self.config, self.statistics))]
        digest = hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode())
        for name, x in sorted(model.state_dict().items()):
            digest.update(name.encode())
            digest.update(x.float().cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    @property
    def _settings(self) -> dict[str, Any]:
        """The model's config without what only says where it came from."""
        return {k: v for k, v in self._model.config.items() if not k.startswith("_")}

    def encode_stream(self, chunks: Iterable[Frames]) -> Iterator[Latents]:
        """Chunks (T, H, W, 3) of a video -> latents (C, t, h, w) as they are known."""
        layout = self.config
        scale = layout.time_factor
        parts = (
            whole_cells(torch.from_numpy(checked_frames(chunk)), layout.space_factor)
            for chunk in chunks
        )
        past = None
        for window, _ in windows(parts, 1 + (layout.first - 1) * scale, layout.window * scale):
            with torch.no_grad():
                pixels = window.to(self._device, torch.float32) / 127.5 - 1
                x = rearrange(pixels, "t h w c -> 1 c t h w")
                found, past = self._kind.encode(self._model, x, past)
                mean = rearrange(found[:, : layout.channels], "1 c t h w -> t h w c")
                latents = ((mean - self._mean) / self._std).cpu()
            yield rearrange(latents, "t h w c -> c t h w").contiguous().numpy()

    def decode_stream(
        self, chunks: Iterable[Latents], *, height: int, width: int, num_frames: int | None = None
    ) -> Iterator[Frames]:
        """Latents (C, t, h, w), any t >= 1 -> frames (T, height, width, 3) as they are known."""
        layout = self.config
        checked = (checked_latents(chunk, layout.channels) for chunk in chunks)
        parts = (rearrange(torch.from_numpy(chunk), "c t h w -> t h w c") for chunk in checked)
        past, left = None, num_frames
        for window, missing in windows(parts, layout.first, layout.window):
            with torch.no_grad():
                latents = window.to(self._device) * self._std + self._mean
                z = rearrange(latents, "t h w c -> 1 c t h w")
                found, past = self._kind.decode(self._model, z, past)
                x = ((found[0] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu()
            frames = rearrange(x, "c t h w -> t h w c")
            true = frames[: len(frames) - missing * layout.time_factor]
            kept = true[:left, :height, :width].numpy()
            left = None if left is None else left - len(kept)
            if len(kept):
                yield kept

    def encode_video(self, frames: Frames, fps: float, *, tile: int | None = None) -> LatentVideo:
        """Encode (T, H, W, 3) uint8, any T, H, W >= 1.

        Raises:
            InputError: a tile smaller than the frame; these models can't be tiled exactly.
        """
        num_frames, height, width, _ = checked_frames(frames).shape
        shape = self.config.latent_shape(num_frames, height, width)
        self._check_tile(tile, shape)
        latents = np.empty(shape, np.float32)
        at = 0
        for chunk in self.encode_stream([frames]):
            latents[:, at : at + chunk.shape[1]] = chunk
            at += chunk.shape[1]
        return LatentVideo(
            latents=latents,
            num_frames=num_frames,
            height=height,
            width=width,
            fps=fps,
            codec=self.codec,
        )

    def decode_video(self, video: LatentVideo, *, tile: int | None = None) -> Frames:
        """Decode to (T, H, W, 3) uint8, of exactly the source's extent.

        Raises:
            InputError: latents of another autoencoder or shape; a tile smaller than the frame.
        """
        shape = self.config.latent_shape(video.num_frames, video.height, video.width)
        check_own(video, self.codec, shape)
        self._check_tile(tile, shape)
        frames = np.empty((video.num_frames, video.height, video.width, 3), np.uint8)
        at = 0
        for chunk in self.decode_stream(
            [video.latents], height=video.height, width=video.width, num_frames=video.num_frames
        ):
            frames[at : at + len(chunk)] = chunk
            at += len(chunk)
        return frames

    def plan(self, num_frames: int, height: int, width: int, budget_bytes: int) -> TilePlan:
        """What coding a video takes. Raises InputError if a frame doesn't fit: tiles would not be
        exact, and so are not taken."""
        layout = self.config
        cells = layout.latent_shape(num_frames, height, width)
        cache, working = window_bytes(self._model, self._kind, layout, num_frames)
        return one_tile(
            rows=cells[2],
            columns=cells[3],
            step=min(layout.first, cells[1]),
            cell_bytes=(cache, working),
            budget_bytes=budget_bytes,
        )

    def _check_tile(self, tile: int | None, shape: tuple[int, ...]) -> None:
        if tile is not None and tile < max(shape[2:]):
            name = type(self._model).__name__
            raise InputError("tile", tile, f"none: {name} can't be computed in tiles exactly")


def load_pretrained(folder: Path, device: str = "cpu") -> Pretrained:
    """The autoencoder of a folder that diffusers wrote.

    Only safetensors are read; nothing is unpickled. Raises InputError in one line for an unknown
    class, a missing file, and weights that aren't the class's.
    """
    shown = f"{DIFFUSERS}{folder}"
    name, config = _described(folder)
    weights = _weights(folder, shown)
    model = _built(name, config, shown)
    try:
        model.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError("vae", shown, f"the weights of {name} ({reason})") from error
    return Pretrained(model, KINDS[name], device)


def load_layout(folder: Path) -> Layout:
    """The extents of its latents, without its weights. Raises as load_pretrained does."""
    name, config = _described(folder)
    with torch.device("meta"):
        return KINDS[name].layout(_built(name, config, f"{DIFFUSERS}{folder}"))


def _described(folder: Path) -> tuple[str, dict[str, Any]]:
    """The class that a folder's config names, and the config."""
    shown = f"{DIFFUSERS}{folder}"
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        name = str(config["_class_name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise InputError("vae", shown, f"a folder with diffusers' {CONFIG} ({reason})") from error
    if name not in KINDS:
        raise InputError("vae", f"{shown}, which holds {name}", f"one of {', '.join(KINDS)}")
    return name, config


def _built(name: str, config: dict[str, Any], shown: str) -> Model:
    """A model of the class, with weights of no meaning."""
    import diffusers

    try:
        with _quiet():
            return getattr(diffusers, name).from_config(config)
    except (RuntimeError, TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError("vae", shown, f"a configuration of {name} ({reason})") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without diffusers' remarks on what a config leaves out."""
    from diffusers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _weights(folder: Path, shown: str) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        if (folder / INDEX).is_file():
            index = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
            names = sorted(set(index.values()))
        else:
            names = [WEIGHTS]
        parts = [load_file(folder / name) for name in names]
    except (OSError, ValueError, KeyError, AttributeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError("vae", shown, f"a folder with {WEIGHTS} ({reason})") from error
    return {name: x for part in parts for name, x in part.items()}
