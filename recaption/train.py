"""Training the captioner on a dataset's clips and the texts that came with them."""

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from openreel.pipeline.clip import Clip, TimedText
from openreel.pipeline.errors import InputError
from openreel.pipeline.keyed import generator
from openreel.recaption.caption import KINDS
from openreel.recaption.frames import Frames, collate, prepare
from openreel.recaption.loss import CaptionBatch, CaptionerObjective
from openreel.recaption.tuning import Tuned, freeze
from openreel.recaption.variation import mirrored, varied
from openreel.recaption.weights import Captioner, save_captioner

PREFIX = "captioner."
"""of the captioner's weights within the objective's"""


@dataclass(frozen=True, kw_only=True)
class CaptionerTrainConfig:
    """What a step trains on. Optimiser and schedule belong to the trainer."""

    batch_size: int = 32
    """clips a batch; all others in it are a clip's negatives"""
    texts: int = 2
    """of a clip that are learnt at once, at most: a second one costs little beside the frames"""
    kinds: tuple[str, ...] = KINDS
    """of texts to learn; DALL-E 3 goes on with ("short",) or ("dense",) alone"""
    tuned: Tuned = "all"
    """which weights: see tuning.py"""
    contrastive_weight: float = 1.0
    caption_weight: float = 2.0
    """CoCa's weights (arXiv 2205.01917, table 8)"""
    variation: float = 0.15
    """how far a clip is moved and shrunk at random; 0: not at all"""
    mirror: bool = False
    """show half the clips in a mirror, their texts' left and right exchanged: pays off in long
    runs, and not on footage with writing in it"""
    cache_mib: int = 1024
    """memory for prepared frames; clips beyond it are read again each time"""

    def __post_init__(self) -> None:
        if self.batch_size < 2:
            raise InputError("batch_size", self.batch_size, "2 or more: contrast needs a negative")
        if self.texts < 1:
            raise InputError("texts", self.texts, "1 or more")
        if not self.kinds or not set(self.kinds) <= set(KINDS):
            raise InputError("kinds", self.kinds, f"some of {', '.join(KINDS)}")
        if not 0 <= self.variation < 1:
            raise InputError("variation", self.variation, "0 to below 1")
        for name in ("contrastive_weight", "caption_weight", "cache_mib"):
            if getattr(self, name) < 0:
                raise InputError(name, getattr(self, name), "0 or more")


def texts_of(clip: Clip, kinds: Sequence[str]) -> tuple[TimedText, ...]:
    """A clip's texts of some kinds."""
    return tuple(text for text in clip.texts if text.kind in kinds)


@functools.lru_cache(maxsize=2)
def _order(seed: int, epoch: int, num_clips: int) -> npt.NDArray[np.int64]:
    return generator(seed, "captioner order", epoch).permutation(num_clips)


class CaptionerTask:
    """Batches of clips with captions, in an order that depends on the seed alone.

    The clips' permutations of all epochs form one endless sequence; batch b is its b-th slice, and
    rank r of n takes batches r, r + n, r + 2n, ...
    """

    def __init__(
        self,
        captioner: Captioner,
        clips: Sequence[Clip],
        read: Callable[[Clip], Iterable[Frames]],
        config: CaptionerTrainConfig,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """read: a clip's frames, each uint8 (H, W, 3). Clips without a text to learn are left out.

        Freezes the captioner's weights that are not tuned.
        """
        usable = (clip for clip in clips if clip.status == "ok")
        taught = (replace(c, texts=texts_of(c, config.kinds)) for c in usable)
        self.clips = [clip for clip in taught if clip.texts]
        if len(self.clips) < 2:
            raise InputError("clips", f"{len(self.clips)} with a text", "at least 2")
        freeze(captioner.model, config.tuned)
        self.captioner, self.read, self.config = captioner, read, config
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.model = CaptionerObjective(
            captioner.model,
            pad=captioner.tokenizer.pad,
            contrastive_weight=config.contrastive_weight,
            caption_weight=config.caption_weight,
        )
        self._taken = 0
        """batches that all ranks together have taken"""
        self._cache: dict[str, Frames] = {}
        self._room = config.cache_mib * 2**20

    def next_batch(self) -> CaptionBatch:
        first = (self._taken + self.rank) * self.config.batch_size
        self._taken += self.world_size
        samples = [self._sample(first + i) for i in range(self.config.batch_size)]
        frames, sizes = collate([frames for frames, _ in samples])
        texts = [text for _, said in samples for text in said]
        text_NK = self.captioner.tokenizer.encode(
            [text.text for text in texts], [text.kind for text in texts]
        )
        counts = torch.tensor([len(said) for _, said in samples])
        clip_N = torch.arange(len(samples)).repeat_interleave(counts)
        return CaptionBatch(frames_BTHWC=frames, sizes_B3=sizes, text_NK=text_NK, clip_N=clip_N)

    def _sample(self, position: int) -> tuple[Frames, list[TimedText]]:
        """Frames and texts of the clip at a position of the endless sequence."""
        epoch, index = divmod(position, len(self.clips))
        clip = self.clips[_order(self.seed, epoch, len(self.clips))[index]]
        draw = generator(self.seed, "captioner sample", clip.clip_id, epoch)
        chosen = draw.permutation(len(clip.texts))[: self.config.texts]
        texts = [clip.texts[i] for i in chosen]
        num_frames = self.captioner.model.config.num_frames
        frames = varied(self._prepared(clip), num_frames, self.config.variation, draw)
        if self.config.mirror and draw.random() < 0.5:
            return frames[:, :, ::-1], [replace(t, text=mirrored(t.text)) for t in texts]
        return frames, texts

    def _prepared(self, clip: Clip) -> Frames:
        """Twice the frames that the model takes, so that each epoch can see others."""
        if clip.clip_id in self._cache:
            return self._cache[clip.clip_id]
        sight = self.captioner.model.config.sight
        more = replace(sight, num_frames=2 * sight.num_frames)
        frames = prepare(self.read(clip), clip.num_frames, more)
        if frames.nbytes <= self._room:
            self._cache[clip.clip_id] = frames
            self._room -= frames.nbytes
        return frames

    def state(self) -> dict[str, Any]:
        return {"batches_taken": self._taken}

    def restore(self, state: dict[str, Any]) -> None:
        self._taken = int(state["batches_taken"])

    def export(self, folder: Path, weights: dict[str, Tensor]) -> None:
        """Write the captioner's published files; weights is the state_dict of `model`."""
        own = {k.removeprefix(PREFIX): v for k, v in weights.items() if k.startswith(PREFIX)}
        save_captioner(folder, self.captioner.model.config, self.captioner.tokenizer, own)
