"""Training the autoencoder on a dataset's clips, each at its own shape.

A batch is a list of samples of different T x H x W; each goes through the model alone, so nothing
is padded to a neighbour's size. Crops are taken only of what is larger than the limits.

    T H W C   frames, rows, columns, channels; t h w the same of latents
"""

import copy
import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from openreel.pipeline.clip import Clip
from openreel.pipeline.errors import InputError
from openreel.pipeline.keyed import generator, uniform
from openreel.vae.adversary import AdversaryConfig
from openreel.vae.codec import Frames
from openreel.vae.config import AutoencoderConfig
from openreel.vae.held_out import Reconstruction, reconstruct
from openreel.vae.losses import LossWeights
from openreel.vae.model import Autoencoder
from openreel.vae.objective import PREFIX, Sample, VaeBatch, VaeObjective
from openreel.vae.perceptual import load_perceptual
from openreel.vae.weights import save_autoencoder

_LEAST_STD = 1e-4
"""a channel that carries nothing is not blown up to unit variance"""


@dataclass(frozen=True, kw_only=True)
class VaeTrainConfig:
    """What a step trains on. Optimiser and schedule belong to the trainer."""

    loss: LossWeights = dataclasses.field(default_factory=LossWeights)
    adversary: AdversaryConfig = dataclasses.field(default_factory=AdversaryConfig)
    perceptual: Path | None = None
    """file with the weights of torchvision's VGG-16; without it there is no perceptual term"""
    batch_pixels: int = 140_000
    """T x H x W summed over a batch; a batch has at least one sample"""
    max_area: int = 256 * 256
    """H x W above which a crop of the same aspect is taken"""
    max_frames: int = 17
    """frames above which a span is taken"""
    image_share: float = 0.1
    """share of the videos of which a single frame is used"""
    cache_mib: int = 1024
    """memory for decoded clips; clips beyond it are read again each time"""
    statistics_clips: int = 64
    """clips over which the latents' mean and standard deviation are measured in the end"""
    held_out: int = 4
    """clips that are not trained on but shown on the way; an eighth of all clips at most"""

    def __post_init__(self) -> None:
        for field in ("batch_pixels", "max_area", "max_frames", "statistics_clips"):
            if getattr(self, field) < 1:
                raise InputError(field, getattr(self, field), "1 or more")
        if not 0 <= self.image_share <= 1:
            raise InputError("image_share", self.image_share, "0 to 1")
        for field in ("cache_mib", "held_out"):
            if getattr(self, field) < 0:
                raise InputError(field, getattr(self, field), "0 or more")


class VaeTask:
    """Batches in an order that depends on the seed alone.

    An epoch is a permutation of the clips, cut into batches by their cost in pixels; rank r of n
    takes batches r, r + n, r + 2n, ... of the endless sequence of epochs.
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        clips: Sequence[Clip],
        read: Callable[[Clip], Frames],
        config: VaeTrainConfig,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """read: a clip's frames, uint8 (T, H, W, 3). Clips that are not ok are left out."""
        self.clips = [clip for clip in clips if clip.status == "ok"]
        if not self.clips:
            raise InputError("clips", "none with status ok", "at least one")
        order = generator(seed, "vae held out").permutation(len(self.clips))
        apart = sorted(order[: min(config.held_out, len(self.clips) // 8)], reverse=True)
        self.held_out = [self.clips.pop(i) for i in apart]
        self.read, self.config = read, config
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.model = VaeObjective(
            autoencoder,
            config.loss,
            adversary=config.adversary,
            perceptual=load_perceptual(config.perceptual) if config.perceptual else None,
            seed=seed,
        )
        self._epoch = self._batch = self._taken = 0
        self._batches = functools.lru_cache(maxsize=4)(self._cut_epoch)
        self._cache: dict[str, Frames] = {}
        self._room = config.cache_mib * 2**20

    @property
    def left_out(self) -> tuple[str, ...]:
        """The loss's parts that this training goes without, and why, for people to read."""
        reasons = {
            "perceptual: no file of weights": self.config.perceptual is None,
            "adversary: its weight is 0": self.config.adversary.weight == 0,
        }
        return tuple(reason for reason, missing in reasons.items() if missing)

    def next_batch(self) -> VaeBatch:
        epoch, batch = self._ahead(self.rank)
        members = self._batches(epoch)[batch]
        first = self._taken
        self._epoch, self._batch = self._ahead(self.world_size)
        self._taken += self.world_size
        samples = tuple(self._sample(self.clips[i], epoch) for i in members)
        return VaeBatch(samples=samples, index=first + self.rank, first=first)

    def state(self) -> dict[str, Any]:
        """Where the ranks' next round begins; the same on every rank."""
        return {"epoch": self._epoch, "batch": self._batch, "taken": self._taken}

    def restore(self, state: dict[str, Any]) -> None:
        self._epoch, self._batch = int(state["epoch"]), int(state["batch"])
        self._taken = int(state["taken"])

    def export(self, folder: Path, weights: dict[str, Tensor]) -> None:
        """Measure the latents' statistics with these weights, and write the published files."""
        model = self._with(weights)
        order = generator(self.seed, "vae statistics").permutation(len(self.clips))
        chosen = [self.clips[i] for i in order[: self.config.statistics_clips]]
        measure_statistics(model, [self._crop(clip, "statistics", images=False) for clip in chosen])
        save_autoencoder(folder, model.config, model.state_dict())

    def reconstructions(self, weights: dict[str, Tensor]) -> list[Reconstruction]:
        """What these weights make of the clips that were held out, cut as if for training."""
        model = self._with(weights)
        return [
            reconstruct(model, clip, self._crop(clip, "held out", images=False))
            for clip in self.held_out
        ]

    def _with(self, weights: dict[str, Tensor]) -> Autoencoder:
        """The autoencoder with these weights of the objective's, in full precision."""
        model = copy.deepcopy(self.model.autoencoder).float()
        own = {k.removeprefix(PREFIX): v for k, v in weights.items() if k.startswith(PREFIX)}
        model.load_state_dict(own)
        return model

    def _ahead(self, by: int) -> tuple[int, int]:
        epoch, batch = self._epoch, self._batch + by
        while batch >= len(self._batches(epoch)):
            batch -= len(self._batches(epoch))
            epoch += 1
        return epoch, batch

    def _cut_epoch(self, epoch: int) -> list[list[int]]:
        """The clips' indices of each batch of an epoch."""
        batches: list[list[int]] = []
        room = 0
        for index in generator(self.seed, "vae order", epoch).permutation(len(self.clips)):
            clip = self.clips[index]
            frames = (
                1 if self._as_image(clip, epoch) else min(clip.num_frames, self.config.max_frames)
            )
            cost = frames * min(clip.height * clip.width, self.config.max_area)
            if not batches or cost > room:
                batches.append([])
                room = self.config.batch_pixels
            batches[-1].append(int(index))
            room -= cost
        return batches

    def _as_image(self, clip: Clip, epoch: object) -> bool:
        return uniform(self.seed, "vae image", clip.clip_id, epoch) < self.config.image_share

    def _sample(self, clip: Clip, epoch: int) -> Sample:
        frames = self._crop(clip, epoch, images=True)
        shape = self.model.autoencoder.config.latent_shape(*frames.shape[:3])
        drawn = generator(self.seed, "vae noise", clip.clip_id, epoch)
        noise = drawn.standard_normal((*shape[1:], shape[0]), dtype="float32")
        return Sample(frames_THWC=torch.from_numpy(frames), noise_thwC=torch.from_numpy(noise))

    def _crop(self, clip: Clip, epoch: object, *, images: bool) -> Frames:
        frames = self._frames(clip)
        num_frames, height, width, _ = frames.shape
        shrink = min(1.0, (self.config.max_area / (height * width)) ** 0.5)
        limit = 1 if images and self._as_image(clip, epoch) else self.config.max_frames
        sizes = (min(num_frames, limit), max(1, int(height * shrink)), max(1, int(width * shrink)))
        drawn = generator(self.seed, "vae crop", clip.clip_id, epoch)
        t, y, x = (
            drawn.integers(whole - part + 1)
            for whole, part in zip((num_frames, height, width), sizes, strict=True)
        )
        return frames[t : t + sizes[0], y : y + sizes[1], x : x + sizes[2]]

    def _frames(self, clip: Clip) -> Frames:
        if clip.clip_id in self._cache:
            return self._cache[clip.clip_id]
        frames = self.read(clip)
        if frames.nbytes <= self._room:
            self._cache[clip.clip_id] = frames
            self._room -= frames.nbytes
        return frames


def measure_statistics(model: Autoencoder, videos: Sequence[Frames]) -> None:
    """Set the model's latent mean and standard deviation, channel by channel, from these videos."""
    model.latent_mean.zero_()
    model.latent_std.fill_(1)
    latents_CN = torch.cat(
        [
            torch.from_numpy(chunk).double().flatten(1)
            for video in videos
            for chunk in model.encode_stream([video])
        ],
        dim=1,
    )
    model.latent_mean.copy_(latents_CN.mean(1))
    model.latent_std.copy_(latents_CN.std(1, correction=0).clamp(min=_LEAST_STD))


def new_autoencoder(config: AutoencoderConfig, *, seed: int) -> Autoencoder:
    """An untrained autoencoder whose weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Autoencoder(config)
