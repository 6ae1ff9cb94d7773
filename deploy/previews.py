"""What a denoiser makes of a few prompts while it is being trained: a contact sheet now and then.

The prompts, their shapes and their noise are the same every time, so that two sheets of a run
differ by what was learnt between them. Shapes, lengths and frame rates are those of clips of the
data, which the run has memory for.
"""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from openreel.deploy.contact_sheet import contact_sheet
from openreel.dit.attention import Backend
from openreel.dit.config import DiTConfig
from openreel.dit.model import DiT
from openreel.dit.sample import Request, SampleConfig, sample
from openreel.dit.weights import Denoiser, Method
from openreel.packing.loader import Features, PackLoader
from openreel.pipeline.keyed import generator
from openreel.pipeline.media import Frames
from openreel.vae.codec import Codec, load_codec
from openreel.vae.latent import LatentRow, LatentVideo

COUNT = 4
"""videos of a sheet where the recipe names no prompts"""
NUM_FRAMES = 5
"""shown of a video, evenly from first to last"""
LONG_SIDE = 320
"""most pixels of a shown frame's longest side"""
LABEL = 100
"""most characters of a label"""
BUDGET_BYTES = 4 * 2**30
"""memory for decoding"""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One video of the sheet."""

    prompt: str
    like: LatentRow
    """the clip that it is as large, as long and as fast as"""

    @property
    def size(self) -> tuple[int, int, int]:
        """Latent (T, H, W)."""
        _, t, h, w = self.like.shape
        return t, h, w

    @property
    def label(self) -> str:
        row = self.like
        length = "image" if row.num_frames == 1 else f"{row.num_frames} frames"
        text = f"{row.width}x{row.height}, {length}: {self.prompt}"
        return textwrap.shorten(text, LABEL, placeholder=" …")


def wanted(loader: PackLoader, prompts: Sequence[str]) -> tuple[Wanted, ...]:
    """The recipe's prompts, or captions of the data: each as large as some clip of the data.

    Clips are drawn by the loader's seed, for given prompts videos before images. One that would
    make the pack, twice as large for guidance, larger than those trained on is passed over, unless
    it is the first; prompts for which no clip is left are not shown.
    """
    order = generator(loader.seed, "previews").permutation(len(loader.rows)).tolist()
    if prompts:  # they may tell of motion
        order.sort(key=lambda i: loader.rows[i].num_frames == 1)
    room = loader.packer.config.max_tokens // 2
    found: list[Wanted] = []
    for i in order:
        if len(found) == (len(prompts) or COUNT):
            break
        if found and loader.num_tokens[i] > room:
            continue
        row = loader.rows[i]
        prompt = prompts[len(found)] if prompts else _caption(loader, row)
        found.append(Wanted(prompt=prompt, like=row))
        room -= loader.num_tokens[i]
    return tuple(found)


def _caption(loader: PackLoader, row: LatentRow) -> str:
    """The caption of a clip that is drawn most."""
    shares = loader.mix.usable(loader.captions[row.clip_id])
    return max(shares, key=lambda caption: shares[caption]).text


@dataclass(frozen=True, kw_only=True)
class DenoiserPreview:
    """Called by the trainer with the averaged weights of a DenoiserTask's model."""

    wanted: tuple[Wanted, ...]
    config: DiTConfig
    method: Method
    sampling: SampleConfig
    seed: int
    embed: Callable[[str], Features]
    autoencoder: str | Path
    device: torch.device
    precision: Literal["fp32", "bf16"]
    backend: Backend | None

    def __call__(
        self, weights: dict[str, Tensor], path: Path, stopping: Callable[[], bool]
    ) -> None:
        """Generate, decode and write the sheet; leave off without one when stopping() is true."""

        def on_step(step: int) -> None:
            if stopping():
                raise _CutShortError

        try:
            latents = sample(self._denoiser(weights), self._requests, self.sampling, on_step)
            strips = []
            for want, array in zip(self.wanted, latents, strict=True):
                strips.append((want.label, _strip(self._decoded(want.like, array))))
                on_step(0)
        except _CutShortError:
            return
        contact_sheet(path, strips)

    def _denoiser(self, weights: dict[str, Tensor]) -> Denoiser:
        """A model around these very weights, where they are in the right precision already."""
        half = self.precision == "bf16" and self.device.type == "cuda"
        dtype = torch.bfloat16 if half else torch.float32
        with torch.device("meta"):
            dit = DiT(self.config)
        own = {k.removeprefix("dit."): v.to(dtype) for k, v in weights.items()}
        dit.load_state_dict(own, assign=True)
        dit.backend = self.backend
        return Denoiser(dit.eval().requires_grad_(False), self.method, {})

    @cached_property
    def _requests(self) -> list[Request]:
        negative = self.embed("")
        return [
            Request(
                name=f"preview {i}",
                seed=self.seed,
                size=want.size,
                fps=want.like.fps,
                text=self.embed(want.prompt),
                negative=negative,
            )
            for i, want in enumerate(self.wanted)
        ]

    @cached_property
    def _codec(self) -> Codec:
        return load_codec(self.autoencoder, str(self.device))

    def _decoded(self, row: LatentRow, latents: npt.NDArray[np.float32]) -> Frames:
        codec = self._codec
        plan = codec.plan(row.num_frames, row.height, row.width, BUDGET_BYTES)
        video = LatentVideo(
            latents=latents,
            num_frames=row.num_frames,
            height=row.height,
            width=row.width,
            fps=row.fps,
            codec=codec.codec,
        )
        return codec.decode_video(video, tile=plan.side)


class _CutShortError(Exception):
    """The run is to stop."""


def _strip(frames: Frames) -> Frames:
    """A few frames, scaled down where they are large."""
    from PIL import Image

    last = len(frames) - 1
    chosen = [frames[i] for i in sorted({round(i) for i in np.linspace(0, last, NUM_FRAMES)})]
    height, width = frames.shape[1:3]
    share = LONG_SIDE / max(height, width)
    if share >= 1:
        return np.stack(chosen)
    size = (max(1, round(width * share)), max(1, round(height * share)))
    shrunk = [Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS) for frame in chosen]
    return np.stack([np.asarray(frame) for frame in shrunk])
