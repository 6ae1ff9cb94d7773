"""CoCa's objective (arXiv 2205.01917, eq. 4): contrast clip with caption, and write the caption.

B clips and their captions, K context length, V vocabulary, E width, T frames, S side, C colours
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from openreel.recaption.frames import normalised
from openreel.recaption.videococa import VideoCoCa

MAX_LOGIT_SCALE = math.log(100)
"""CLIP's bound: a sharper contrast makes training unstable"""


@dataclass(frozen=True, kw_only=True)
class CaptionBatch:
    """Clips with one caption each."""

    frames_BTSSC: Tensor
    """uint8, letterboxed; zeros behind a clip's end"""
    lengths_B: Tensor
    text_BK: Tensor

    def __post_init__(self) -> None:
        if not len(self.frames_BTSSC) == len(self.lengths_B) == len(self.text_BK):
            shapes = [tuple(t.shape) for t in (self.frames_BTSSC, self.lengths_B, self.text_BK)]
            raise ValueError(f"frames, lengths, text: got shapes {shapes}; accepted: one length")

    @property
    def weight(self) -> float:
        return float(len(self.text_BK))


def contrastive_loss(clip_BE: Tensor, text_BE: Tensor, text_BK: Tensor, scale: Tensor) -> Tensor:
    """(B,) mean of both directions' cross-entropy; equal captions are no negatives of each other.

    text_BK begins with the kind, which does not make two captions different.
    """
    words_BK = text_BK[:, 1:]
    equal_BB = (words_BK[:, None] == words_BK[None]).all(-1)
    equal_BB.fill_diagonal_(False)
    logits_BB = (scale * clip_BE @ text_BE.T).masked_fill(equal_BB, float("-inf"))
    target_B = torch.arange(len(logits_BB), device=logits_BB.device)
    to_text_B = F.cross_entropy(logits_BB, target_B, reduction="none")
    to_clip_B = F.cross_entropy(logits_BB.T, target_B, reduction="none")
    return (to_text_B + to_clip_B) / 2


def caption_loss(logits_BKV: Tensor, text_BK: Tensor, pad: int) -> Tensor:
    """(B,) mean over a caption's ids, the end included, of the next id's cross-entropy."""
    target_BK = text_BK[:, 1:]
    logits_BVK = logits_BKV[:, :-1].transpose(1, 2)
    nats_BK = F.cross_entropy(logits_BVK, target_BK, ignore_index=pad, reduction="none")
    return nats_BK.sum(1) / (target_BK != pad).sum(1)


class CaptionerObjective(nn.Module):
    """What is optimised: contrastive_weight * contrast + caption_weight * captioning, summed."""

    def __init__(
        self, captioner: VideoCoCa, *, pad: int, contrastive_weight: float, caption_weight: float
    ) -> None:
        super().__init__()
        self.captioner = captioner
        self.pad = pad
        self.contrastive_weight, self.caption_weight = contrastive_weight, caption_weight

    def forward(self, batch: CaptionBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, summed over the batch's clips, and the mean of each of its terms, to show."""
        logit_scale = self.captioner.coca.logit_scale
        device = logit_scale.device
        text_BK = batch.text_BK.to(device)
        video_BTCSS = normalised(batch.frames_BTSSC.to(device))
        clip_BE, seen_BQE = self.captioner.encode_video(video_BTCSS, batch.lengths_B.to(device))
        text_BE, tokens_BKE = self.captioner.encode_text(text_BK)
        logits_BKV = self.captioner.read(seen_BQE, tokens_BKE)
        scale = logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()
        contrast = contrastive_loss(clip_BE, text_BE, text_BK, scale).sum()
        captioning = caption_loss(logits_BKV, text_BK, self.pad).sum()
        total = self.contrastive_weight * contrast + self.caption_weight * captioning
        terms = {"contrastive": contrast, "captioning": captioning}
        return total, {name: term.detach() / len(text_BK) for name, term in terms.items()}
