"""VideoCoCa: an image captioner that reads a clip (arXiv 2212.04979), on open_clip's CoCa.

Each frame goes through CoCa's image encoder alone; the tokens of all frames form one sequence, on
which CoCa's attentional pooler works unchanged. With one frame this *is* CoCa, bit for bit.

    frames (B, T, C, S, S) --ViT, frame by frame--> (B, T*P, D) --pooler--> clip (B, E), contrast
                                                                       and tokens (B, Q-1, E)

That design cannot tell a clip from its frames shuffled. Two additions mend it, both zero for the
first frame: a temporal embedding, and a stem without biases that sees each frame's difference to
the frame before and to the first frame.

open_clip's pooler is one module whose first query is the contrastive one; the paper's two-module
variants do not run there. Its `generate` does not run under transformers 5 (see decoding.py).

    B clips, T frames, P tokens a frame, Q queries, K context length, V vocabulary, D E widths
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from openreel.pipeline.errors import InputError
from openreel.recaption.tokenizer import NUM_BPE


@dataclass(frozen=True, kw_only=True)
class VideoCoCaConfig:
    """Sizes of a VideoCoCa. The defaults are open_clip's published coca_ViT-L-14."""

    vocab_size: int = NUM_BPE + 2
    """open_clip's ids and the starts of two more kinds of caption"""
    context_length: int = 76
    num_frames: int = 8
    """frames sampled from a clip; without `motion` the weights fit any number"""
    image_size: int = 224
    patch_size: int = 14
    vision_width: int = 1024
    vision_layers: int = 24
    vision_heads: int = 16
    num_queries: int = 256
    pooler_heads: int = 8
    width: int = 768
    """of the text layers, of the pooled tokens and of the contrastive space"""
    heads: int = 12
    text_layers: int = 12
    multimodal_layers: int = 12
    motion: bool = False
    """temporal embedding and stem of differences; off in the paper"""
    legacy_cls_mask: bool = True
    """published weights were trained with the class token's mask off by one"""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not True and value is not False and value < 1:
                raise InputError(name, value, "1 or more")
        if self.image_size % self.patch_size:
            raise InputError("patch_size", self.patch_size, f"a divisor of {self.image_size}")
        for heads, width in (("vision_heads", self.vision_width), ("heads", self.width)):
            if width % getattr(self, heads):
                raise InputError(heads, getattr(self, heads), f"a divisor of {width}")
        if self.motion and self.patch_size % 2:
            raise InputError("patch_size", self.patch_size, "an even number with motion")
        if self.width % self.pooler_heads:
            raise InputError("pooler_heads", self.pooler_heads, f"a divisor of {self.width}")


def tiny(vocab_size: int, context_length: int) -> VideoCoCaConfig:
    """About a million parameters: learns a small world from scratch in minutes on a CPU."""
    return VideoCoCaConfig(
        vocab_size=vocab_size,
        context_length=context_length,
        num_frames=6,
        image_size=32,
        patch_size=8,
        vision_width=96,
        vision_layers=2,
        vision_heads=4,
        num_queries=25,
        pooler_heads=4,
        width=96,
        heads=4,
        text_layers=1,
        multimodal_layers=2,
        motion=True,
        legacy_cls_mask=False,
    )


class VideoCoCa(nn.Module):
    """CoCa's modules and weights, applied to clips."""

    def __init__(self, config: VideoCoCaConfig) -> None:
        super().__init__()
        self.config = config
        self.coca = _coca(config)
        self.temporal: nn.Parameter | None = None
        self.stem: nn.Sequential | None = None
        if config.motion:
            width, patch = config.vision_width, config.patch_size
            self.temporal = nn.Parameter(0.5 * torch.randn(config.num_frames, width))
            self.stem = nn.Sequential(
                nn.Conv2d(6, width // 2, kernel_size=5, stride=2, padding=2, bias=False),
                nn.GELU(),
                nn.Conv2d(width // 2, width, patch // 2, stride=patch // 2, bias=False),
            )

    def encode_video(
        self, video_BTCSS: Tensor, lengths_B: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Unit-length clip features (B, E) and tokens to caption from (B, Q-1, E).

        video_BTCSS: normalised float frames. lengths_B: true frames of each clip; what lies behind
        them changes nothing. None: all are T long.
        """
        batch, frames = video_BTCSS.shape[:2]
        if self.config.motion and frames > self.config.num_frames:
            raise InputError("frames", frames, f"at most {self.config.num_frames} a clip")
        visual = self.coca.visual
        tokens = visual._embeds(rearrange(video_BTCSS, "b t c h w -> (b t) c h w"))
        tokens = rearrange(tokens, "(b t) p d -> b t p d", b=batch)
        if self.temporal is not None and self.stem is not None:
            tokens = tokens + self._motion(self.temporal, self.stem, video_BTCSS)
        tokens = visual.transformer(rearrange(tokens, "b t p d -> (b t) p d"))
        tokens_BLD = rearrange(tokens, "(b t) p d -> b (t p) d", b=batch)
        hidden_BL = None
        if lengths_B is not None and bool((lengths_B < frames).any()):
            hidden_BT = torch.arange(frames, device=lengths_B.device) >= lengths_B[:, None]
            hidden_BL = hidden_BT.repeat_interleave(tokens.shape[1], dim=1)
        pooler = visual.attn_pool
        keys_BLD = pooler.ln_k(tokens_BLD)
        queries_BQE = pooler.ln_q(pooler.query).expand(batch, -1, -1)
        pooled_BQE = pooler.attn(
            queries_BQE, keys_BLD, keys_BLD, need_weights=False, key_padding_mask=hidden_BL
        )[0]
        clip_BE, read_BQE = visual._global_pool(visual.ln_post(pooled_BQE))
        return F.normalize(clip_BE @ visual.proj, dim=-1), read_BQE

    def _motion(self, temporal: Tensor, stem: nn.Module, video_BTCSS: Tensor) -> Tensor:
        """(B, T, P, D), zero where t = 0, so that a single image is CoCa's even after training."""
        frames = video_BTCSS.shape[1]
        first = video_BTCSS[:, :1]
        step = torch.diff(video_BTCSS, dim=1, prepend=first)
        change = torch.cat([step, video_BTCSS - first], dim=2)
        change = stem(rearrange(change, "b t c h w -> (b t) c h w"))
        change = rearrange(change, "(b t) d h w -> b t (h w) d", t=frames)
        change = F.pad(change, (0, 0, 1, 0))  # nothing for the image's class token
        time_TD = temporal[:frames] - temporal[:1]
        return change + rearrange(time_TD, "t d -> t 1 d")

    def encode_text(self, text_BK: Tensor) -> tuple[Tensor, Tensor]:
        """Unit-length text features (B, E) and the unimodal layers' tokens (B, K, E)."""
        pooled_BE, tokens_BKE = self.coca.text(text_BK)
        return F.normalize(pooled_BE, dim=-1), tokens_BKE

    def read(self, seen_BQE: Tensor, tokens_BKE: Tensor) -> Tensor:
        """Logits (B, K, V) of the next id after each text token, given the clip's tokens."""
        logits_BKV: Tensor = self.coca.text_decoder(seen_BQE, tokens_BKE)
        return logits_BKV


def _coca(config: VideoCoCaConfig) -> Any:
    """open_clip's CoCa of these sizes, with the parameters that it leaves undefined defined."""
    from open_clip.coca_model import CoCa

    text = {
        "context_length": config.context_length,
        "vocab_size": config.vocab_size,
        "width": config.width,
        "heads": config.heads,
    }
    vision = {
        "image_size": config.image_size,
        "patch_size": config.patch_size,
        "width": config.vision_width,
        "layers": config.vision_layers,
        "head_width": config.vision_width // config.vision_heads,
        "attentional_pool": True,
        "attn_pooler_queries": config.num_queries,
        "attn_pooler_heads": config.pooler_heads,
        "output_tokens": True,
    }
    coca = CoCa(
        embed_dim=config.width,
        multimodal_cfg={**text, "layers": config.multimodal_layers},
        text_cfg={**text, "layers": config.text_layers, "embed_cls": True, "output_tokens": True},
        vision_cfg=vision,
    )
    # open_clip allocates the output projection and never fills it.
    nn.init.normal_(coca.text_decoder.text_projection, std=config.width**-0.5)
    coca.text.correct_cls_mask = not config.legacy_cls_mask
    return coca
