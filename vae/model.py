"""The autoencoder as others use it: uint8 frames of any size and length in, the same out.

On a CPU in fp32 the results are exact: streamed in any chunks, tiled at any side, or whole, the
bits are the same, and a frame never depends on a later one.

    T H W     frames, rows, columns of pixels
    t h w C   the same of latents, and their channels
"""

import contextlib
import hashlib
import json
import warnings
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn

from openreel.pipeline.errors import InputError
from openreel.vae.blocks import Past
from openreel.vae.codec import EXACT, Frames, Latents
from openreel.vae.coder import Decoder, Encoder
from openreel.vae.config import AutoencoderConfig
from openreel.vae.heads import FSQ, LFQ, Continuous, Integers
from openreel.vae.latent import LatentVideo, check_own, checked_frames, checked_latents
from openreel.vae.quantise import codes, digits, nearest
from openreel.vae.stream import run
from openreel.vae.tiling import TilePlan, plan, tiles


@contextlib.contextmanager
def _exact_arithmetic() -> Iterator[None]:
    """No gradients, and kernels that do not depend on the shape around a position.

    oneDNN picks another kernel, with another order of summation, for another image size. NNPACK,
    which takes over from 16 frames at once, adds up differently at each place of its grid of
    blocks. torch's own convolution does neither.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the switches warn about an unrelated GPU setting
        own = torch.backends.mkldnn.flags(enabled=False), torch.backends.nnpack.flags(enabled=False)
        with torch.no_grad(), own[0], own[1]:
            yield


def whole_cells(frames_THWC: Tensor, side: int) -> Tensor:
    """Fill up to multiples of side by repeating the last row and the last column."""
    height, width = frames_THWC.shape[1:3]
    rows = torch.arange(-(-height // side) * side).clamp(max=height - 1)
    columns = torch.arange(-(-width // side) * side).clamp(max=width - 1)
    return frames_THWC[:, rows][:, :, columns]


def whole_folds(x_THWC: Tensor, time: int) -> Tensor:
    """Fill up to 1 + a multiple of time frames by repeating the last one."""
    missing = -(len(x_THWC) - 1) % time
    return torch.cat([x_THWC, x_THWC[-1:].expand(missing, -1, -1, -1)])


class Autoencoder(nn.Module):
    """A causal spacetime autoencoder; its latents are what its config's head makes of them.

    A discrete head's latents are the codes' values, normalised like any others; indices() gives the
    codes themselves.
    """

    latent_mean: Tensor
    latent_std: Tensor
    abilities = EXACT

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.register_buffer("latent_mean", torch.zeros(config.channels))
        self.register_buffer("latent_std", torch.ones(config.channels))
        self._identity: tuple[tuple[int, ...], str] = ((), "")

    @property
    def codec(self) -> str:
        """16-digit identity: digest of the config (with the micro-step) and of all weights."""
        tensors = self.state_dict()
        versions = tuple(n for x in tensors.values() for n in (x.data_ptr(), x._version))
        if self._identity[0] != versions:
            digest = hashlib.sha256(json.dumps(self.config.stored(), sort_keys=True).encode())
            for name, x in sorted(tensors.items()):
                digest.update(name.encode())
                digest.update(x.detach().float().cpu().numpy().tobytes())
            self._identity = (versions, digest.hexdigest()[:16])
        return self._identity[1]

    @property
    def halo(self) -> int:
        """Cells of margin that make a tile exact."""
        return -(-max(self.encoder.reach, self.decoder.reach) // self.config.space_factor)

    def plan(self, num_frames: int, height: int, width: int, budget_bytes: int) -> TilePlan:
        """The tile side that fits a memory budget; give its .side to encode and decode.

        A video goes through in micro-steps, so that num_frames makes no difference.
        """
        return plan(
            self.config, halo=self.halo, height=height, width=width, budget_bytes=budget_bytes
        )

    def moments(self, x_THWC: Tensor, past: Past) -> tuple[Tensor, Tensor, Past]:
        """A continuous head's mean and log variance (t, h, w, C), of pixels in [-1, 1].

        H and W are multiples of the space factor. T is 1 + a multiple of the time factor at the
        start of a stream (past is None), a multiple of it later.
        """
        features, kept = self.encoder(x_THWC, past)
        mean, log_variance = features.chunk(2, dim=-1)
        return mean, log_variance.clamp(-20, 10), kept

    @property
    def codebook(self) -> FSQ | LFQ:
        """The discrete head. Raises InputError if the head is continuous."""
        head = self.config.head
        if isinstance(head, Continuous):
            raise InputError("head", "continuous", "a discrete one, FSQ or LFQ")
        return head

    def indices(self, video: LatentVideo) -> Integers:
        """The codes' indices (t, h, w) of a video of this discrete autoencoder; exact.

        Raises InputError if the head is continuous, or the latents another codec's.
        """
        book = self.codebook
        self._own(video)
        values = self._denormalised(
            rearrange(torch.from_numpy(video.latents), "c t h w -> t h w c")
        )
        return book.index(nearest(values, book).cpu().numpy())

    def from_indices(self, indices_thw: Integers) -> Latents:
        """Latents (C, t, h, w) of indices: bit for bit those that were encoded."""
        book = self.codebook
        chosen = torch.from_numpy(book.digits(indices_thw)).to(self.latent_mean.device)
        latents = self._normalised(codes(chosen, book)).cpu()
        return rearrange(latents, "t h w c -> c t h w").contiguous().numpy()

    def encode_step(self, frames_THWC: Tensor, past: Past) -> tuple[Tensor, Past]:
        """One micro-step: uint8 frames (whole cells in H and W) -> normalised (t, h, w, C)."""
        with _exact_arithmetic():
            x = frames_THWC.to(self.latent_mean.device, torch.float32) / 127.5 - 1
            features, kept = self.encoder(x, past)
            head = self.config.head
            if isinstance(head, Continuous):
                z = features[..., : head.channels]
            else:
                z = codes(digits(features, head), head)
            return self._normalised(z).cpu(), kept

    def decode_step(self, latents_thwC: Tensor, past: Past) -> tuple[Tensor, Past]:
        """One micro-step: normalised latents (t, h, w, C) -> uint8 frames (T, H, W, 3)."""
        with _exact_arithmetic():
            z = self._denormalised(latents_thwC)
            head = self.config.head
            if not isinstance(head, Continuous):  # the decoder has seen nothing but codes
                z = codes(nearest(z, head), head)
            x, kept = self.decoder(z, past)
            return ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu(), kept

    def encode_stream(self, chunks: Iterable[Frames]) -> Iterator[Latents]:
        """Chunks (T, H, W, 3) of a video, any T >= 1 -> latents (C, t, h, w) as they are known."""
        size = self.config.step * self.config.time_factor
        padded = (self._whole_cells(chunk) for chunk in chunks)
        for latents in run(self.encode_step, size, padded):
            yield rearrange(latents, "t h w c -> c t h w").contiguous().numpy()

    def decode_stream(
        self, chunks: Iterable[Latents], *, height: int, width: int, num_frames: int | None = None
    ) -> Iterator[Frames]:
        """Latents (C, t, h, w), any t >= 1 -> frames (T, height, width, 3) as they are known.

        Without num_frames the last latent's frames all come out, those of the padding too.
        """
        checked = (checked_latents(chunk, self.config.channels) for chunk in chunks)
        parts = (rearrange(torch.from_numpy(chunk), "c t h w -> t h w c") for chunk in checked)
        left = num_frames
        for frames in run(self.decode_step, self.config.step, parts):
            kept = frames[:left, :height, :width].numpy()
            left = None if left is None else left - len(kept)
            if len(kept):
                yield kept

    def encode_video(self, frames: Frames, fps: float, *, tile: int | None = None) -> LatentVideo:
        """Encode (T, H, W, 3) uint8, any T, H, W >= 1.

        Args:
            fps: frames a second; 0 for a single image.
            tile: side of the tiles in cells, see plan(); None is the whole frame at once. The
                latents are the same.
        """
        num_frames, height, width, _ = checked_frames(frames).shape
        shape = self.config.latent_shape(num_frames, height, width)
        latents = np.empty(shape, np.float32)
        scale = self.config.space_factor
        padded = self._whole_cells(frames)
        for rows, columns in tiles(*shape[2:], tile or max(shape[2:]), self.halo):
            part = padded[:, rows.outer(scale), columns.outer(scale)].numpy()
            at = 0
            for chunk in self.encode_stream([part]):
                end = at + chunk.shape[1]
                own = chunk[:, :, rows.crop(), columns.crop()]
                latents[:, at:end, rows.own(), columns.own()] = own
                at = end
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
            InputError: the latents come from another autoencoder, their shape does not fit, or they
                are not finite.
        """
        shape = self._own(video)
        frames = np.empty((video.num_frames, video.height, video.width, 3), np.uint8)
        scale = self.config.space_factor
        for rows, columns in tiles(*shape[2:], tile or max(shape[2:]), self.halo):
            part = video.latents[:, :, rows.outer(), columns.outer()]
            target = frames[:, rows.own(scale), columns.own(scale)]
            at = 0
            outer = (part.shape[2] * scale, part.shape[3] * scale)
            for chunk in self.decode_stream(
                [part], height=outer[0], width=outer[1], num_frames=video.num_frames
            ):
                own = chunk[:, rows.crop(scale), columns.crop(scale)]
                target[at : at + len(own)] = own[:, : target.shape[1], : target.shape[2]]
                at += len(own)
        return frames

    def _own(self, video: LatentVideo) -> tuple[int, int, int, int]:
        """The shape of a video's latents, once they are known to be this autoencoder's."""
        shape = self.config.latent_shape(video.num_frames, video.height, video.width)
        check_own(video, self.codec, shape)
        return shape

    def _normalised(self, z_thwC: Tensor) -> Tensor:
        return (z_thwC - self.latent_mean) / self.latent_std

    def _denormalised(self, latents_thwC: Tensor) -> Tensor:
        return latents_thwC.to(self.latent_mean) * self.latent_std + self.latent_mean

    def _whole_cells(self, frames: Frames) -> Tensor:
        return whole_cells(torch.from_numpy(checked_frames(frames)), self.config.space_factor)
