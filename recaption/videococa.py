"""VideoCoCa: an image captioner that reads a clip (arXiv 2212.04979), on open_clip's CoCa.

Each frame goes through CoCa's image encoder alone; the tokens of all frames form one sequence, on
which CoCa's attentional pooler works unchanged. With one frame this *is* CoCa, bit for bit.

    frames (B, T, C, H, W) --ViT, frame by frame--> (B, T*P, D) --pooler--> clip (B, E), contrast
                                                                       and tokens (B, Q-1, E)

Frames keep their clip's aspect: the learned positions are interpolated to its grid, frames of one
grid are encoded together, and only the poolers see clips of different grids side by side, masked.

That design cannot tell a clip from its frames shuffled. Two additions mend it, both zero for the
first frame: a temporal embedding and a stem of differences (motion.py).

open_clip's pooler is one module whose first query is the contrastive one; the paper's two-module
variants do not run there. Its `generate` does not run under transformers 5 (see decoding.py).

    B clips, T frames, N frames of some clips, H W pixels, C colours, P tokens a frame, L of a clip
    Q queries, K context length, V vocabulary, D E widths
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.nn import functional as F

from openreel.pipeline.errors import InputError
from openreel.recaption.motion import Moment, Stem
from openreel.recaption.tokenizer import NUM_BPE
from openreel.recaption.writer import Sight


@dataclass(frozen=True, kw_only=True)
class VideoCoCaConfig:
    """Sizes of a VideoCoCa. The defaults are open_clip's published coca_ViT-L-14."""

    vocab_size: int = NUM_BPE + 2
    """open_clip's ids and the starts of two more kinds of caption"""
    context_length: int = 76
    num_frames: int = 8
    """frames sampled from a clip; without `temporal` the weights fit any number"""
    image_size: int = 224
    """side of a square frame; others have as many patches at most, in a grid of their own"""
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
    temporal: bool = False
    """an embedding of each frame's number; off in the paper, as is the stem"""
    stem: bool = False
    """tokens of what changed since the frame before (motion.py)"""
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
        if self.stem and self.patch_size % 2:
            raise InputError("patch_size", self.patch_size, "an even number with a stem")
        if self.width % self.pooler_heads:
            raise InputError("pooler_heads", self.pooler_heads, f"a divisor of {self.width}")

    @property
    def sight(self) -> Sight:
        """How a clip's frames are to be prepared."""
        area = self.image_size**2
        return Sight(num_frames=self.num_frames, max_area=area, multiple=self.patch_size)


def tiny(vocab_size: int = NUM_BPE + 2, context_length: int = 76) -> VideoCoCaConfig:
    """About a million parameters: learns a small world from scratch in minutes on a CPU."""
    return VideoCoCaConfig(
        vocab_size=vocab_size,
        context_length=context_length,
        num_frames=4,
        image_size=48,
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
        temporal=True,
        stem=True,
        legacy_cls_mask=False,
    )


class VideoCoCa(nn.Module):
    """CoCa's modules and weights, applied to clips."""

    def __init__(self, config: VideoCoCaConfig) -> None:
        super().__init__()
        self.config = config
        self.coca = _coca(config)
        width = config.vision_width
        self.moment = Moment(config.num_frames, width) if config.temporal else None
        self.stem = Stem(config.patch_size, width) if config.stem else None

    def encode_video(
        self, video_BTCHW: Tensor, sizes_B3: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Unit-length clip features (B, E) and tokens to caption from (B, Q-1, E).

        video_BTCHW: normalised float frames, sides multiples of the patch. sizes_B3: each clip's
        true T, H, W, as frames.collate tells them; what lies outside changes nothing. None: all are
        whole. Raises InputError for more frames than there are temporal embeddings.
        """
        clips = list(video_BTCHW)
        if sizes_B3 is not None:
            sizes = sizes_B3.tolist()
            clips = [c[:t, :, :h, :w] for c, (t, h, w) in zip(clips, sizes, strict=True)]
        longest = max(map(len, clips))
        if self.config.temporal and longest > self.config.num_frames:
            raise InputError("frames", longest, f"at most {self.config.num_frames} a clip")
        visual = self.coca.visual
        keys_BLD, hidden_BL = _padded(self._encode_frames(clips))
        pooler = visual.attn_pool
        keys_BLD = pooler.ln_k(keys_BLD)
        queries_BQE = pooler.ln_q(pooler.query).expand(len(clips), -1, -1)
        pooled_BQE = pooler.attn(
            queries_BQE, keys_BLD, keys_BLD, need_weights=False, key_padding_mask=hidden_BL
        )[0]
        clip_BE, read_BQE = visual._global_pool(visual.ln_post(pooled_BQE))
        return F.normalize(clip_BE @ visual.proj, dim=-1), read_BQE

    def _encode_frames(self, clips: list[Tensor]) -> list[Tensor]:
        """Each clip's tokens (L, D); frames of one grid go through the layers together."""
        grids: dict[tuple[int, ...], list[int]] = {}
        for b, clip in enumerate(clips):
            grids.setdefault(tuple(clip.shape[2:]), []).append(b)
        tokens: list[Tensor] = [clips[0]] * len(clips)
        for members in grids.values():
            lengths = [len(clips[b]) for b in members]
            frames_NCHW = torch.cat([clips[b] for b in members])
            tokens_NPD = self._embed(frames_NCHW)
            if self.moment is not None:
                number_N = torch.cat([torch.arange(n, device=tokens_NPD.device) for n in lengths])
                tokens_NPD = tokens_NPD + self.moment(number_N)
            if self.stem is not None:  # nothing for the image's class token
                tokens_NPD = tokens_NPD + F.pad(self.stem(frames_NCHW, lengths), (0, 0, 1, 0))
            tokens_NPD = self.coca.visual.transformer(tokens_NPD)
            for b, clip in zip(members, tokens_NPD.split(lengths), strict=True):
                tokens[b] = rearrange(clip, "t p d -> (t p) d")
        return tokens

    def _embed(self, frames_NCHW: Tensor) -> Tensor:
        """CoCa's embedding of patches, (N, 1 + P, D), with positions of the frames' own grid."""
        visual = self.coca.visual
        patches = visual.conv1(frames_NCHW)
        positions_PD = positions(visual.positional_embedding, *patches.shape[2:])
        patches = rearrange(patches, "n d h w -> n (h w) d")
        whole_D = visual.class_embedding.expand(len(patches), 1, -1)
        tokens_NPD: Tensor = visual.ln_pre(torch.cat([whole_D, patches], dim=1) + positions_PD)
        return tokens_NPD

    def encode_text(self, text_BK: Tensor) -> tuple[Tensor, Tensor]:
        """Unit-length text features (B, E) and the unimodal layers' tokens (B, K, E)."""
        pooled_BE, tokens_BKE = self.coca.text(text_BK)
        return F.normalize(pooled_BE, dim=-1), tokens_BKE

    def read(self, seen_BQE: Tensor, tokens_BKE: Tensor) -> Tensor:
        """Logits (B, K, V) of the next id after each text token, given the clip's tokens."""
        logits_BKV: Tensor = self.coca.text_decoder(seen_BQE, tokens_BKE)
        return logits_BKV


def positions(square_PD: Tensor, rows: int, columns: int) -> Tensor:
    """Learned positions of a square grid, the class token's first, as those of another grid.

    Bicubic over the grid as if both covered the same picture; a square one of equal size is
    returned as it is.
    """
    side = math.isqrt(len(square_PD) - 1)
    if (rows, columns) == (side, side):
        return square_PD
    grid = rearrange(square_PD[1:], "(h w) d -> 1 d h w", h=side)
    grid = F.interpolate(grid, (rows, columns), mode="bicubic", align_corners=False)
    return torch.cat([square_PD[:1], rearrange(grid, "1 d h w -> (h w) d")])


def _padded(tokens: list[Tensor]) -> tuple[Tensor, Tensor | None]:
    """Sequences (L, D) as one (B, L, D), and which places are empty; None: none is."""
    lengths = [len(t) for t in tokens]
    if len(set(lengths)) == 1:
        return torch.stack(tokens), None
    tokens_BLD = nn.utils.rnn.pad_sequence(tokens, batch_first=True)
    lengths_B1 = torch.tensor(lengths, device=tokens_BLD.device)[:, None]
    place_L = torch.arange(max(lengths), device=tokens_BLD.device)
    return tokens_BLD, place_L >= lengths_B1


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
    side = config.image_size // config.patch_size
    with torch.no_grad():
        coca.visual.positional_embedding[1:] = waves(side, config.vision_width)
    return coca


def waves(side: int, width: int) -> Tensor:
    """2D sines and cosines (side * side, width), what positions begin as before they are learnt.

    open_clip's begin as faint noise: where a thing is, and so its shape and its way, is then learnt
    long after its colour.
    """
    quarter = math.ceil(width / 4)
    frequency_Q = math.pi / 2 * (side / 2) ** -torch.linspace(0, 1, quarter)
    phase_SQ = torch.arange(side)[:, None] * frequency_Q
    line_SD = torch.cat([phase_SQ.sin(), phase_SQ.cos()], dim=1)
    rows = repeat(line_SD, "h d -> (h w) d", w=side)
    columns = repeat(line_SD, "w d -> (h w) d", h=side)
    return torch.cat([rows, columns], dim=1)[:, :width]
