"""CoCa's objective (arXiv 2205.01917, eq. 4): contrast clip with caption, and write the caption.

B clips, N captions of them, K context length, V vocabulary, E width, T frames, H W sides, C colours
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
    """Clips with one or more captions each. A sample is a caption."""

    frames_BTHWC: Tensor
    """uint8; zeros outside a clip"""
    sizes_B3: Tensor
    """each clip's own T, H, W"""
    text_NK: Tensor
    clip_N: Tensor
    """the index of each caption's clip"""

    def __post_init__(self) -> None:
        pairs = ((self.frames_BTHWC, self.sizes_B3), (self.text_NK, self.clip_N))
        if any(len(a) != len(b) for a, b in pairs):
            shapes = [(tuple(a.shape), tuple(b.shape)) for a, b in pairs]
            raise ValueError(f"frames and sizes, texts and clips: got {shapes}; accepted: equal")

    @property
    def weight(self) -> float:
        return float(len(self.text_NK))


def contrastive_loss(
    clip_NE: Tensor, text_NE: Tensor, text_NK: Tensor, clip_N: Tensor, scale: Tensor
) -> Tensor:
    """(N,) mean of both directions' cross-entropy between captions and their clips.

    Captions of one clip, and equal captions, are no negatives of each other. text_NK begins with
    the kind, which does not make two captions different.
    """
    words_NK = text_NK[:, 1:]
    equal_NN = (words_NK[:, None] == words_NK[None]).all(-1) | (clip_N[:, None] == clip_N[None])
    equal_NN.fill_diagonal_(False)
    logits_NN = (scale * clip_NE @ text_NE.T).masked_fill(equal_NN, float("-inf"))
    target_N = torch.arange(len(logits_NN), device=logits_NN.device)
    to_text_N = F.cross_entropy(logits_NN, target_N, reduction="none")
    to_clip_N = F.cross_entropy(logits_NN.T, target_N, reduction="none")
    return (to_text_N + to_clip_N) / 2


def caption_loss(logits_NKV: Tensor, text_NK: Tensor, pad: int) -> Tensor:
    """(N,) mean over a caption's ids, the end included, of the next id's cross-entropy."""
    target_NK = text_NK[:, 1:]
    logits_NVK = logits_NKV[:, :-1].transpose(1, 2)
    nats_NK = F.cross_entropy(logits_NVK, target_NK, ignore_index=pad, reduction="none")
    return nats_NK.sum(1) / (target_NK != pad).sum(1)


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
        """The loss, summed over the captions, and the mean of each of its terms, to show."""
        logit_scale = self.captioner.coca.logit_scale
        device = logit_scale.device
        text_NK, clip_N = batch.text_NK.to(device), batch.clip_N.to(device)
        video_BTCHW = normalised(batch.frames_BTHWC.to(device))
        clip_BE, seen_BQE = self.captioner.encode_video(video_BTCHW, batch.sizes_B3)
        text_NE, tokens_NKE = self.captioner.encode_text(text_NK)
        logits_NKV = self.captioner.read(seen_BQE[clip_N], tokens_NKE)
        scale = logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()
        contrast = contrastive_loss(clip_BE[clip_N], text_NE, text_NK, clip_N, scale).sum()
        captioning = caption_loss(logits_NKV, text_NK, self.pad).sum()
        total = self.contrastive_weight * contrast + self.caption_weight * captioning
        terms = {"contrastive": contrast, "captioning": captioning}
        return total, {name: term.detach() / len(text_NK) for name, term in terms.items()}
